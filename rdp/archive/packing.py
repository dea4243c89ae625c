"""Making a bundle: a study's records, complete and verified, with all that its report is made from."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from rdp.archive import bundle
from rdp.archive.bundle import Bundle
from rdp.claims import preregistration
from rdp.data import prepared
from rdp.errors import UserError
from rdp.store import RunRecord, Store, origin
from rdp.store.record import PREDICTIONS, accuracy_fits
from rdp.study import Plan
from rdp.study.states import states
from rdp.tables import measurements
from rdp.utils import digest, files, machine, sealed
from rdp.utils.humanize import count

_DONE = ("completed", "diverged")


def write(plan: Plan, results: Path, folder: Path) -> Bundle:
    """Make the bundle of a study.

    The same results on the same machine and commit give the same bytes.

    Raises:
        UserError: a run that is missing, failed, damaged or of other code; a probe, a choice of a learning rate or
            throughput that is absent; data other than those that the runs were trained on.
    """
    origin.refuse(results)
    _refuse_unfinished(plan, results)
    store = Store(results)
    records = {spec.run: store.read(spec.run) for spec in bundle.runs(plan)}
    labels = {name: _labels(name, plan, records, results) for name in _datasets(plan)}
    contents = {f"{plan.name}.yaml": plan.file.read_bytes()}
    contents[bundle.RECORDS], contents[bundle.PREDICTIONS] = _records(plan, records, labels, store)
    contents[bundle.CLAIMS] = _json(preregistration.first_seen_times(results))
    if adopted := store.adoptions.behind_any(records.values()):
        contents[bundle.ADOPTIONS] = _json(adopted)
    for name, values in labels.items():
        contents[f"labels/{name}.safetensors.xz"] = save({"test": values.astype(np.int16)})
        contents[f"datasets/{name}.json"] = (prepared.folder(name, results) / "manifest.json").read_bytes()
    if plan.sweep:
        contents[bundle.SWEEPS] = _json(_choices(plan, records, store))
    contents |= {f"probes/{name}.parquet.xz": _probe(plan, name, results) for name in plan.study.probes}
    if plan.study.speed_rounds:
        path = results / plan.name / "speed.parquet"
        contents[bundle.SPEED], _ = sealed.read(path, plan.name, f"run: rdp speed {plan.name}")
    return bundle.write(folder, _manifest(plan, records), contents)


def _refuse_unfinished(plan: Plan, results: Path) -> None:
    bad = [(spec, state) for spec, state in states(plan, results, verify=True) if state.status not in _DONE]
    if not bad:
        return
    found = Counter(state.status for _, state in bad)
    told = ", ".join(f"{n} {'missing' if status == 'waiting' else status}" for status, n in found.items())
    spec, state = bad[0]
    why = f" ({state.reason})" if state.reason else ""
    runs = len(bundle.runs(plan))
    retry = f"rdp retry {plan.name}, then " if "failed" in found else ""
    mend = f"run: {retry}snakemake --cores all --config study={plan.name}"
    raise UserError(
        f"{plan.name}: {len(bad)} of {count(runs, 'run')} cannot be recorded: {told}; {spec.run}{why}; {mend}"
    )


def _datasets(plan: Plan) -> list[str]:
    return list(dict.fromkeys(cell.dataset for cell in plan.cells))


def _labels(dataset: str, plan: Plan, records: dict[str, RunRecord], results: Path) -> np.ndarray:
    """The labels of the test split of the dataset that the runs were trained on."""
    found = prepared.load(dataset, results)
    for spec in bundle.runs(plan):
        if spec.dataset == dataset and records[spec.run].identity["data"] != found.digest:
            where = prepared.folder(dataset, results)
            raise UserError(f"{spec.run}: was trained on other data than those in {where}, digest {found.digest[:12]}")
    return found.labels("test")


def _records(
    plan: Plan, records: dict[str, RunRecord], labels: dict[str, np.ndarray], store: Store
) -> tuple[bytes, bytes]:
    """The files of records and of predictions."""
    lines, predictions = [], []
    for spec in bundle.runs(plan):
        content = b""
        if PREDICTIONS in records[spec.run].files:
            found = store.arrays(spec.run, records[spec.run], "predictions")["test"]
            if not accuracy_fits(records[spec.run], found, labels[spec.dataset]):
                raise UserError(f"{spec.run}: its predictions do not give the accuracy of its record")
            content = (store.folder(spec.run) / PREDICTIONS).read_bytes()
        record = files.read_json(store.folder(spec.run) / "record.json")
        lines.append(_json({"run": spec.run, "predictions": len(content), "record": record}, indent=None))
        predictions.append(content)
    return b"".join(lines), b"".join(predictions)


def _choices(plan: Plan, records: dict[str, RunRecord], store: Store) -> dict[str, Any]:
    """What each cell's sweep chose, from its runs' records as they are."""
    found: dict[str, Any] = {}
    for spec in plan.specs:
        if spec.tuning is None:
            continue
        path = store.root / spec.cell / "tuned.json"
        if spec.cell not in found:
            found[spec.cell] = files.read_json(path) if path.exists() else {}
        choice = found[spec.cell]
        made_from = {candidate.run: records[candidate.run].digest for candidate in spec.candidates()}
        chosen = records[spec.run].numbers["learning_rate"]
        if choice.get("records") != made_from or choice.get("learning_rate") != chosen:
            remedy = f"run: rdp tune {plan.name}"
            raise UserError(f"{path}: absent, or not the choice that {spec.run} was trained with; {remedy}")
    return found


def _probe(plan: Plan, name: str, results: Path) -> bytes:
    """A probe's table as it is, of runs of the study alone."""
    path = results / plan.name / "probes" / f"{name}.parquet"
    remedy = f"run: rdp probe {plan.name} {name}"
    content, _ = sealed.read(path, plan.name, remedy)
    others = set(measurements.read(plan.name, name, results)["run"]) - {spec.run for spec in plan.specs}
    if others:
        raise UserError(f"{path}: of runs that are not the study's, first {min(others)}; {remedy}")
    return content


def _manifest(plan: Plan, records: dict[str, RunRecord]) -> dict[str, Any]:
    """What a bundle says of itself. No time but that of the runs, so that packing again changes nothing."""
    told = [record.telemetry for record in records.values()]
    statuses = Counter(records[spec.run].status for spec in plan.specs)
    return {
        "schema": bundle.SCHEMA,
        "study": plan.name,
        "title": plan.study.title,
        "runs": {status: statuses[status] for status in _DONE} | {"of sweeps": len(plan.sweep)},
        "started": min((t["started"] for t in told if t.get("started")), default=None),
        "ended": max((t["ended"] for t in told if t.get("ended")), default=None),
        "commits": sorted({t["commit"] for t in told if t.get("commit")}),
        "machines": _machines(told),
        "packed_on": {"system": machine.system(), **machine.size()}
        | {"versions": machine.versions(), "commit": machine.commit()},
        "cells": bundle.cells(bundle.runs(plan)),
    }


def _machines(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The kinds of machine that trained the runs, sweeps included, each with its versions and how many runs it took."""
    found = Counter(digest.canonical({n: t.get(n) for n in ("system", "stack", "versions")}) for t in told)
    return [json.loads(kind) | {"runs": n} for kind, n in sorted(found.items())]


def _json(value: Any, indent: int | None = 1) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n").encode()
