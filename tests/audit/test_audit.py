"""What an audit leaves, how it ends, and how it goes on another stack and from recorded results."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from rdp import audit
from rdp.archive import recorded, unpack
from rdp.archive.pack import pack
from rdp.audit import page, repeating, runs
from rdp.cli import app
from rdp.errors import UserError
from rdp.utils import digest, paths
from tests.audit.conftest import Case


def test_the_command_tells_and_keeps_what_it_found(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    run = case.runs[0]
    path = case.store.folder(run) / "weights.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    assert case.rdp("audit", str(case.plan.file)) == 1
    told = capsys.readouterr().out
    line = f"{path}: damaged: not the file its record was made with"
    assert line in told
    assert "to know (data): spiral: generated; it has no files to verify" in told
    assert told.splitlines()[-1] == f"{case.products}/audit/index.html: 1 finding"
    kept = page.read("audited", case.results)
    assert kept["findings"] == 1
    assert [f for check in kept["checks"] for f in check["findings"]] == [
        {"where": str(path), "what": "damaged: not the file its record was made with"}
    ]
    shown = (case.products / "audit" / "index.html").read_text()
    assert "<h1>1 finding</h1>" in shown
    assert f"<code>{path}</code>: damaged: not the file its record was made with" in shown


@pytest.mark.slow
def test_an_audit_changes_nothing_but_itself(case: Case) -> None:
    def content() -> dict[str, bytes]:
        files = (path for path in case.results.rglob("*") if path.is_file() and "audit" not in path.parts)
        return {str(path): path.read_bytes() for path in files}

    before = content()
    assert case.rdp("audit", str(case.plan.file)) == 0
    assert content() == before
    assert "<h1>No findings</h1>" in (case.products / "audit" / "index.html").read_text()


def elsewhere(case: Case, points: float = 0.0) -> None:
    """Say of every record that another machine made it; of the first, with an accuracy so much higher."""

    def change(record: dict[str, Any]) -> None:
        record["telemetry"]["stack"] |= {"device": "another machine"}
        record["identity"]["stack"] = digest.of(record["telemetry"]["stack"])
        if points and record["numbers"]["test_accuracy"] is not None:
            record["numbers"]["test_accuracy"] += points

    for spec in (*case.plan.sweep.values(), *case.plan.specs):
        case.forge(spec.run, change)


@pytest.mark.slow
def test_on_another_stack_runs_are_held_to_a_tolerance(case: Case) -> None:
    elsewhere(case)
    check = case.audit(until="training again", retrain=2, sample="b")["training again"]
    assert check.findings == []
    notes = "\n".join(check.notes)
    assert "this stack is not the records': torch " in notes
    assert notes.count("(tolerance 0.") == 2


@pytest.mark.slow
def test_beyond_the_tolerance_is_a_finding(case: Case) -> None:
    elsewhere(case, points=-0.4)
    check = case.audit(until="training again", retrain=100, sample="c")["training again"]
    assert {finding.where for finding in check.findings} == set(case.runs)
    assert "trained again, on another stack, " in check.findings[0].what


def test_the_tolerance_is_the_spread_of_seeds_or_of_sampling() -> None:
    one = repeating.Tolerance.of(0.5, [[0.5]], 10_000)
    assert one.accuracy == pytest.approx(2.5758 * 2**0.5 * 0.005, rel=1e-3)
    assert one.rests_on == "the sampling of 10,000 examples"
    own = repeating.Tolerance.of(0.5, [[0.48, 0.50, 0.52]], 10_000)
    assert own.accuracy == pytest.approx(9.9248 * 2**0.5 * 0.02, rel=1e-3)  # t of 2 degrees of freedom
    assert own.rests_on == "the spread over seeds, 2 degrees of freedom"
    pooled = repeating.Tolerance.of(0.5, [[0.48, 0.50, 0.52], [0.28, 0.30, 0.32], [0.9]], 10_000)
    assert pooled.accuracy == pytest.approx(4.6041 * 2**0.5 * 0.02, rel=1e-3)
    assert repeating.Tolerance.of(0.5, [[0.5, 0.5, 0.5]], 10_000) == one


def test_a_sample_is_drawn_by_its_text(case: Case) -> None:
    read = runs.read(case.plan, case.results)
    drawn = repeating.draw(read, 3, "x")
    assert drawn == repeating.draw(read, 3, "x")
    assert len(drawn) == 3
    assert {tuple(repeating.draw(read, 3, str(i))) for i in range(20)} != {tuple(drawn)}
    assert repeating.draw(read, 1000, "x") == list(read)


@pytest.mark.slow
def test_recorded_results_are_audited_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an archive: without weights and images, and with runs that are retrained."""
    monkeypatch.chdir(case.folder)
    archive = pack(case.plan, case.results, case.folder / "results" / "recorded" / "audited.tar")
    rebuilt = case.results / "rebuilt" / "audited"
    unpack.as_recorded(archive, recorded.plan(archive, rebuilt, str(case.plan.file)), rebuilt)
    case.results = rebuilt
    case.rdp("report", str(case.plan.file))
    checks = case.audit(until="measuring again", retrain=2, sample="d")
    assert {name: check.findings for name, check in checks.items() if check.findings} == {}
    assert checks["training again"].looked_at == 2
    assert checks["measuring again"].notes == [
        "recorded results hold no weights: nothing can be measured on them again"
    ]
    archive.path.unlink()
    assert "no recorded study 'audited'" in str(case.audit(until="data")["data"].findings[0])


def test_results_that_are_not_there_are_named_one_by_one(case: Case) -> None:
    shutil.rmtree(case.products)
    found = case.findings(until="claims")
    assert found["tables"] == [f"{case.products}/records.parquet: no such file; run: rdp collect audited"]
    assert found["claims"] == [f"{case.products}/claims.json: no such file; run: rdp claims audited"]
    assert found["measurements"] == [
        f"{case.products}/probes/surviving_neurons.parquet: no such file; run: rdp probe audited surviving_neurons"
    ]


def test_a_study_of_which_nothing_is_trained_says_so(case: Case) -> None:
    shutil.rmtree(case.results / "store")
    check = case.audit(until="records")["records"]
    assert check.findings == []
    assert check.looked_at == 0
    first = next(iter(case.plan.sweep))
    assert check.notes == [f"{len(case.runs) + 4} runs not trained, which the report says too; first {first}"]


def test_where_there_is_nothing_an_audit_says_what_to_do_first(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    first = "no run of the study is trained yet; first: snakemake --cores all --config study="
    with pytest.raises(UserError, match=f"{empty}/audited: nothing to audit, {first}audited$"):
        audit.audit(case.plan, empty, now=0)
    monkeypatch.setattr(paths, "archives", lambda: {"audited": tmp_path / "audited.tar"})
    with pytest.raises(UserError, match=f"{first}audited, or for its recorded .* study=audited records=recorded$"):
        audit.audit(case.plan, empty, now=0)
    assert not empty.exists()


@pytest.mark.slow
def test_the_page_tells_how_runs_are_trained_again(case: Case) -> None:
    found = audit.audit(case.plan, case.results, now=0)
    assert "<code>rdp audit audited --retrain 3</code>" in page.render(found)
    found.about["recorded"] = True
    assert "audit --config study=audited records=recorded retrain=3</code>" in page.render(found)


def test_bad_input_is_one_line(case: Case) -> None:
    with pytest.raises(typer.BadParameter.__base__, match="greater than or equal to 0"):
        app(["audit", str(case.plan.file), "--retrain", "-1"], standalone_mode=False)
