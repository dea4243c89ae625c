"""Audit: whether each number of a study's report follows from a record, and each record from code and data.

Checks go the way that the data go: data, records, checkout, measurements, tables, claims, figures, report, and, where
it is asked for, training again. All of a study's products are made once more from its records in a directory apart,
and compared with those that are there. Nothing is written among the results but the audit itself.
"""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rdp.audit import checkout, inputs, products, repeating, runs
from rdp.audit.findings import Audit, Check
from rdp.errors import UserError
from rdp.store import Store, origin, timestamp
from rdp.study import Plan
from rdp.utils import machine, paths


def audit(
    plan: Plan,
    results: Path,
    *,
    now: float,
    retrain: int = 0,
    sample: str | None = None,
    cores: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Check a study's results; with ``retrain``, train so many of its runs again and compare.

    Args:
        plan: the study, as this checkout has it.
        results: its results directory.
        now: the time, in seconds since the epoch.
        retrain: how many runs, drawn from those that completed or diverged, sweeps' runs included.
        sample: a text that the draw follows from; by default one that nobody knew before, which the audit tells.
        cores: to train side by side on.
        say: told what came of each check.

    Raises:
        UserError: there is nothing to audit, neither a product nor a run.
    """
    _refuse_nothing(plan, results)
    sample = sample or secrets.token_hex(4)
    if retrain:
        say(f"runs to train again are drawn by: {sample}")
    found = []
    for check in checks(plan, results, retrain=retrain, sample=sample, cores=cores):
        found.append(check)
        say(f"{check.name}: {check.outcome}")
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
    return Audit(about, found)


def _refuse_nothing(plan: Plan, results: Path) -> None:
    store, specs = Store(results), (*plan.sweep.values(), *plan.specs)
    if (results / plan.name).exists() or any(store.folder(spec.run).exists() for spec in specs):
        return
    first = f"snakemake --cores all --config study={plan.name}"
    if plan.name in paths.archives() and not origin.is_recorded(results):
        first += (
            f", or for its recorded results: snakemake --cores all audit --config study={plan.name} records=recorded"
        )
    raise UserError(f"{results / plan.name}: nothing to audit, no run of the study is trained yet; first: {first}")


def checks(plan: Plan, results: Path, *, retrain: int = 0, sample: str = "", cores: int = 1) -> Iterator[Check]:
    """The checks of `audit`, one after another."""
    with TemporaryDirectory(prefix="rdp-audit-") as scratch:
        data, labels = inputs.check_data(plan, results)
        yield data
        read = runs.read(plan, results)
        yield runs.check_records(plan, results, read, labels)
        yield runs.check_sweeps(plan, results, read, Path(scratch) / "choices")
        yield checkout.check_code(read, Store(results))
        yield checkout.check_lock(read)
        yield checkout.check_study(plan, results)
        yield inputs.check_measurements(plan, results)
        yield from products.check(plan, results, Path(scratch) / "products")
        if retrain:
            chosen = repeating.draw(read, retrain, sample)
            yield from repeating.check(plan, results, Path(scratch) / "again", chosen, read, cores)
