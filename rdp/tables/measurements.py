"""Apply a probe to the networks of a study, at initialisation and trained."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import lru_cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import probes
from rdp.data import prepared
from rdp.data.dataset import Prepared
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.store.record import stated_choice
from rdp.study import Cell, Plan
from rdp.study.schema import Study
from rdp.tables.collect import usable_record
from rdp.utils import sealed

_dataset = lru_cache(maxsize=2)(prepared.load)  # a study's cells are ordered by dataset
_STAGES = ("initial", "trained")
EXAMPLES = 256  # number of test examples, unless the probe states its own


def write(plan: Plan, name: str, results: Path, cores: int = 1) -> Path:
    """Measure the networks of a study and write ``probes/NAME.parquet``.

    The table has the probe's rows, with the run and the stage of the network: ``initial`` or ``trained``. A diverged
    run has only an initial network. The stages of cells are measured in parallel on ``cores``, which changes no number.
    """
    measure = partial(_measure_stage, study=plan.study, name=name, results=results)
    tasks = list(product(_cells(plan, name), _STAGES))
    with ExitStack() as stack:
        parallel_map: Callable[..., Iterator[list[dict[str, Any]]]] = map
        if (processes := cores // plan.study.threads) > 1:
            pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))  # torch's threads break fork
            parallel_map = stack.enter_context(pool).map
        rows = [row for rows_of_task in parallel_map(measure, tasks) for row in rows_of_task]
    return save(plan.name, name, results, pd.DataFrame(rows, columns=columns(name)))


def columns(name: str) -> list[str]:
    """The columns of a probe's table."""
    return ["run", "dataset", "architecture", "method", "seed", "stage", *probes.probe_module(name).COLUMNS]


def expected_runs(plan: Plan, name: str, results: Path) -> set[str]:
    """The runs that a probe's table has rows of."""
    store, seeds = Store(results), probes.seed_limit(probes.probe_module(name), plan.study.probe_seeds)
    return {spec.run for cell in _cells(plan, name) for spec, _ in _runs(cell, store, seeds)}


def _cells(plan: Plan, name: str) -> list[Cell]:
    """The cells that a probe measures: all, if it is none of the study's."""
    return [cell for cell in plan.cells if name in cell.probes or name not in plan.study.probes]


def save(study: str, name: str, results: Path, table: pd.DataFrame) -> Path:
    """Write a probe's table."""
    path = _path(study, name, results)
    sealed.write_table(path, table, study)
    return path


def read(study: str, name: str, results: Path) -> pd.DataFrame:
    """The table that `write` wrote.

    Raises:
        UserError: it is absent or damaged.
    """
    return sealed.read_table(_path(study, name, results), study, f"run: rdp probe {study} {name}")[0]


def _path(study: str, name: str, results: Path) -> Path:
    return results / study / "probes" / f"{name}.parquet"


def measure_cell(
    cell: Cell, *, study: Study, name: str, results: Path, runs: frozenset[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of the networks of a cell's first seeds; with ``runs``, of these only."""
    return [
        row
        for stage in _STAGES
        for row in _measure_stage((cell, stage), study=study, name=name, results=results, runs=runs)
    ]


def _measure_stage(
    task: tuple[Cell, str], *, study: Study, name: str, results: Path, runs: frozenset[str] | None = None
) -> list[dict[str, Any]]:
    import torch

    from rdp.training.trainer import make_deterministic

    cell, stage = task
    make_deterministic(study.threads)
    probe = probes.probe_module(name)
    examples, store = slice(getattr(probe, "EXAMPLES", EXAMPLES)), Store(results)
    data = _dataset(cell.dataset, results)
    y = torch.from_numpy(data.labels("test")[examples])
    pairs = list(_runs(cell, store, probes.seed_limit(probe, study.probe_seeds)))
    done = [(spec, record) for spec, record in pairs if stage == "initial" or record.status == "completed"]
    networks = [_network(spec, record, data, store, stage, examples) for spec, record in done]
    rows = []
    for i, (spec, _) in enumerate(done):
        if runs is not None and spec.run not in runs:
            continue
        network, x = networks[i]
        other = networks[(i + 1) % len(done)][0] if len(done) > 1 else None
        measured = probe.measure(probes.Subject(network, x, y, other, stage == "trained"))
        rows += [_key(cell, spec) | {"stage": stage} | row for row in measured]
    return rows


def _runs(cell: Cell, store: Store, seeds: int | None) -> Iterator[tuple[RunSpec, RunRecord]]:
    """The completed and diverged runs of a cell's first seeds."""
    for spec in cell.specs[:seeds]:
        record, _ = usable_record(store, spec)
        if record is not None and record.status != "failed":
            yield spec, record


def _network(
    spec: RunSpec, record: RunRecord, data: Prepared, store: Store, stage: str, examples: slice
) -> tuple[Any, Any]:
    """A run's network at a stage, in evaluation mode, and its inputs from the test split."""
    import torch

    from rdp.training.trainer import Trainer

    trainer = Trainer(spec, data, torch.device("cpu"), stated_choice(spec, record))
    if stage == "trained":
        weights = store.arrays(spec.run, record, "weights")
        trainer.network.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
    return trainer.network.eval(), trainer.evaluator.examples("test", examples)


def _key(cell: Cell, spec: RunSpec) -> dict[str, Any]:
    key = {"run": spec.run, "dataset": cell.dataset, "architecture": cell.architecture}
    return key | {"method": cell.label, "seed": spec.seed}
