"""Unpacking a bundle into a results directory of its own, from which tables, figures and report are made as ever."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from rdp.archive import bundle
from rdp.archive.bundle import Bundle
from rdp.claims import preregistration
from rdp.data import prepared
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store, adoptions, origin
from rdp.store.record import PREDICTIONS, accuracy_fits
from rdp.study import Plan
from rdp.utils import digest, files

_ROOMS = ("store", "data", preregistration.FOLDER)


def write(found: Bundle, plan: Plan, results: Path) -> Path:
    """Unpack a bundle: records with their receipts, predictions, probes, speed, labels, and when claims were seen.

    Args:
        found: the bundle, whose files `rdp.archive.bundle.load` verified.
        plan: its study, from `rdp.archive.bundle.plan`.
        results: a directory for it alone; what an earlier unpacking left there is replaced.

    Returns:
        The mark that says that these results are recorded.

    Raises:
        UserError: a record that does not fit its own digest or its run; a directory that holds other results.
    """
    store, told = Store(results), found.manifest | {"seal_of_bundle": found.seal}
    if not origin.holds(results) and _holds_others(results):
        raise UserError(f"{results}: holds results that are not recorded; name another directory with --to")
    origin.mark(results, told, whole=False)  # first, so that what a killed job leaves is known to be its own
    for name in _ROOMS:
        shutil.rmtree(results / name, ignore_errors=True)
    labels = {name: _labels(found, name, results) for name in {cell.dataset: None for cell in plan.cells}}
    told["labels"] = {name: digest.of_arrays(arrays) for name, arrays in labels.items()}
    for spec, line, predictions in _lines(found, plan):
        _run(found, spec, line, predictions, labels[spec.dataset]["test"], store)
    if plan.sweep:
        for cell, choice in json.loads(found.content(bundle.SWEEPS)).items():
            if cell in {spec.cell for spec in plan.specs}:
                files.write_json(store.root / cell / "tuned.json", choice)
    for name in plan.study.probes:
        _keep(results / plan.name / "probes" / f"{name}.parquet", found.content(f"probes/{name}.parquet.xz"))
    if plan.study.speed_rounds:
        _keep(results / plan.name / "speed.parquet", found.content(bundle.SPEED))
    for adoption in json.loads(found.content(bundle.ADOPTIONS)) if bundle.ADOPTIONS in found.files else ():
        adoptions.write(store.root, adoption)
    preregistration.restore(json.loads(found.content(bundle.CLAIMS)), results)
    return origin.mark(results, told, whole=True)


def _holds_others(results: Path) -> bool:
    """Whether a directory has files of anybody's; but for logs, which the workflow writes before it unpacks."""
    logs, claims = results / "logs", results / preregistration.FOLDER
    there = (path for path in results.rglob("*") if path.is_file())
    return any(logs not in path.parents or claims in path.parents for path in there)


def _labels(found: Bundle, name: str, results: Path) -> dict[str, np.ndarray]:
    """Unpack the labels of a dataset, shape (m,), and its manifest."""
    _keep(prepared.folder(name, results) / "manifest.json", found.content(f"datasets/{name}.json"))
    content = found.content(f"labels/{name}.safetensors.xz")
    _keep(origin.labels_file(name, results), content)
    return load(content)


def _lines(found: Bundle, plan: Plan) -> Iterator[tuple[RunSpec, dict[str, Any], bytes]]:
    """Each run of the study, its line among the records, and its predictions' file."""
    lines = found.content(bundle.RECORDS).splitlines()
    predictions, at, runs = found.content(bundle.PREDICTIONS), 0, bundle.runs(plan)
    if len(lines) != len(runs):
        raise UserError(f"{found.folder / bundle.RECORDS}: {len(lines)} records of {len(runs)} runs")
    for spec, text in zip(runs, lines, strict=True):
        line = json.loads(text)
        end = at + line["predictions"]
        yield spec, line, predictions[at:end]
        at = end


def _run(
    found: Bundle, spec: RunSpec, line: dict[str, Any], predictions: bytes, labels: np.ndarray, store: Store
) -> None:
    """Unpack one run, and hold it to its own digests."""
    folder = store.folder(spec.run)
    try:
        if line["run"] != spec.run or line["record"]["identity"]["spec"] != spec.spec_digest:
            raise UserError(f"the record of {line['run']} is in the place of {spec.run}")
        files.write_json(folder / "record.json", line["record"])
        record = store.read(spec.run)
        if PREDICTIONS in record.files:
            _keep(folder / PREDICTIONS, predictions)
            if not accuracy_fits(record, store.arrays(spec.run, record, "predictions")["test"], labels):
                raise UserError(f"{spec.run}: its predictions do not give the accuracy of its record")
        store.write_receipt(spec.run, record)
    except (UserError, KeyError, TypeError) as error:
        why = error if isinstance(error, UserError) else f"in the place of {spec.run} is no record"
        raise UserError(f"{found.folder / bundle.RECORDS}: damaged, or made up: {why}") from None


def _keep(path: Path, content: bytes) -> None:
    with files.whole(path) as part:
        part.write_bytes(content)
