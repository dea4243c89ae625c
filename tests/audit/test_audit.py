"""The audit's files and exit status, and audits on another stack and of recorded results."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from rdp import audit
from rdp.archive import recorded, unpack
from rdp.archive.pack import pack
from rdp.audit import findings, retraining, runs
from rdp.cli.app import app
from rdp.errors import UserError
from rdp.utils import digest, paths, sealed
from tests.audit.conftest import Case


@pytest.mark.slow
def test_the_command_prints_and_writes_findings(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    run = case.runs[0]
    path = case.store.folder(run) / "weights.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    assert case.rdp("audit", str(case.plan.file)) == 1
    output = capsys.readouterr().out
    line = f"{path}: damaged: its checksum is not the one in the record"
    assert line in output
    assert "note (data): spiral: generated; it has no files to verify" in output
    assert output.splitlines()[-1] == f"{case.products}/audit/index.html: 1 finding"
    written = sealed.read_json(case.products / "audit" / "audit.json", "audited", "")
    assert written["findings"] == 1
    assert [f for check in written["checks"] for f in check["findings"]] == [
        {"where": str(path), "what": "damaged: its checksum is not the one in the record"}
    ]
    page = (case.products / "audit" / "index.html").read_text()
    assert "<h1>1 finding</h1>" in page
    assert f"<code>{path}</code>: damaged: its checksum is not the one in the record" in page


@pytest.mark.slow
def test_an_audit_writes_only_its_own_files(case: Case) -> None:
    def content() -> dict[str, bytes]:
        files = (path for path in case.results.rglob("*") if path.is_file() and "audit" not in path.parts)
        return {str(path): path.read_bytes() for path in files}

    before = content()
    assert case.rdp("audit", str(case.plan.file)) == 0
    assert content() == before
    assert "<h1>No findings</h1>" in (case.products / "audit" / "index.html").read_text()


def elsewhere(case: Case, points: float = 0.0) -> None:
    """Move every record to another stack, and raise its accuracy by a share of 1."""

    def change(record: dict[str, Any]) -> None:
        record["telemetry"]["stack"] |= {"device": "another machine"}
        record["identity"]["stack"] = digest.of(record["telemetry"]["stack"])
        if points and record["numbers"].get("test_accuracy") is not None:
            record["numbers"]["test_accuracy"] += points

    for spec in (*case.plan.sweep.values(), *case.plan.specs):
        case.forge(spec.run, change)


@pytest.mark.slow
def test_runs_of_another_stack_are_compared_within_a_tolerance(case: Case) -> None:
    elsewhere(case)
    check = case.audit(until="retraining", retrain=2, sample="b")["retraining"]
    assert check.findings == []
    notes = "\n".join(check.notes)
    assert "this is not the stack of the records: torch " in notes
    assert notes.count("(tolerance 0.") == 2


@pytest.mark.slow
def test_an_accuracy_beyond_the_tolerance_is_a_finding(case: Case) -> None:
    elsewhere(case, points=-0.4)
    check = case.audit(until="retraining", retrain=100, sample="c")["retraining"]
    assert {finding.where for finding in check.findings} == set(case.runs)
    assert "retraining on another stack gives " in check.findings[0].what


def test_the_tolerance_is_the_larger_spread_of_seeds_and_sampling() -> None:
    one = retraining.Tolerance.of(0.5, [[0.5]], 10_000)
    assert one.accuracy == pytest.approx(2.5758 * 2**0.5 * 0.005, rel=1e-3)
    assert one.basis == "sampling of 10,000 examples"
    own = retraining.Tolerance.of(0.5, [[0.48, 0.50, 0.52]], 10_000)
    assert own.accuracy == pytest.approx(9.9248 * 2**0.5 * 0.02, rel=1e-3)  # t of 2 degrees of freedom
    assert own.basis == "spread over seeds, 2 degrees of freedom"
    pooled = retraining.Tolerance.of(0.5, [[0.48, 0.50, 0.52], [0.28, 0.30, 0.32], [0.9]], 10_000)
    assert pooled.accuracy == pytest.approx(4.6041 * 2**0.5 * 0.02, rel=1e-3)
    assert retraining.Tolerance.of(0.5, [[0.5, 0.5, 0.5]], 10_000) == one


def test_the_same_text_draws_the_same_runs(case: Case) -> None:
    read = runs.read(case.plan, case.results)
    drawn = retraining.draw(read, 3, "x")
    assert drawn == retraining.draw(read, 3, "x")
    assert len(drawn) == 3
    assert {tuple(retraining.draw(read, 3, str(i))) for i in range(20)} != {tuple(drawn)}
    assert retraining.draw(read, 1000, "x") == list(read)


@pytest.mark.slow
def test_recorded_results_are_audited(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked from an archive, without weights and images, with retrained runs."""
    monkeypatch.chdir(case.folder)
    archive = pack(case.plan, case.results, case.folder / "results" / "recorded" / "audited.tar")
    rebuilt = case.results / "rebuilt" / "audited"
    unpack.as_recorded(archive, recorded.plan(archive, rebuilt, str(case.plan.file)), rebuilt)
    case.results = rebuilt
    case.rdp("report", str(case.plan.file))
    checks = case.audit(until="remeasuring", retrain=2, sample="d")
    assert {name: check.findings for name, check in checks.items() if check.findings} == {}
    assert checks["retraining"].checked == 2
    assert checks["remeasuring"].notes == ["recorded results hold no weights, so probes cannot be repeated"]
    archive.path.unlink()
    assert "no recorded study 'audited'" in str(case.audit(until="data")["data"].findings[0])


def test_missing_products_are_named_one_by_one(case: Case) -> None:
    shutil.rmtree(case.products)
    findings = case.findings(until="claims")
    assert findings["tables"] == [f"{case.products}/records.parquet: no such file; run: rdp collect audited"]
    assert findings["claims"] == [f"{case.products}/claims.json: no such file; run: rdp claims audited"]
    assert findings["measurements"] == [
        f"{case.products}/probes/surviving_neurons.parquet: no such file; run: rdp probe audited surviving_neurons"
    ]


def test_an_untrained_study_is_noted(case: Case) -> None:
    shutil.rmtree(case.results / "store")
    check = case.audit(until="records")["records"]
    assert check.findings == []
    assert check.checked == 0
    first = next(iter(case.plan.sweep))
    assert check.notes == [
        f"{len(case.runs) + len(case.plan.sweep)} runs not trained, as the report says; first {first}"
    ]


def test_an_audit_of_nothing_names_the_first_command(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    first = "no run of the study is trained; first: snakemake --cores all --config study="
    with pytest.raises(UserError, match=f"{empty}/audited: nothing to audit, {first}audited$"):
        audit.audit(case.plan, empty, now=0)
    monkeypatch.setattr(paths, "archives", lambda: {"audited": tmp_path / "audited.tar"})
    with pytest.raises(UserError, match=f"{first}audited, or for its recorded .* study=audited records=recorded$"):
        audit.audit(case.plan, empty, now=0)
    assert not empty.exists()


@pytest.mark.slow
def test_the_page_gives_the_command_that_retrains_runs(case: Case) -> None:
    result = audit.audit(case.plan, case.results, now=0)
    assert "<code>rdp audit audited --retrain 3</code>" in findings.render(result)
    result.about["recorded"] = True
    assert "audit --config study=audited records=recorded retrain=3</code>" in findings.render(result)


def test_bad_input_is_one_line(case: Case) -> None:
    with pytest.raises(typer.BadParameter.__base__, match="greater than or equal to 0"):
        app(["audit", str(case.plan.file), "--retrain", "-1"], standalone_mode=False)
