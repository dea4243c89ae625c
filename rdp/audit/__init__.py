"""Verify that every number of a study's report follows from a record, and every record from code and data.

Checks follow the data: datasets, records, code, measurements, tables, claims, figures, report, and on request a
retrained sample of runs. Products are rebuilt in a temporary directory and compared with the stored ones. The audit
writes nothing among the results except its own files.
"""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rdp.audit import code, inputs, products, retraining, runs
from rdp.audit.findings import Audit, Check
from rdp.errors import UserError
from rdp.store import Store, origin, timestamp
from rdp.study import Plan
from rdp.utils import machine, paths

log = logging.getLogger(__name__)


def audit(
    plan: Plan, results: Path, *, now: float, retrain: int = 0, sample: str | None = None, cores: int = 1
) -> Audit:
    """Run all checks of a study's results.

    Args:
        plan: the study, from this checkout.
        results: its results directory.
        now: seconds since the epoch.
        retrain: how many runs to retrain, drawn from those that completed or diverged, sweeps included.
        sample: the text that seeds the draw; random by default, and part of the audit.
        cores: how many cores to retrain on.

    Raises:
        UserError: the study has neither products nor runs.
    """
    _require_results(plan, results)
    sample = sample or secrets.token_hex(4)
    if retrain:
        log.info("runs to retrain are drawn with --sample %s", sample)
    completed = []
    for check in checks(plan, results, retrain=retrain, sample=sample, cores=cores):
        completed.append(check)
        log.info("%s: %s", check.name, check.outcome)
    about: dict[str, Any] = {
        "study": plan.name,
        "title": plan.study.title,
        "audited": timestamp(now),
        "recorded": origin.is_recorded(results),
        "retrain": retrain,
        "sample": sample if retrain else None,
        "checkout": machine.commit(),
        "versions": machine.versions(),
        "system": machine.system(),
    }
    return Audit(about, completed)


def _require_results(plan: Plan, results: Path) -> None:
    store, specs = Store(results), (*plan.sweep.values(), *plan.specs)
    if (results / plan.name).exists() or any(store.folder(spec.run).exists() for spec in specs):
        return
    command = f"snakemake --cores all --config study={plan.name}"
    if plan.name in paths.archives() and not origin.is_recorded(results):
        command += (
            f", or for its recorded results: snakemake --cores all audit --config study={plan.name} records=recorded"
        )
    raise UserError(f"{results / plan.name}: nothing to audit, no run of the study is trained; first: {command}")


def checks(plan: Plan, results: Path, *, retrain: int = 0, sample: str = "", cores: int = 1) -> Iterator[Check]:
    """Yield the checks of `audit` one by one."""
    with TemporaryDirectory(prefix="rdp-audit-") as scratch:
        data, labels = inputs.check_data(plan, results)
        yield data
        stored = runs.read(plan, results)
        yield runs.check_records(plan, results, stored, labels)
        yield runs.check_sweeps(plan, results, stored, Path(scratch) / "choices")
        yield code.check_code(stored, Store(results))
        yield code.check_lock(stored)
        yield code.check_study(plan, results)
        yield inputs.check_measurements(plan, results)
        yield from products.check(plan, results, Path(scratch) / "products")
        if retrain:
            drawn = retraining.draw(stored, retrain, sample)
            yield from retraining.check(plan, results, Path(scratch) / "retrained", drawn, stored, cores)
