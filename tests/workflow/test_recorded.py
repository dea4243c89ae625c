"""A study that is recorded here, and its report made again in a project that trained nothing."""

import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import DRY_RUN, Project, copy_project

RECORDED = ("--config", "study=mini", "records=recorded")


@pytest.fixture
def fresh(project: Project, tmp_path: Path) -> Project:
    """A project with the archive of the finished study, and no result, no data and no study file of its own."""
    done = project.run("rdp", "pack", "mini")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("results/recorded/mini.tar: 14 runs, ")
    other = copy_project(tmp_path / "fresh")
    other.study.unlink()
    shutil.copyfile(project.root / "results/recorded/mini.tar", other.root / "results/recorded/mini.tar")
    return other


@pytest.mark.slow
def test_nothing_is_trained_measured_or_fetched(fresh: Project) -> None:
    done = fresh.run(*DRY_RUN, *RECORDED)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "rule unpack_recorded:" in said
    assert "rule write_report:" in said
    for rule in ("train", "tune", "prepare", "measure"):
        assert f"rule {rule}" not in said
    path = fresh.root / "results/recorded/mini.tar"
    path.write_bytes(path.read_bytes()[:-1])
    done = fresh.run("snakemake", "-n", *RECORDED)
    assert done.returncode != 0
    assert "results/recorded/mini.tar: damaged: " in done.stdout + done.stderr
    done = fresh.run("rdp", "unpack", "mini")
    assert done.returncode == 2
    assert done.stderr.startswith("rdp: results/recorded/mini.tar: damaged: ")
    assert done.stderr.count("\n") == 1
    assert not (fresh.root / "results/rebuilt").exists()


@pytest.mark.slow
def test_an_unknown_kind_of_records_is_rejected(fresh: Project) -> None:
    done = fresh.run("snakemake", "-n", "--config", "study=mini", "records=record")
    assert done.returncode != 0
    assert "--config records=record: did you mean 'recorded'?" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_rebuilt_report_says_that_its_results_are_recorded(fresh: Project, finished: Project) -> None:
    archive = {path: path.read_bytes() for path in fresh.root.glob("results/recorded/**/*") if path.is_file()}
    done = fresh.run("snakemake", "--cores", "2", *RECORDED)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = fresh.root / "results/rebuilt/mini/mini", finished.root / "results/mini"
    same = [*theirs.glob("*.parquet"), *theirs.glob("*/*.parquet"), *theirs.glob("tables/*"), theirs / "claims.json"]
    same += theirs.glob("figures/*")
    assert len(same) > 30
    for path in same:
        assert (ours / path.relative_to(theirs)).read_bytes() == path.read_bytes(), path
    page = (ours / "report/index.html").read_text()
    assert "Recorded results." in page
    assert "The training code of this checkout is the code that trained them." in page
    assert "Recorded results." in (ours / "report/paper.typ").read_text()
    assert "Recorded results." not in (theirs / "report/index.html").read_text()
    assert {path: path.read_bytes() for path in fresh.root.glob("results/recorded/**/*") if path.is_file()} == archive
    assert sorted(path.name for path in (fresh.root / "results").iterdir()) == ["rebuilt", "recorded"]
    again = fresh.run("snakemake", "--cores", "2", *RECORDED)
    assert "Nothing to be done" in again.stdout + again.stderr
    audited = fresh.run("snakemake", "--cores", "2", "audit", *RECORDED)
    assert audited.returncode == 0, audited.stdout + audited.stderr

    # A checkout whose methods are newer says so, and shows the recorded numbers.
    fresh.edit("rdp/methods/schedules/droppath.py", ">= rates[:, None]", "> rates[:, None]")
    by_hand = fresh.run("rdp", "report", "results/rebuilt/mini/mini.yaml", RDP_RESULTS="results/rebuilt/mini")
    assert by_hand.returncode == 0, by_hand.stderr
    page = (ours / "report/index.html").read_text()
    assert "differs from the code that trained 2 of the 14 runs" in page
    assert (ours / "claims.json").read_bytes() == (theirs / "claims.json").read_bytes()
    refused = fresh.run("rdp", "train", "results/rebuilt/mini/mini.yaml", RDP_RESULTS="results/rebuilt/mini")
    assert refused.returncode == 2
    assert "holds recorded results" in refused.stderr
