"""Forged files with valid seals, and files of arbitrary bytes, give findings and no traceback."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from rdp.audit import code as audit_code
from rdp.claims import verdict_json
from rdp.report import contents
from rdp.store import adoptions, origin
from rdp.store.record import DIGESTED
from rdp.tables import collect, measurements
from rdp.utils import digest, files, sealed
from tests.audit.conftest import Case


def seal_anew(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a sealed JSON file, and seal it."""
    content = files.read_json(path)
    del content["seal"]
    change(content)
    files.write_json(path, digest.seal(content))


def forge_any(case: Case, run: str, change: Callable[[dict[str, Any]], object]) -> None:
    """As `Case.forge`, of a content that need not be a record."""

    def changed(content: dict[str, Any]) -> None:
        change(content)
        content["digest"] = digest.of({name: content[name] for name in DIGESTED})

    path = case.store.folder(run) / "record.json"
    seal_anew(path, changed)
    seal_anew(case.store.receipt(run), lambda receipt: receipt.update(record=digest.of_file(path)))


def test_a_receipt_that_contradicts_its_record(case: Case) -> None:
    path = case.store.receipt(case.runs[0])
    seal_anew(path, lambda receipt: receipt.update(status="failed", code="0" * 64))
    status, code = case.findings(until="records")["records"]
    assert status == f"{path}: status: failed; the record gives completed"
    assert code.startswith(f"{path}: code: 0000")


def test_a_record_without_predictions(case: Case) -> None:
    case.forge(case.runs[0], lambda record: record.update(files={}, numbers=record["numbers"] | {"test_accuracy": 1.0}))
    path = case.store.folder(case.runs[0]) / "record.json"
    findings = case.findings(until="records")["records"]
    assert findings == [f"{path}: says completed, but lacks predictions.safetensors, weights.safetensors"]


def test_a_completed_run_with_a_forged_status(case: Case) -> None:
    path = case.store.folder(case.runs[0]) / "record.json"
    for status, says in {"failed": "says failed, but has numbers", "diverged": "says diverged, but its"}.items():
        case.forge(case.runs[0], lambda record, status=status: record.update(status=status, reason="bad luck"))
        assert case.findings(until="records")["records"][0].startswith(f"{path}: {says}")


def test_a_product_that_cannot_be_rebuilt_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "surviving_neurons"
    monkeypatch.setattr(contents, "figures", lambda plan, made=contents.figures: {name: made(plan)[name]})
    path = case.products / "probes" / "surviving_neurons.parquet"
    path.write_bytes(b"garbage")
    checks = case.audit(until="report")
    assert any(finding.where == str(path) for finding in checks["figures"].findings)
    assert "report/index.html" in " ".join(checks["report"].notes)


def test_other_weights_under_a_new_checksum(case: Case) -> None:
    first, second = (case.store.folder(run) / "weights.safetensors" for run in case.runs[:2])
    shutil.copyfile(first, second)
    case.forge(case.runs[1], lambda record: record["files"].update({second.name: digest.of_file(second)}))
    line = f"{second}: its tensors do not have the checksums in the record"
    assert case.findings(until="records")["records"] == [line]


@pytest.mark.parametrize("name", ["predictions", "weights"])
def test_garbage_under_a_new_checksum(case: Case, name: str) -> None:
    path = case.store.folder(case.runs[1]) / f"{name}.safetensors"
    path.write_bytes(b"garbage")
    case.forge(case.runs[1], lambda record: record["files"].update({path.name: digest.of_file(path)}))
    assert case.findings(until="records")["records"][0].startswith(f"{path}: matches its checksum, but")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, "numbers", None),
        (None, "numbers", {}),
        (None, "telemetry", []),
        (None, "identity", {}),
        (None, "files", ["a"]),
        (None, "status", "excellent"),
        ("numbers", "test_accuracy", "high"),
        ("numbers", "history", [1]),
        ("numbers", "learning_rate", "x"),
        ("telemetry", "stack", "x"),
        ("telemetry", "started", 5),
        ("telemetry", "energy", "x"),
    ],
)
def test_a_record_of_other_types_is_named(case: Case, part: str | None, name: str, value: Any) -> None:
    """Of a run, and of a run of a sweep, which a learning rate follows from."""
    for run in (case.runs[0], next(iter(case.plan.sweep))):
        forge_any(case, run, lambda record: (record[part] if part else record).update({name: value}))
        assert str(case.store.folder(run)) in " ".join(case.findings(until="tables")["records"])


