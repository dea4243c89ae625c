"""Every kind of tampering is a finding that names the file."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rdp.audit import code as audit_code
from rdp.claims import verdict_json
from rdp.spec import RunSpec
from rdp.store import adoptions, fingerprint
from rdp.tables import collect, measurements
from rdp.utils import digest
from tests.audit.conftest import Case


@pytest.mark.slow
def test_an_untouched_study_passes(case: Case) -> None:
    assert case.findings(retrain=3, sample="some", until="remeasuring") == {}


def test_a_changed_metric(case: Case) -> None:
    run = case.runs[0]
    path = case.store.folder(run) / "record.json"
    accuracy = case.store.read(run).numbers.test_accuracy
    path.write_text(path.read_text().replace(f'"test_accuracy": {accuracy}', '"test_accuracy": 0.999'))
    findings = case.findings(until="tables")
    assert findings["records"][0].startswith(f"{path}: damaged: its digest is ")
    assert f"{run}, test_accuracy: {accuracy}; the records give nan" in "\n".join(findings["tables"])


def test_a_changed_metric_under_new_seals(case: Case) -> None:
    def better(record: dict[str, Any]) -> None:
        record["numbers"]["test_accuracy"] = 0.999

    run = case.runs[0]
    accuracy = case.store.read(run).numbers.test_accuracy
    case.forge(run, better)
    findings = case.findings(until="tables")
    path = case.store.folder(run) / "record.json"
    assert findings["records"] == [f"{path}: its predictions do not give its accuracy, 0.999"]
    assert f"{run}, test_accuracy: {accuracy}; the records give 0.999" in "\n".join(findings["tables"])


@pytest.mark.slow
def test_a_forged_metric_without_predictions_is_found_by_retraining(case: Case) -> None:
    def better(record: dict[str, Any]) -> None:
        record["numbers"]["history"][0]["validation_accuracy"] = 0.875

    run = case.runs[1]
    was = case.store.read(run).numbers.history[0].validation_accuracy
    case.forge(run, better)
    case.rdp("report", str(case.plan.file))
    findings = case.findings(until="remeasuring", retrain=100, sample="all")
    assert findings == {"retraining": [f"{run}: history 1, validation_accuracy: 0.875; retraining gives {was!r}"]}


def test_a_swapped_record(case: Case) -> None:
    first, second = (case.store.folder(run) for run in case.runs[:2])
    for name in ("record.json", "predictions.safetensors", "weights.safetensors"):
        (first / name).rename(first / "kept")
        (second / name).rename(first / name)
        (first / "kept").rename(second / name)
    findings = case.findings(until="records")["records"]
    assert len(findings) == 2, findings
    assert all("does not match its receipt" in line for line in findings)
    for run in case.runs[:2]:
        case.store.write_receipt(run, case.store.read(run))
    findings = case.findings(until="records")["records"]
    assert findings == [
        f"{folder}/record.json: is the record of another run, {other}, stored as {run}"
        for folder, other, run in zip((first, second), (case.runs[1], case.runs[0]), case.runs[:2], strict=True)
    ]


def test_swapped_weights(case: Case) -> None:
    first, second = (case.store.folder(run) / "weights.safetensors" for run in case.runs[:2])
    shutil.copyfile(first, second)
    assert case.findings(until="records")["records"] == [
        f"{second}: damaged: its checksum is not the one in the record"
    ]
    second.unlink()
    assert "no such file" in case.findings(until="records")["records"][0]


def test_an_edited_choice_of_a_learning_rate(case: Case) -> None:
    spec = next(spec for spec in case.plan.specs if spec.tuning)
    chosen = case.store.read(spec.run).numbers.learning_rate
    other = next(c for c in spec.candidates() if c.recipe.learning_rate != chosen)

    def best(record: dict[str, Any]) -> None:
        record["numbers"]["history"][-1]["validation_accuracy"] = 1.0

    case.forge(other.run, best)
    findings = case.findings(until="sweeps")["sweeps"]
    tuned = [line for line in findings if "tuned.json" in line]
    seeds = [line for line in findings if "tuned.json" not in line]
    assert f"{spec.cell}/tuned.json: learning_rate: {chosen}; the sweep's records give " in tuned[0]
    assert len(seeds) == 3  # of the cell
    gain = case.store.read(spec.run).numbers.norm_gain
    said = f"trained with learning rate {chosen} and norm gain {gain}, its sweep chooses learning rate "
    assert f"{said}{other.recipe.learning_rate} and norm gain {other.recipe.norm_gain}" in seeds[0]


def test_a_record_with_another_norm_gain_than_its_sweep_chooses(case: Case) -> None:
    spec = next(spec for spec in case.plan.specs if spec.tuning)
    rate, gain = (getattr(case.store.read(spec.run).numbers, name) for name in ("learning_rate", "norm_gain"))

    def findings(stated: float | None) -> list[str]:
        case.forge(spec.run, lambda record: record["numbers"].update(norm_gain=stated))
        return [line for found in case.findings(until="sweeps").values() for line in found]

    assert gain in spec.tuning.norm_gains
    assert findings(gain) == []
    (said,) = findings(0.7)
    chosen = f"its sweep chooses learning rate {rate} and norm gain {gain}"
    assert said.endswith(f"{spec.run}/record.json: trained with learning rate {rate} and norm gain 0.7, {chosen}")
    (said,) = findings(None)
    assert said.endswith(f"{spec.run}/record.json: says completed, but lacks norm_gain")


def test_an_edited_norm_gain_of_a_choice(case: Case) -> None:
    spec = next(spec for spec in case.plan.specs if spec.tuning)
    path = case.results / "store" / spec.cell / "tuned.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"norm_gain": 0.7}))
    (said,) = case.findings(until="sweeps")["sweeps"]
    assert said == f"{path}: norm_gain: 0.7; the sweep's records give {content['norm_gain']}"


def test_changed_data(case: Case) -> None:
    path = case.results / "data" / "spiral" / "data.safetensors"
    arrays = load_file(path)
    arrays["test_y"] = 1 - arrays["test_y"]
    save_file(arrays, path)
    assert f"{path}: damaged: its checksum is" in case.findings(until="data")["data"][0]
    manifest = case.results / "data" / "spiral" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["seal"]
    manifest.write_text(json.dumps(digest.seal(content | {"digest": digest.of_arrays(arrays)})))
    findings = case.findings(until="records")
    assert "data" not in findings
    assert "was trained on other data than the prepared ones" in findings["records"][0]
    assert "its predictions do not give its accuracy" in "\n".join(findings["records"])


def test_changed_code(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: "0" * 64)
    findings = case.findings(until="code")["code"]
    assert len(findings) == len({spec.cell for spec in (*case.plan.sweep.values(), *case.plan.specs)})
    assert "made by other code than this checkout's" in findings[0]


def test_adopted_code_is_noted_and_a_damaged_adoption_is_a_finding(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    record = case.store.read(case.runs[0])
    for code in {case.store.read(run).identity.code for run in case.trained}:
        of = next(r for r in map(case.store.read, case.trained) if r.identity.code == code)
        runs = [{"run": RunSpec(**of.spec).run, "digest": of.digest, "again": "0" * 64, "bits": of.bits}]
        content = {"old": code, "new": "0" * 64, "stack": record.telemetry.stack, "runs": runs}
        path = adoptions.write(case.store.root, content | {"commit": None, "when": ""})
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: "0" * 64)
    check = case.audit(until="code")["code"]
    assert check.findings == []
    assert f"{check.checked} runs made by other code, and adopted (rdp adopt)" in check.notes
    path.write_text(path.read_text().replace("0000", "0001", 1))
    assert str(path) in " ".join(case.findings(until="code")["code"])


def test_a_changed_version_of_a_package(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def older(record: dict[str, Any]) -> None:
        record["telemetry"]["versions"]["torch"] = "2.0.1"

    pinned = audit_code.pinned_versions(Path(audit_code._ROOT) / audit_code.LOCK)["torch"]
    case.forge(case.runs[0], older)
    assert case.findings(until="lock")["lock"] == [
        f"torch: 1 run made with 2.0.1; envs/requirements.lock pins {' or '.join(pinned)}"
    ]
    lock = tmp_path / "envs" / "requirements.lock"
    lock.parent.mkdir()
    lock.write_text("numpy==1.0.0 \\\n    --hash=sha256:0\nno-such-package==3\n")
    monkeypatch.setattr(audit_code, "_ROOT", tmp_path)
    findings = case.findings(until="lock")["lock"]
    assert [line.partition(";")[0].partition(": ")[0] for line in findings] == ["numpy", "numpy"]
    assert findings[1] == f"numpy: version {np.__version__} is installed; envs/requirements.lock pins 1.0.0"


def test_a_stack_that_contradicts_the_identity(case: Case) -> None:
    def elsewhere(record: dict[str, Any]) -> None:
        record["telemetry"]["stack"]["device"] = "a faster machine"

    case.forge(case.runs[0], elsewhere)
    assert "does not match its identity" in case.findings(until="code")["code"][0]


def test_an_edited_study(case: Case) -> None:
    path = case.folder / "audited.yaml"
    path.write_text(path.read_text().replace("seeds: 3", "seeds: 2"))
    findings = case.findings(until="study")["study"]
    assert [f"has {run}, which {path} does not ask for" in line for run, line in zip(case.runs, findings, strict=False)]
    assert len(findings) == 2
    path.write_text(path.read_text().replace("seeds: 2", "seeds: 4"))
    assert f"{path}: asks for " in case.findings(until="study")["study"][0]


def test_edited_tables_under_new_seals(case: Case) -> None:
    tables = [table.copy() for table in collect.read("audited", case.results)]
    tables[0].loc[1, "accuracy"] = 0.5
    tables[1].loc[0, "train_loss"] = 0.25
    tables[2].loc[0, "accuracy"] = 1.0
    collect.save("audited", case.results, *tables)
    findings = case.findings(until="tables")["tables"]
    assert [line.partition(";")[0] for line in findings] == [
        f"{case.products}/records.parquet: {case.runs[1]}, accuracy: 0.5",
        f"{case.products}/history.parquet: {tables[1].loc[0, 'run']}, train_loss: 0.25",
        f"{case.products}/sweep.parquet: {tables[2].loc[0, 'run']}, accuracy: 1.0",
    ]
    path = case.products / "history.parquet"
    path.write_bytes(path.read_bytes()[:-3])
    assert f"{path}: damaged" in case.findings(until="tables")["tables"][0]


def test_an_edited_verdict(case: Case) -> None:
    content = verdict_json.read("audited", case.results)
    content["claims"][3]["verdicts"]["exploratory"]["verdict"] = "supported"
    was = case.audit(until="claims")["claims"]
    assert was.findings == []
    verdict_json.save("audited", case.results, content)
    name = content["claims"][3]["name"]
    findings = case.findings(until="claims")["claims"]
    path = case.products / "claims.json"
    assert findings == [
        f"{path}: claims, {name}, verdicts, exploratory, verdict: supported; the records give not tested"
    ]


def test_an_edited_claim(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A margin that is moved after the decision contradicts the stored verdicts."""
    own = case.folder / "config" / "claims.yaml"
    own.parent.mkdir()
    text = (Path(audit_code._ROOT) / "config" / "claims.yaml").read_text()
    own.write_text(
        text.replace(
            "against: vanilla, direction: above, margin: 0.0, negligible: 0.5}",
            "against: vanilla, direction: above, margin: -2.0, negligible: 0.5}",
        )
    )
    assert own.read_text() != text
    monkeypatch.chdir(case.folder)
    check = case.audit(until="claims")["claims"]
    findings = "\n".join(map(str, check.findings))
    assert "RDP-3, digest: " in findings
    assert "RDP-3, parts 1, bound: " in findings


