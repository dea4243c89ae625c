"""Apply a probe to the networks of a study, at initialisation and trained."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import probes
from rdp.data import prepared
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.study import Cell, Plan
from rdp.tables.collect import readable
from rdp.utils import sealed

EXAMPLES = 256  # of the test split, the first so many, for a probe that does not say how many


def write(plan: Plan, name: str, results: Path, cores: int = 1) -> Path:
    """Measure the networks of a study, at initialisation and trained: ``probes/NAME.parquet``.

    A run that diverged has a network at initialisation alone. Each of the probe's rows, with its run and stage
    (``initial`` or ``trained``). Cells are measured side by side on so many cores, with ``plan.study.threads`` threads
    each, which changes no number.
    """
    processes = cores // plan.study.threads
    measured = partial(_cell, name=name, results=results, threads=plan.study.threads, seeds=plan.study.probe_seeds)
    with ExitStack() as stack:
        each: Callable[..., Iterator[list[dict[str, Any]]]] = map
        if processes > 1:
            pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))  # torch's threads survive no fork
            each = stack.enter_context(pool).map
        rows = [row for found in each(measured, plan.cells) for row in found]
    return save(plan.name, name, results, pd.DataFrame(rows, columns=columns(name)))


def columns(name: str) -> list[str]:
    """The columns of a probe's table."""
    return ["run", "dataset", "architecture", "method", "seed", "stage", *probes.probe(name).COLUMNS]


def wanted(plan: Plan, name: str, results: Path) -> set[str]:
    """The runs of whose networks a probe's table has rows."""
    store, seeds = Store(results), probes.seeds(probes.probe(name), plan.study.probe_seeds)
    return {spec.run for cell in plan.cells for spec, _ in _runs(cell, store, seeds)}


def again(plan: Plan, cell: Cell, name: str, results: Path, runs: frozenset[str]) -> list[dict[str, Any]]:
    """The rows of some of a cell's networks, as `write` has them."""
    options = {"threads": plan.study.threads, "seeds": plan.study.probe_seeds, "only": runs}
    return _cell(cell, name=name, results=results, **options)


def save(study: str, name: str, results: Path, table: pd.DataFrame) -> Path:
    """Write a probe's table."""
    path = _path(study, name, results)
    sealed.write_table(path, table, study)
    return path


def read(study: str, name: str, results: Path) -> pd.DataFrame:
    """The table that `write` left."""
    return sealed.read_table(_path(study, name, results), study, f"run: rdp probe {study} {name}")[0]


def _path(study: str, name: str, results: Path) -> Path:
    return results / study / "probes" / f"{name}.parquet"


def _cell(
    cell: Cell, *, name: str, results: Path, threads: int, seeds: int | None, only: frozenset[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of one cell's networks; of some of its runs alone, where they are named."""
    import torch

    from rdp.training.trainer import make_deterministic

    make_deterministic(threads)
    probe = probes.probe(name)
    first, store, data = slice(probes.examples(probe, EXAMPLES)), Store(results), _dataset(cell.dataset, results)
    y = torch.from_numpy(data.labels("test")[first])
    runs = list(_runs(cell, store, probes.seeds(probe, seeds)))
    rows = []
    for stage in ("initial", "trained"):
        done = [(spec, record) for spec, record in runs if stage == "initial" or record.status == "completed"]
        networks = [_network(spec, record, data, store, stage, first) for spec, record in done]
        for i, (spec, _) in enumerate(done):
            if only is not None and spec.run not in only:
                continue
            network, x = networks[i]
            other = networks[(i + 1) % len(done)][0] if len(done) > 1 else None
            found = probe.measure(probes.Subject(network, x, y, other, stage == "trained"))
            rows += [_key(cell, spec) | {"stage": stage} | row for row in found]
    return rows


@lru_cache(maxsize=2)
def _dataset(name: str, results: Path) -> prepared.Prepared:
    """A study's cells go by dataset, so the last one read is nearly always the next."""
    return prepared.load(name, results)


def _runs(cell: Cell, store: Store, seeds: int | None) -> Iterator[tuple[RunSpec, RunRecord]]:
    """The cell's runs that completed or diverged, of its first so many seeds."""
    for spec in cell.specs[:seeds]:
        record, _ = readable(store, spec)
        if record is not None and record.status != "failed":
            yield spec, record


def _network(
    spec: RunSpec, record: RunRecord, data: prepared.Prepared, store: Store, stage: str, examples: slice
) -> tuple[Any, Any]:
    """A run's network at a stage, in evaluation mode, and examples of the test split as it reads them."""
    import torch

    from rdp.training.trainer import Trainer

    run = Trainer(spec, data, torch.device("cpu"), record.numbers["learning_rate"])
    if stage == "trained":
        weights = store.arrays(spec.run, record, "weights")
        run.network.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
    return run.network.eval(), run.evaluator.examples("test", examples)


def _key(cell: Cell, spec: RunSpec) -> dict[str, Any]:
    return {
        "run": spec.run,
        "dataset": cell.dataset,
        "architecture": cell.architecture,
        "method": cell.label,
        "seed": spec.seed,
    }
