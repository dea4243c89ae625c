"""What somebody seals anew, or makes up of whatever bytes, is found too: no traceback, and no silence."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from rdp.audit import checkout, comparing
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


def test_a_receipt_that_says_other_things_than_its_record(case: Case) -> None:
    path = case.store.receipt(case.runs[0])
    seal_anew(path, lambda receipt: receipt.update(status="failed", code="0" * 64))
    status, code = case.findings(until="records")["records"]
    assert status == f"{path}: status: failed; the record gives completed"
    assert code.startswith(f"{path}: code: 0000")


def test_a_record_that_names_no_predictions_and_any_accuracy(case: Case) -> None:
    case.forge(case.runs[0], lambda record: record.update(files={}, numbers=record["numbers"] | {"test_accuracy": 1.0}))
    path = case.store.folder(case.runs[0]) / "record.json"
    found = case.findings(until="records")["records"]
    assert found == [f"{path}: says completed, and nothing of predictions.safetensors, weights.safetensors"]


def test_a_bad_run_said_to_have_failed_or_diverged(case: Case) -> None:
    path = case.store.folder(case.runs[0]) / "record.json"
    for status, says in {"failed": "says failed, and has numbers", "diverged": "says diverged, and that"}.items():
        case.forge(case.runs[0], lambda record, status=status: record.update(status=status, reason="bad luck"))
        assert case.findings(until="records")["records"][0].startswith(f"{path}: {says}")


def test_what_cannot_be_made_again_is_named_where_it_lies(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
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
    told = f"{second}: its tensors are not those whose checksums the record holds"
    assert case.findings(until="records")["records"] == [told]


@pytest.mark.parametrize("name", ["predictions", "weights"])
def test_garbage_under_a_new_checksum(case: Case, name: str) -> None:
    path = case.store.folder(case.runs[1]) / f"{name}.safetensors"
    path.write_bytes(b"garbage")
    case.forge(case.runs[1], lambda record: record["files"].update({path.name: digest.of_file(path)}))
    assert case.findings(until="records")["records"][0].startswith(f"{path}: its checksum fits, and it")


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


def test_tables_and_verdicts_that_are_sealed_and_no_such_thing(case: Case) -> None:
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


def test_probes_of_which_columns_or_runs_are_gone(case: Case) -> None:
    table = measurements.read("audited", "surviving_neurons", case.results)
    path = case.products / "probes" / "surviving_neurons.parquet"
    measurements.save("audited", "surviving_neurons", case.results, table.drop(columns="run"))
    assert case.findings(until="measurements")["measurements"] == [f"{path}: has no run"]
    measurements.save("audited", "surviving_neurons", case.results, table[table["run"] != case.runs[0]])
    found = case.findings(until="measurements")["measurements"]
    assert found[0].startswith(f"{path}: has no row of 1 run, first {case.runs[0]}; run: rdp probe ")


def test_a_manifest_that_does_not_follow_from_its_data(case: Case) -> None:
    path = case.results / "data" / "spiral" / "manifest.json"
    seal_anew(path, lambda manifest: manifest.update(mean=[0.5, 0.5]))  # which networks read their inputs by
    assert case.findings(until="data")["data"][0].startswith(f"{path}: mean is [0.5, 0.5]; the training examples give ")
    for change in ({"mean": ["a"]}, {"digest": 5}, {"name": None}):
        seal_anew(path, lambda manifest, change=change: manifest.update(change))
        assert f"{path}: damaged" in case.findings(until="data")["data"][0]


def test_data_that_lack_a_split_under_a_new_checksum(case: Case) -> None:
    folder = case.results / "data" / "spiral"
    arrays = {name: array for name, array in load_file(folder / "data.safetensors").items() if name != "test_y"}
    save_file(arrays, folder / "data.safetensors")
    seal_anew(folder / "manifest.json", lambda manifest: manifest.update(digest=digest.of_arrays(arrays)))
    assert case.findings(until="records")["data"] == [f"{folder}/manifest.json: it holds no 'test_y'"]


@pytest.mark.parametrize("runs", [[{}], ["a"], [{"run": "RUN", "digest": "DIGEST", "again": "0", "bits": "0"}]])
def test_an_adoption_made_up_by_hand(case: Case, runs: list[Any]) -> None:
    """It says nothing of the runs that showed it, or what their records do not."""
    for run in case.trained:
        case.forge(run, lambda record: record["identity"].update(code="1" * 64))
    record = case.store.read(case.runs[0])
    known = {"RUN": case.runs[0], "DIGEST": record.digest}
    runs = [{k: known.get(v, v) for k, v in verdict_json.items()} if isinstance(told, dict) else told for told in runs]
    content = {"old": "1" * 64, "new": "2" * 64, "stack": record.telemetry.stack, "runs": runs}
    path = adoptions.write(case.store.root, content | {"commit": None, "when": ""})
    assert any(line.startswith(f"{path}: ") for line in case.findings(until="code")["code"])


@pytest.mark.parametrize(("content", "what"), [(b"", "pins nothing"), (b"\xff", "cannot be used: UnicodeDecodeError")])
def test_a_lock_that_pins_nothing(
    case: Case, content: bytes, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / checkout.LOCK
    lock.parent.mkdir()
    lock.write_bytes(content)
    monkeypatch.setattr(checkout, "_ROOT", tmp_path)
    assert case.findings(until="lock")["lock"][0].startswith(f"{checkout.LOCK}: {what}")


def test_files_of_whatever_bytes_are_compared(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for name, content in {"a.csv": "a,b\n1,2\n", "a.json": '{"a": 1}', "a.html": "<p>", "a.png": "p"}.items():
        (again / name).write_text(content)
        for garbage in (b"", b'\xff\xfe\0,"\r\n', b"[" * 100_000):
            (tmp_path / name).write_bytes(garbage)
            assert comparing.compare(tmp_path / name, again / name)
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(tmp_path / name)
        assert comparing.compare(tmp_path / name, again / name)[0].startswith("cannot be read: ")


def test_a_list_in_a_cell_of_a_table_is_no_number() -> None:
    assert comparing.compare_tables(pd.DataFrame({"a": [[1]]}), pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize("change", [{"study": None}, {"study": 5}, {"seal_of_bundle": None}, {"labels": "a"}])
def test_a_mark_of_recorded_results_that_says_nothing(case: Case, change: dict[str, Any]) -> None:
    told = {"study": "audited", "seal_of_bundle": "0" * 64, "labels": {}}
    mark = origin.write(case.results, told | change, complete=True)
    assert f"{mark}: damaged: it does not state what was unpacked" in " ".join(case.findings(until="records")["data"])