@pytest.fixture
def _one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing all figures again takes seconds: two will do where one is edited."""
    from rdp.report import contents

    every = contents.figures
    monkeypatch.setattr(contents, "figures", lambda plan: {n: p for n, p in every(plan).items() if n == "accuracy"})


@pytest.mark.usefixtures("_one_figure")
def test_an_edited_figure(case: Case) -> None:
    path = case.products / "figures" / "accuracy.csv"
    text = path.read_text()
    value = text.splitlines()[1].split(",")[-1]
    path.write_text(text.replace(value, "0.987654", 1))
    png = path.with_suffix(".png")
    png.write_bytes(png.read_bytes() + b"\0")
    svg = path.with_suffix(".svg")
    svg.write_text(svg.read_text().replace("<svg", "<svg ", 1))
    findings = case.findings(until="figures")["figures"]
    assert f"{svg}: damaged" in findings[0]
    assert findings[1].startswith(f"{path}: row 1, ")
    assert "0.987654; the records give " in findings[1]
    assert f"{png}: the records give other bytes" in findings


@pytest.mark.slow
def test_an_edited_report(case: Case) -> None:
    page, table = case.products / "report" / "index.html", case.products / "tables" / "accuracy.csv"
    text = page.read_text()
    at = text.index("% [")
    page.write_text(text[: at - 2] + "9" + text[at - 1 :])
    first = table.read_text().splitlines()[1]
    table.write_text(table.read_text().replace(first, first.replace("0.", "0.1", 1)))
    paper = case.products / "report" / "paper.pdf"
    paper.write_bytes(paper.read_bytes()[:-10])
    checklist = case.products / "report" / "checklist.html"
    checklist.write_text(checklist.read_text().replace(">No<", ">Yes<", 1).replace("over 3 seeds", "over 30 seeds"))
    findings = case.findings(until="report")
    assert list(findings) == ["report"]
    named = [line.partition(": ")[0] for line in findings["report"]]
    assert list(dict.fromkeys(named)) == [str(page), str(paper), str(checklist), str(table)]
    assert "; the records give " in findings["report"][0]


@pytest.mark.slow
def test_an_edited_probe_is_found_by_measuring_again(case: Case) -> None:
    table = measurements.read("audited", "surviving_neurons", case.results)
    column = next(name for name in table if table[name].dtype == float)
    table.loc[0, column] += 0.125
    measurements.save("audited", "surviving_neurons", case.results, table)
    findings = case.findings(until="remeasuring", retrain=100, sample="all")
    assert f"{table.loc[0, 'run']}, {column}: {table.loc[0, column]}; " in findings["remeasuring"][0]
