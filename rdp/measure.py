"""Apply a probe to the networks of a study, at initialisation and trained, one row a run, stage and layer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from rdp import files, probes
from rdp.data import prepared
from rdp.errors import UserError
from rdp.records import readable
from rdp.store import Store
from rdp.study import Cell, Plan, RunSpec

EXAMPLES = 128  # of the test split, the first so many, for every probe and run


def write(plan: Plan, name: str, results: Path) -> Path:
    """Measure every completed run of a study, at initialisation and trained: ``probes/NAME.parquet``.

    One row a run, stage (``initial`` or ``trained``) and layer.
    """
    path = results / plan.name / "probes" / f"{name}.parquet"
    with files.whole(path) as part:
        pd.DataFrame(_rows(plan, name, results)).to_parquet(part, index=False)
    return path


def read(study: str, name: str, results: Path) -> pd.DataFrame:
    """The table that `write` left."""
    path = results / study / "probes" / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run: rdp probe {study} {name}")
    return pd.read_parquet(path)


def _rows(plan: Plan, name: str, results: Path) -> Iterator[dict[str, Any]]:
    import torch

    from rdp.train import Run, make_deterministic

    measure = probes.probe(name)
    make_deterministic(plan.study.threads)
    store = Store(results)
    loaded: dict[str, prepared.Prepared] = {}
    for cell in plan.cells:
        for spec in cell.specs:
            record, _ = readable(store, spec)
            if record is None or record.status != "completed":
                continue
            if cell.dataset not in loaded:
                loaded[cell.dataset] = prepared.load(cell.dataset, results)
            run = Run(spec, loaded[cell.dataset], torch.device("cpu"))
            x = run.examples("test", slice(EXAMPLES))
            weights = store.arrays(spec.run, record, "weights")
            for stage in ("initial", "trained"):
                if stage == "trained":
                    run.network.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
                for layer, row in enumerate(measure(run.network, x), start=1):
                    yield _key(cell, spec) | {"stage": stage, "layer": layer} | row


def _key(cell: Cell, spec: RunSpec) -> dict[str, Any]:
    return {
        "run": spec.run,
        "dataset": cell.dataset,
        "architecture": cell.architecture,
        "method": cell.label,
        "seed": spec.seed,
    }
