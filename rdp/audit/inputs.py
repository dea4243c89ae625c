"""Check the inputs of the tables that are not records: datasets, and measurements of probes and speed."""

from pathlib import Path

import numpy as np

from rdp import data
from rdp.archive import recorded
from rdp.audit.findings import Check
from rdp.data import catalogue, prepared
from rdp.store import origin
from rdp.study import Plan
from rdp.tables import measurements
from rdp.utils import paths, sealed
from rdp.utils.humanize import count


def check_data(plan: Plan, results: Path) -> tuple[Check, dict[str, np.ndarray]]:
    """Check that published files match their checksums, and prepared datasets their manifests.

    Returns:
        The check, and by dataset the int64 labels of the test split, shape (n,), where they can be read.
    """
    labels: dict[str, np.ndarray] = {}
    check = Check("data", "Every dataset matches its manifest byte for byte.", "dataset")
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        check.checked += 1
        folder = prepared.folder(name, results)
        manifest = folder / "manifest.json"
        if origin.is_recorded(results):
            recorded_labels = check.attempt(name, origin.labels, name, results)
            if recorded_labels is not None:
                labels[name] = recorded_labels
                check.notes.append(f"{name}: recorded results hold only the labels of the test split; they are intact")
            continue
        if prepared.status(name, results)[0] == "no":  # loading would prepare it now, which proves nothing
            check.find(manifest, f"no such file; run: rdp data prepare {name}")
            continue
        dataset = check.attempt(folder / "data.safetensors", prepared.load, name, results)
        if dataset is not None:
            if "test_y" in dataset.arrays:
                labels[name] = dataset.labels("test")
            if not data.streamed(name):
                check.find(manifest, *prepared.inconsistencies(dataset))
            check.find_lines(dataset.changed())
        _check_published_files(name, check)
    if origin.is_recorded(results):
        check.attempt(results / origin.FILE, _check_archive, results, check)
    return check, labels


def _check_published_files(name: str, check: Check) -> None:
    """Compare a dataset's published files with their checksums, where the files are present."""
    source, root = data.source(name), paths.datasets()
    if hasattr(source, "BUNDLED"):
        check.notes.append(f"{name}: {source.BUNDLED}; it has no files to verify")
    elif not hasattr(source, "verify"):
        check.notes.append(f"{name}: its files have no published checksums; only the prepared form was verified")
    elif not any(path.exists() for path in (source.files(name, root) if hasattr(source, "files") else ())):
        check.notes.append(f"{name}: its files are not in {root}; only the prepared form was verified")
    else:
        check.find_lines(catalogue.problems(name, root))


def _check_archive(results: Path, check: Check) -> None:
    mark = origin.read(results)
    stored = recorded.find(mark["study"])
    if stored.seal != mark["archive_seal"]:
        check.find(results / origin.FILE, f"unpacked from another archive than {stored.path}")
    else:
        check.notes.append(f"unpacked from the archive {stored.path}, which is intact too")


def check_measurements(plan: Plan, results: Path) -> Check:
    """Check that tables of probes and of speed are intact, and cover exactly the study's runs."""
    check = Check("measurements", "Every table of probes and of speed is intact, and covers the study's runs.", "table")
    known = {spec.run for spec in plan.specs}
    for name in plan.study.probes:
        check.checked += 1
        path = results / plan.name / "probes" / f"{name}.parquet"
        table = check.attempt(path, measurements.read, plan.name, name, results)
        if table is None:
            continue
        if absent := [column for column in measurements.columns(name) if column not in table]:
            check.find(path, f"has no column {', '.join(absent)}")
        elif foreign := sorted(map(str, set(table["run"]) - known)):
            check.find(path, f"has {count(len(foreign), 'run')} of no cell of this study, first {foreign[0]}")
        elif missing := sorted(measurements.expected_runs(plan, name, results) - set(table["run"])):
            lacks = f"has no rows for {count(len(missing), 'run')}, first {missing[0]}"
            check.find(path, f"{lacks}; run: rdp probe {plan.name} {name}")
    if plan.study.speed_rounds:
        check.checked += 1
        path = results / plan.name / "speed.parquet"
        check.attempt(path, sealed.read_table, path, plan.name, f"run: rdp speed {plan.name}")
        check.notes.append("speed is a measurement of time: its table is intact, and cannot be derived from records")
    return check
