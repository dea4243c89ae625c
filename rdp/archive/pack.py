"""Pack a study's results, finished or unfinished, into an archive."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from rdp.archive import format as archive_format
from rdp.archive import recorded
from rdp.archive.format import ADOPTIONS, CLAIMS, FORMAT, PREDICTIONS, RECORDS, SPEED, STUDY, Archive
from rdp.archive.manifest import Manifest
from rdp.archive.stage import Records
from rdp.claims import preregistration
from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs import tuning
from rdp.spec import RunSpec
from rdp.store import Store, origin
from rdp.store.record import PREDICTIONS as PREDICTIONS_FILE
from rdp.store.record import WEIGHTS, Telemetry, accuracy_fits
from rdp.study import Plan
from rdp.study.states import states
from rdp.utils import digest, files, machine, sealed
from rdp.utils.humanize import count

log = logging.getLogger(__name__)


def pack(plan: Plan, results: Path, path: Path, *, weights: bool = False) -> Archive:
    """Write the archive of a study: its finished runs, and everything that its report is made from.

    The manifest lists the other runs as missing. The same results, machine and commit give the same bytes.

    Raises:
        UserError: no finished run; a damaged run or table; a learning rate that its sweep does not choose; data other
            than those the runs were trained on.
    """
    origin.refuse(results)
    store = Store(results)
    records, missing = _finished(plan, results)
    labels = {name: _labels(name, records, results) for name in dict.fromkeys(s.dataset for s, _ in records.values())}
    _check_sweeps(plan, records)
    contents: dict[str, Path | bytes] = {
        STUDY: plan.file.read_bytes(),
        CLAIMS: _json(preregistration.first_seen_times(results)),
    }
    contents[RECORDS], contents[PREDICTIONS] = _records(records, labels, store)
    if adoptions := store.adoptions.of_records(record for _, record in records.values()):
        contents[ADOPTIONS] = _json(adoptions)
    for name, values in labels.items():
        contents[f"labels/{name}.safetensors.xz"] = save({"test": values.astype(np.int16)})
        contents[f"datasets/{name}.json"] = (prepared.folder(name, results) / "manifest.json").read_bytes()
    contents |= _tables(plan, results)
    if weights:
        contents |= _weights(records, store)
    return archive_format.write(path, _manifest(plan, records, missing, weights), contents)


def _finished(plan: Plan, results: Path) -> tuple[Records, list[RunSpec]]:
    """The records of finished runs, and the specifications of the others."""
    store = Store(results)
    records: Records = {}
    unfinished = []
    for spec, state in states(plan, results, verify=True):
        if state.status == "damaged":
            raise UserError(state.reason)
        if state.status in {"completed", "diverged"}:
            records[spec.run] = spec, store.read(spec.run)
        else:
            unfinished.append((spec, state))
    if not records:
        first = f"first: snakemake --cores all --config study={plan.name}"
        raise UserError(f"{plan.name}: no run is finished, so there is nothing to pack; {first}")
    if unfinished:
        statuses = ", ".join(f"{n} {status}" for status, n in Counter(s.status for _, s in unfinished).items())
        total = count(len(records) + len(unfinished), "run")
        log.warning("%s: %d of %s missing: %s", plan.name, len(unfinished), total, statuses)
        for spec, state in unfinished:
            log.debug("%s: %s %s", spec.run, state.status, state.reason)
    return records, [spec for spec, _ in unfinished]


def _labels(dataset: str, records: Records, results: Path) -> np.ndarray:
    data = prepared.load(dataset, results)
    for spec, record in records.values():
        if spec.dataset == dataset and record.identity.data != data.digest:
            where = prepared.folder(dataset, results)
            raise UserError(f"{spec.run}: was trained on other data than {where}, digest {data.digest[:12]}")
    return data.labels("test")


def _check_sweeps(plan: Plan, records: Records) -> None:
    """Raise `UserError` if a run was not trained with what its sweep chooses."""
    for spec in plan.specs:
        candidates = [records[candidate.run][1] for candidate in spec.candidates() if candidate.run in records]
        if spec.tuning is None or spec.run not in records or len(candidates) < len(spec.candidates()):
            continue
        if (reason := tuning.disagreement(spec, records[spec.run][1], candidates)) is not None:
            raise UserError(f"{spec.run}: {reason}; run: snakemake --cores all --config study={plan.name}")


def _records(records: Records, labels: dict[str, np.ndarray], store: Store) -> tuple[bytes, bytes]:
    lines, predictions = [], []
    for run, (spec, record) in records.items():
        content = b""
        if PREDICTIONS_FILE in record.files:
            predicted = store.arrays(run, record, "predictions")["test"]
            if not accuracy_fits(record, predicted, labels[spec.dataset]):
                raise UserError(f"{run}: its predictions do not give the accuracy of its record")
            content = (store.folder(run) / PREDICTIONS_FILE).read_bytes()
        value = files.read_json(store.folder(run) / "record.json")
        lines.append(_json({"run": run, "predictions": len(content), "record": value}, indent=None))
        predictions.append(content)
    return b"".join(lines), b"".join(predictions)


def _tables(plan: Plan, results: Path) -> dict[str, bytes]:
    folder, contents = results / plan.name, {}
    runs = {spec.run for spec in plan.specs}
    for name in plan.study.probes:
        path, remedy = folder / "probes" / f"{name}.parquet", f"run: rdp probe {plan.name} {name}"
        if not path.exists():
            log.warning("%s: not measured, so not in the archive; %s", path, remedy)
            continue
        from rdp.tables import measurements  # pandas, which a machine that only trains may lack

        contents[f"probes/{name}.parquet.xz"] = sealed.read(path, plan.name, remedy)[0]
        if others := set(measurements.read(plan.name, name, results)["run"]) - runs:
            raise UserError(f"{path}: measured on runs that the study does not have, first {min(others)}; {remedy}")
    if plan.study.speed_rounds:
        path, remedy = folder / "speed.parquet", f"run: rdp speed {plan.name}"
        if path.exists():
            contents[SPEED] = sealed.read(path, plan.name, remedy)[0]
        else:
            log.warning("%s: not measured, so not in the archive; %s", path, remedy)
    return contents


def _weights(records: Records, store: Store) -> dict[str, Path]:
    paths = {}
    for run, (_, record) in records.items():
        if WEIGHTS in record.files:
            path = store.folder(run) / WEIGHTS
            if not path.exists():
                raise UserError(f"{path}: was unpacked without weights; pack without --weights")
            paths[archive_format.weights_name(run)] = path
    return paths


def _manifest(plan: Plan, records: Records, missing: list[RunSpec], weights: bool) -> Manifest:
    telemetry = [record.telemetry for _, record in records.values()]
    statuses = Counter(record.status for spec, record in records.values() if not spec.sweep)
    return Manifest(
        format=FORMAT,
        study=plan.name,
        title=plan.study.title,
        weights=weights,
        runs={status: statuses[status] for status in ("completed", "diverged")}
        | {"sweep": len(records) - statuses.total(), "missing": len(missing)},
        cells=recorded.cells(spec for spec, _ in records.values()),
        missing=recorded.cells(missing),
        started=min((t.started for t in telemetry if t.started), default=None),
        ended=max((t.ended for t in telemetry if t.ended), default=None),
        commits=sorted({t.commit for t in telemetry if t.commit}),
        machines=_machines(telemetry),
        packed_on={"system": machine.system(), **machine.size()}
        | {"versions": machine.versions(), "commit": machine.commit()},
    )


def _machines(telemetry: list[Telemetry]) -> list[dict[str, Any]]:
    """The kinds of machines that trained the runs, each with its versions and its number of runs."""
    kinds = Counter(digest.canonical(t.model_dump(include={"system", "stack", "versions"})) for t in telemetry)
    return [json.loads(kind) | {"runs": n} for kind, n in sorted(kinds.items())]


def _json(value: Any, indent: int | None = 1) -> bytes:
    return (json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n").encode()