def test_sealed_files_that_are_no_tables_and_no_verdicts(case: Case) -> None:
    path = case.products / "records.parquet"
    tables = collect.read("audited", case.results)
    for table in (tables[0].drop(columns="run"), tables[0].assign(accuracy=[[1, 2]] * len(tables[0]))):
        collect.save("audited", case.results, table, *tables[1:])
        assert str(path) in case.findings(until="tables")["tables"][0]
    sealed.write(path, b"no table " + sealed.BLANK.encode(), "audited")
    assert f"{path}: damaged (sealed, but not a table)" in case.findings(until="tables")["tables"][0]
    claims = case.products / "claims.json"
    for content in (b"\xff " + sealed.BLANK.encode(), b'["' + sealed.BLANK.encode() + b'"]'):
        sealed.write(claims, content, "audited")
        assert f"{claims}: damaged (sealed, but not" in case.findings(until="claims")["claims"][0]
    for value in ({}, {"claims": ["a"]}):
        verdict_json.save("audited", case.results, value)
        assert str(claims) in case.findings(until="claims")["claims"][0]


def test_probe_tables_without_columns_or_runs(case: Case) -> None:
    table = measurements.read("audited", "surviving_neurons", case.results)
    path = case.products / "probes" / "surviving_neurons.parquet"
    measurements.save("audited", "surviving_neurons", case.results, table.drop(columns="run"))
    assert case.findings(until="measurements")["measurements"] == [f"{path}: has no column run"]
    measurements.save("audited", "surviving_neurons", case.results, table[table["run"] != case.runs[0]])
    findings = case.findings(until="measurements")["measurements"]
    assert findings[0].startswith(f"{path}: has no rows for 1 run, first {case.runs[0]}; run: rdp probe ")


def test_a_manifest_that_contradicts_its_data(case: Case) -> None:
    path = case.results / "data" / "spiral" / "manifest.json"
    seal_anew(path, lambda manifest: manifest.update(mean=[0.5, 0.5]))  # which networks read their inputs by
    assert case.findings(until="data")["data"][0].startswith(f"{path}: mean is [0.5, 0.5]; the training examples give ")
    for change in ({"mean": ["a"]}, {"digest": 5}, {"name": None}):
        seal_anew(path, lambda manifest, change=change: manifest.update(change))
        assert f"{path}: damaged" in case.findings(until="data")["data"][0]


def test_data_without_a_split_under_a_new_checksum(case: Case) -> None:
    folder = case.results / "data" / "spiral"
    arrays = {name: array for name, array in load_file(folder / "data.safetensors").items() if name != "test_y"}
    save_file(arrays, folder / "data.safetensors")
    seal_anew(folder / "manifest.json", lambda manifest: manifest.update(digest=digest.of_arrays(arrays)))
    assert case.findings(until="records")["data"] == [f"{folder}/manifest.json: it has no 'test_y'"]


@pytest.mark.parametrize("runs", [[{}], ["a"], [{"run": "RUN", "digest": "DIGEST", "again": "0", "bits": "0"}]])
def test_a_forged_adoption(case: Case, runs: list[Any]) -> None:
    """It names no retrained runs, or contradicts their records."""
    for run in case.trained:
        case.forge(run, lambda record: record["identity"].update(code="1" * 64))
    record = case.store.read(case.runs[0])
    known = {"RUN": case.runs[0], "DIGEST": record.digest}
    runs = [{k: known.get(v, v) for k, v in entry.items()} if isinstance(entry, dict) else entry for entry in runs]
    content = {"old": "1" * 64, "new": "2" * 64, "stack": record.telemetry.stack, "runs": runs}
    path = adoptions.write(case.store.root, content | {"commit": None, "when": ""})
    assert any(line.startswith(f"{path}: ") for line in case.findings(until="code")["code"])


@pytest.mark.parametrize(("content", "what"), [(b"", "pins nothing"), (b"\xff", "cannot be used: UnicodeDecodeError")])
def test_a_lock_that_pins_nothing(
    case: Case, content: bytes, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / audit_code.LOCK
    lock.parent.mkdir()
    lock.write_bytes(content)
    monkeypatch.setattr(audit_code, "_ROOT", tmp_path)
    assert case.findings(until="lock")["lock"][0].startswith(f"{audit_code.LOCK}: {what}")


@pytest.mark.parametrize("change", [{"study": None}, {"study": 5}, {"archive_seal": None}, {"labels": "a"}])
def test_a_mark_of_recorded_results_without_content(case: Case, change: dict[str, Any]) -> None:
    content = {"study": "audited", "archive_seal": "0" * 64, "labels": {}}
    mark = origin.write(case.results, content | change, complete=True)
    assert f"{mark}: damaged: it does not state what was unpacked" in " ".join(case.findings(until="records")["data"])
