"""Retrain recorded runs from their first step, and compare the results with their records."""

from collections.abc import Sequence
from pathlib import Path

from rdp.data import prepared
from rdp.jobs import parallel
from rdp.spec import RunSpec
from rdp.store import RunRecord, origin
from rdp.store.record import stated_choice
from rdp.utils.compare import Difference, differences

_SOURCE = "retraining gives"


def retrain_runs(
    pairs: Sequence[tuple[RunSpec, RunRecord]], results: Path, scratch: Path, device: str, cores: int = 1
) -> list[RunRecord]:
    """Retrain runs in an empty results directory, and return their new records in the same order.

    What a sweep chose is taken from the record; the sweep is not repeated. Nothing is written to
    ``results``, which holds the records; ``scratch`` is an empty results directory.

    Raises:
        UserError: a dataset is missing.
    """
    for name in sorted({spec.dataset for spec, _ in pairs}):
        _link_dataset(name, results, scratch)
    stated = {spec.cell: stated_choice(spec, record) for spec, record in pairs}
    choices = {cell: choice for cell, choice in stated.items() if choice is not None}
    groups: dict[tuple[int, int], list[RunSpec]] = {}  # all runs of a job use the same threads and processes
    for spec, _ in pairs:
        groups.setdefault((spec.threads, spec.processes), []).append(spec)
    retrained: dict[str, RunRecord] = {}
    for specs in groups.values():
        records = parallel.run_job(specs, scratch, device, cores=cores, known_choices=choices)
        retrained |= {spec.run: record for spec, record in zip(specs, records, strict=True)}
    return [retrained[spec.run] for spec, _ in pairs]


def _link_dataset(dataset: str, results: Path, scratch: Path) -> None:
    """Link a prepared dataset into the scratch directory; recorded results hold only labels, so it is prepared anew."""
    source = prepared.folder(dataset, results)
    if origin.is_recorded(results) or not (source / "manifest.json").exists():
        return
    target = prepared.folder(dataset, scratch)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def record_differences(recorded: RunRecord, retrained: RunRecord) -> list[str]:
    """Describe where two records of one run are not bitwise equal, one line each.

    Compares status, numbers (history and weight checksums included) and the checksums of the other files, but neither
    identity nor telemetry.
    """
    sides = [
        {"status": record.status, **record.numbers.model_dump(), "files": record.files}
        for record in (recorded, retrained)
    ]
    lines: list[str] = []
    tensors: list[Difference] = []
    epoch = None
    for difference in differences(*sides):
        match difference.path:
            case ("weights", _):
                tensors.append(difference)
                continue
            case ("history", position, _):
                epoch = epoch or position
                if position != epoch:  # later epochs follow from the first one that differs
                    continue
        lines.append(difference.describe(_SOURCE))
    if tensors:  # one line, because a change of one tensor changes the others
        lines.append(f"{len(tensors)} tensors differ, first {tensors[0].describe(_SOURCE)}")
    return lines
