"""Train recorded runs again from their first step, and hold what comes out against their records."""

from collections.abc import Sequence
from pathlib import Path

from rdp.data import prepared
from rdp.jobs import parallel
from rdp.spec import RunSpec
from rdp.store import RunRecord, origin
from rdp.utils import compare


def again(
    pairs: Sequence[tuple[RunSpec, RunRecord]], results: Path, scratch: Path, device: str, cores: int = 1
) -> list[RunRecord]:
    """Train runs of which there are records once more, as if nothing were there but the data.

    A learning rate that a sweep chose is taken from the record, and the sweep is not repeated.

    Args:
        pairs: the runs, each with its record.
        results: where they are recorded; nothing is written there.
        scratch: an empty results directory for what comes out.
        device: ``auto``, ``cpu`` or ``cuda``.
        cores: train so many threads' worth of runs side by side.

    Raises:
        UserError: data that are not there.
    """
    for name in sorted({spec.dataset for spec, _ in pairs}):
        _lend(name, results, scratch)
    chosen = {spec.cell: record.numbers.learning_rate for spec, record in pairs if spec.tuning}
    rates = {cell: rate for cell, rate in chosen.items() if rate is not None}
    found: dict[str, RunRecord] = {}
    groups: dict[tuple[int, int], list[RunSpec]] = {}  # a job's runs have one number of threads and of processes
    for spec, _ in pairs:
        groups.setdefault((spec.threads, spec.processes), []).append(spec)
    for specs in groups.values():
        records = parallel.run_job(specs, scratch, device, cores=cores, known_rates=rates)
        found |= {spec.run: record for spec, record in zip(specs, records, strict=True)}
    return [found[spec.run] for spec, _ in pairs]


def _lend(dataset: str, results: Path, scratch: Path) -> None:
    """Let the scratch directory have a prepared dataset. Of recorded results only labels are there: prepare it anew."""
    there = prepared.folder(dataset, results)
    if origin.is_recorded(results) or not (there / "manifest.json").exists():
        return
    target = prepared.folder(dataset, scratch)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(there.resolve())


def differences(first: RunRecord, second: RunRecord) -> list[str]:
    """What of two records' numbers and files is not the same to the last bit, a line each; of two of one run.

    Status, numbers (history and checksums of weights among them) and the other files (predictions, weights) are
    compared; identity and telemetry are not.
    """
    found = []
    if first.status != second.status:
        found.append(f"status: {first.status} and {second.status}")
    tensors, epoch = [], None
    for at, one, other in compare.differing(first.numbers.model_dump(), second.numbers.model_dump()):
        match at:
            case ("weights", name):
                tensors.append(name)
                continue
            case ("history", place, name):
                epoch = epoch or place
                if place != epoch:  # what comes after the first epoch that differs follows from it
                    continue
                at = ("history", f"epoch {place}", name)
        found.append(f"{compare.named(at)}: {compare.shown(one)} and {compare.shown(other)}")
    if tensors:  # one line for all: a first tensor that differs makes the others differ
        every = {*(first.numbers.weights or ()), *(second.numbers.weights or ())}
        found.append(f"weights: {len(tensors)} of {len(every)} tensors, first {tensors[0]}")
    names = sorted({*first.files, *second.files})
    other = [name for name in names if first.files.get(name) != second.files.get(name)]
    found += [f"{name}: other bytes" for name in other]
    return found
