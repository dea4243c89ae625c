"""``rdp store export``: runs in one file, to be carried to another site."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rdp import study
from rdp.archive import tarball
from rdp.claims import preregistration
from rdp.errors import UserError, choices
from rdp.store import RunRecord, Store, adoptions
from rdp.utils import paths

CLAIMS = "claims.json"


def export(names: Iterable[str], results: Path, to: Path) -> tuple[dict[str, Any], list[str]]:
    """Write an archive of runs: records with predictions, weights and receipts, what sweeps chose, the adoptions that
    the records rest on, and when claims were first seen.

    Args:
        names: studies by name or path (their runs that are done, those of sweeps too), cells and runs by their names
            in the store.
        results: the results directory.
        to: the archive. The same runs give the same bytes.

    Returns:
        What its manifest says, and a line about each run that was left out: not done, or failed.

    Raises:
        UserError: a name that means nothing, a run that is damaged, an archive that cannot be written, or no run.
    """
    store = Store(results)
    records: dict[str, RunRecord] = {}
    left_out = []
    for run in dict.fromkeys(run for name in names for run in _runs(name, store)):
        record = store.received(run)
        if record is None or record.status == "failed":
            left_out.append(f"{run}: {'not done' if record is None else 'failed'}")
            continue
        store.check_files(run, record)
        records[run] = record
    if not records:
        raise UserError(f"{store.root}: no run to export: {left_out[0] if left_out else 'none was asked for'}")
    contents: dict[str, Path | bytes] = {}
    for run, record in records.items():
        contents[f"store/{run}.json"] = store.receipt(run)
        for name in ("record.json", *record.files):
            contents[f"store/{run}/{name}"] = store.folder(run) / name
        choice = store.folder(run).parent / "tuned.json"
        if choice.is_file():
            contents[f"store/{choice.parent.name}/{choice.name}"] = choice
    for adoption in store.adoptions.behind_any(records.values()):
        name = adoptions.name(adoption)
        contents[f"store/{adoptions.FOLDER}/{name}"] = store.root / adoptions.FOLDER / name
    if seen := preregistration.first_seen_times(results):
        contents[CLAIMS] = (json.dumps(seen, indent=1) + "\n").encode()
    told = {"runs": {run: record.digest for run, record in sorted(records.items())}}
    tarball.write(to, told, contents)
    return told, left_out


def _runs(name: str, store: Store) -> list[str]:
    """The runs that a name on the command line means."""
    cell, _, seed = name.partition("/")
    if name.endswith((".yaml", ".yml")) or name in paths.studies():
        plan = study.load(name)
        return [*plan.sweep, *(spec.run for spec in plan.specs)]
    folder = store.root / paths.named(cell)
    if "." not in name and cell and folder.is_dir():
        if not seed:
            return [f"{cell}/{path.stem}" for path in sorted(folder.glob("seed-*.json"))]
        if store.receipt(name).exists():
            return [name]
    known = [path.name for path in store.root.glob("*-*-*-*") if path.is_dir()]
    raise UserError(
        f"{name}: no study, and no cell or run of {store.root}; {choices(name, [*paths.studies(), *known])}"
    )
