"""The target `crate` packs a finished study as a research object."""

from pathlib import Path

import pytest

from tests.provenance import validator
from tests.workflow.conftest import DRY_RUN, Project


@pytest.mark.slow
def test_the_target_crate_writes_a_research_object(project: Project) -> None:
    done = project.run(*DRY_RUN, "crate", "--config", "study=mini")
    said = done.stdout + done.stderr
    assert "rule write_crate:" in said
    assert "rule train_cell:" not in said


@pytest.mark.slow
def test_it_is_valid_and_reproduces_the_report(project: Project, tmp_path: Path) -> None:
    done = project.snakemake("crate")
    assert done.returncode == 0, done.stdout + done.stderr
    packed = project.root / "results/mini/crate"
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    found = validator.validate(packed, validator.fill(tmp_path / "cache"))
    assert (found["passed"], found["issues"]) == (True, [])
    again = project.snakemake("crate")
    assert "Nothing to be done" in again.stdout + again.stderr
    by_hand = project.run("rdp", "crate", "mini")
    assert by_hand.returncode == 0, by_hand.stderr
    assert {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()} == before

    file = "results/mini/crate/recorded/mini.tar"
    assert project.run("rdp", "unpack", file, "--recorded", "--to", "again").returncode == 0
    made = project.run("rdp", "report", "again/mini.yaml", RDP_RESULTS="again")
    assert made.returncode == 0, made.stderr
    assert (project.root / "again/mini/claims.json").read_bytes() == (packed / "claims.json").read_bytes()
    figure = "figures/accuracy.svg"
    assert (project.root / "again/mini" / figure).read_bytes() == (packed / figure).read_bytes()
