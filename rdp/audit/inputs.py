"""Checks of what is measured from outside: the data that runs are trained on, and what was measured beside training."""

from pathlib import Path

import numpy as np

from rdp import data
from rdp.archive import recorded
from rdp.audit.findings import Check
from rdp.data import catalogue, prepared
from rdp.errors import UserError
from rdp.store import origin
from rdp.study import Plan
from rdp.tables import measurements
from rdp.utils import paths, sealed
from rdp.utils.humanize import count


def check_data(plan: Plan, results: Path) -> tuple[Check, dict[str, np.ndarray]]:
    """Datasets: their files as published, their prepared form as its manifest says.

    Returns:
        The check, and the int64 labels of the test splits that could be read, shape (n,), by dataset.
    """
    labels: dict[str, np.ndarray] = {}
    check = Check("data", "Every dataset is, to the last byte, the one that its manifest names.", "dataset")
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        check.looked_at += 1
        if origin.is_recorded(results):
            kept_labels = check.attempt(lambda name=name: origin.labels(name, results))
            if kept_labels is not None:
                labels[name] = kept_labels
                check.notes.append(f"{name}: recorded results hold the labels of the test split alone; these are whole")
            continue
        kept = prepared.folder(name, results)
        if prepared.standing(name, results)[0] == "no":  # loading would prepare it now, and prove nothing
            check.find(kept / "manifest.json", f"no such file; run: rdp data prepare {name}")
            continue
        found = check.attempt(lambda name=name: prepared.load(name, results), kept / "data.safetensors")
        if found is not None and "test_y" in found.arrays:
            labels[name] = found.labels("test")
        for line in prepared.contradictions(found) if found is not None and not data.streamed(name) else ():
            check.find(kept / "manifest.json", line)
        for line in found.changed() if found is not None else ():
            check.find_line(line)
        _check_source(name, check)
    if origin.is_recorded(results):
        _check_archive(results, check)
    return check, labels


def _check_source(name: str, check: Check) -> None:
    """Hold a dataset's published files against their checksums, where they are here still."""
    source, root = data.source(name), paths.datasets()
    if hasattr(source, "BUNDLED"):
        check.notes.append(f"{name}: {source.BUNDLED}; it has no files to verify")
        return
    wanted = source.files(name, root) if hasattr(source, "files") else []
    if not hasattr(source, "verify"):
        check.notes.append(f"{name}: its files have no published checksums; the prepared form alone was verified")
    elif not any(path.exists() for path in wanted):
        check.notes.append(f"{name}: its files are not in {root}; the prepared form alone was verified")
    else:
        for line in catalogue.problems(name, root):
            check.find_line(line)


def _check_archive(results: Path, check: Check) -> None:
    """Hold recorded results against the archive that they were unpacked from, where this checkout has it."""
    try:
        told = origin.read(results)
        found = recorded.find(told["study"])
    except UserError as error:
        check.find_line(error)
        return
    if found.seal != told["archive_seal"]:
        check.find(results / origin.FILE, f"unpacked from another archive than {found.path}")
    else:
        check.notes.append(f"unpacked from the archive {found.path}, whole as well")


def check_measurements(plan: Plan, results: Path) -> Check:
    """Probes' tables and throughput: whole, and of the study's runs."""
    check = Check("measurements", "Every table of a probe or of speed is whole, and of this study's runs.", "table")
    known = {spec.run for spec in plan.specs}
    for name in plan.study.probes:
        check.looked_at += 1
        table = check.attempt(lambda name=name: measurements.read(plan.name, name, results))
        if table is None:
            continue
        where = results / plan.name / "probes" / f"{name}.parquet"
        if absent := [column for column in measurements.columns(name) if column not in table]:
            check.find(where, f"has no {', '.join(absent)}")
        elif others := sorted(map(str, set(table["run"]) - known)):
            check.find(where, f"of {count(len(others), 'run')} not of the study, first {others[0]}")
        elif gone := sorted(measurements.expected_runs(plan, name, results) - set(table["run"])):
            check.find(
                where, f"has no row of {count(len(gone), 'run')}, first {gone[0]}; run: rdp probe {plan.name} {name}"
            )
    if plan.study.speed_rounds:
        check.looked_at += 1
        path = results / plan.name / "speed.parquet"
        check.attempt(lambda: sealed.read_table(path, plan.name, f"run: rdp speed {plan.name}"))
        check.notes.append("speed was measured on a clock: its table is whole, and cannot follow from anything")
    return check
