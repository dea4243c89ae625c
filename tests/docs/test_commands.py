"""The commands of the documentation run in a copy of the project."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from rdp.utils import sealed
from tests.docs.blocks import PAGES, ROOT, blocks, write_files
from tests.helpers.folders import write_dataset
from tests.workflow.conftest import Project, copy_project

pytestmark = pytest.mark.slow

ELSEWHERE = {entry["command"] for entry in yaml.safe_load((ROOT / "tests/docs/elsewhere.yaml").read_text())}
# These pages start in an empty project, with the files that they show.
FRESH = ("docs/index.md", "docs/adding.md", "config/README.md", "docs/data.md")
# The others use a finished study. The miniature study, with the same methods and networks, replaces it.
FINISHED = tuple(page for page in PAGES if page not in FRESH)
REPLACEMENTS = {r"\b(quick|NAME)\b": "mini", r"\bresnet56\b": "resnet20", r"\bcifar10\b": "digits"}


def walk(project: Project, *pages: str) -> str:
    """Write the files of pages, run the commands, and return their output."""
    write_files(project.root, *pages)
    commands = []
    for block in blocks(*pages):
        if block.language == "sh":
            own = [command for command in block.commands if command not in ELSEWHERE]
            commands += [(block.place, replace_study(command)) for command in own]
    assert commands
    once = {command: [place, command] for place, command in reversed(commands)}  # at its first place
    (project.root / "commands.json").write_text(json.dumps(list(reversed(once.values()))))
    done = project.run(sys.executable, str(ROOT / "tests/docs/walk.py"), "commands.json")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def replace_study(command: str) -> str:
    """The command with the miniature study, network and dataset in place of slower ones."""
    for pattern, other in REPLACEMENTS.items():
        command = re.sub(pattern, other, command)
    return command


def test_a_first_study_gives_its_report(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    assert "first: verdicts" in walk(project, "docs/index.md")
    assert len(project.digests()) == 9
    for product in ("report/index.html", "report/paper.pdf"):
        assert (project.root / "results/first" / product).stat().st_size > 10_000


def test_extensions_of_every_kind_are_used(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    output = walk(project, "docs/adding.md")
    assert re.search(r"MINE-1 .* can decide it", output)
    runs = project.digests()
    assert len(runs) == 10
    assert {run.rpartition("-")[0].rpartition("-")[0] for run in runs} == {
        "prenorm8-rings-vanilla",
        "prenorm8-rings-early_droppath",
    }
    claims = sealed.read_json(project.root / "results/mine/claims.json", "mine", "")["claims"]
    (mine,) = (claim for claim in claims if claim["name"] == "MINE-1")
    assert mine["verdicts"]["exploratory"]["verdict"] != "not tested"
    assert mine["runs_before_it"] == 0
    table = sealed.read_table(project.root / "results/mine/probes/calibration.parquet", "mine", "")[0]
    assert set(table["run"]) == set(runs)


def test_datasets_are_listed_fetched_verified_prepared_and_described(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    write_dataset(project.root / "data/flowers")
    walk(project, "docs/data.md")
    walk(project, "config/README.md")  # in a process of its own, since datasets are cached
    for name in ("digits", "flowers"):
        assert (project.root / f"results/data/{name}/manifest.json").exists()


def test_commands_on_a_finished_study(project: Project) -> None:
    output = walk(project, *FINISHED)
    assert "mini: verdicts" in output
    assert (project.root / "results/recorded/mini.tar").exists()
    assert (project.root / "results/rebuilt/mini/mini/claims.json").exists()


def test_every_page_with_commands_is_walked() -> None:
    assert {*FRESH, *FINISHED} == set(PAGES)
