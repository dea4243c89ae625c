"""Verify the content of an archive, and write its runs where they are not used yet."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from rdp.archive import format as archive_format
from rdp.archive import recorded
from rdp.archive.format import ADOPTIONS, CLAIMS, PREDICTIONS, RECORDS, Archive
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, adoptions
from rdp.store.record import PREDICTIONS as PREDICTIONS_FILE
from rdp.store.record import WEIGHTS, WEIGHTS_OMITTED, accuracy_fits
from rdp.study import Plan
from rdp.utils import digest, files

Records = dict[str, tuple[RunSpec, RunRecord]]  # by run, those of sweeps first


def stage(
    archive: Archive, plan: Plan, store: Store, labels: dict[str, dict[str, np.ndarray]], *, weights: bool = False
) -> Records:
    """Write an archive's runs to a store without receipts, and verify each by its own digests, run and accuracy."""
    packed = archive.manifest.cells
    specs = [spec for spec in recorded.runs(plan) if spec.seed in packed.get(spec.cell, ())]
    lines, predictions, start = archive.read(RECORDS).splitlines(), archive.read(PREDICTIONS), 0
    records: Records = {}
    try:
        if len(lines) != len(specs):
            raise UserError(f"{len(lines)} records of {len(specs)} runs")
        for spec, text in zip(specs, lines, strict=True):
            line = json.loads(text)
            end = start + line["predictions"]
            record = _stage_run(spec, line, predictions[start:end], labels[spec.dataset]["test"], store)
            records[spec.run] = spec, record
            start = end
            if WEIGHTS in record.files and weights:
                archive.extract(archive_format.weights_name(spec.run), store.folder(spec.run) / WEIGHTS)
            elif WEIGHTS in record.files:
                (store.folder(spec.run) / WEIGHTS_OMITTED).touch()
            store.check_files(spec.run, record)
    except (UserError, ValueError, KeyError, TypeError) as error:
        why = error if isinstance(error, UserError) else f"a line that is not the record of a run ({error!r})"
        raise UserError(f"{archive.path}: {RECORDS}: damaged or forged: {why}") from None
    return records


def _stage_run(spec: RunSpec, line: dict[str, Any], predictions: bytes, labels: np.ndarray, store: Store) -> RunRecord:
    if line["run"] != spec.run or line["record"]["identity"]["spec"] != spec.spec_digest:
        raise UserError(f"the record of {line['run']} is in place of {spec.run}")
    files.write_json(store.folder(spec.run) / "record.json", line["record"])
    record = store.read(spec.run)
    if RunSpec(**record.spec).spec_digest != spec.spec_digest:
        raise UserError(f"{spec.run}: its record is of another run")
    if PREDICTIONS_FILE in record.files:
        write(store.folder(spec.run) / PREDICTIONS_FILE, predictions)
        if not accuracy_fits(record, store.arrays(spec.run, record, "predictions")["test"], labels):
            raise UserError(f"{spec.run}: its predictions do not give the accuracy of its record")
    return record


def labels(archive: Archive, plan: Plan) -> dict[str, dict[str, np.ndarray]]:
    """The labels of the test splits, shape (m,), by dataset."""
    arrays = {}
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        file = f"labels/{name}.safetensors.xz"
        if file in archive.manifest.files:
            try:
                arrays[name] = load(archive.read(file))
            except SafetensorError as error:
                raise UserError(f"{archive.path}: {file}: holds no arrays ({error})") from None
    return arrays


def claims(archive: Archive) -> dict[str, str]:
    """When each text of a claim was first seen."""
    times = json.loads(archive.read(CLAIMS))
    if not isinstance(times, dict) or not all(isinstance(time, str) for time in times.values()):
        raise UserError(f"{archive.path}: {CLAIMS}: not the times at which claims were first seen")
    return times


def adoptions_of(archive: Archive) -> list[dict[str, Any]]:
    """The adoptions of the code that made the runs."""
    if ADOPTIONS not in archive.manifest.files:
        return []
    try:
        contents: list[dict[str, Any]] = json.loads(archive.read(ADOPTIONS))
        for content in contents:
            name = adoptions.name(content)
            if not re.fullmatch(r"[0-9a-f-]{38}\.json", name):
                raise ValueError(name)
            adoptions.check(Path(name), digest.seal(content))
    except (ValueError, TypeError, KeyError, UserError) as error:
        raise UserError(f"{archive.path}: {ADOPTIONS}: damaged or forged: {error}") from None
    return contents


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with files.atomic_write(path) as part:
        part.write_bytes(content)
