"""The commands of the documentation, run as they stand in a copy of the project."""

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
FRESH = ("docs/index.md", "docs/adding.md", "config/README.md", "docs/data.md")  # from nothing, with files of their own
# The others speak of a finished study. Its place is taken by the miniature one, which has its methods and networks.
FINISHED = tuple(page for page in PAGES if page not in FRESH)
INSTEAD = {r"\b(quick|NAME)\b": "mini", r"\bresnet56\b": "resnet20", r"\bcifar10\b": "digits"}


def walk(project: Project, *pages: str) -> str:
    """Put the files of some pages where their titles say, and run the commands; what was said."""
    write_files(project.root, *pages)
    commands = []
    for block in blocks(*pages):
        if block.language == "sh":
            commands += [(block.place, instead(command)) for command in block.commands if command not in ELSEWHERE]
    assert commands
    once = {command: [place, command] for place, command in reversed(commands)}  # where it stands first
    told = json.dumps(list(reversed(once.values())))
    (project.root / "commands.json").write_text(told)
    done = project.run(sys.executable, str(ROOT / "tests/docs/walk.py"), "commands.json")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def instead(command: str) -> str:
    """The command as it is run: where it names a study that takes minutes, with the miniature one's name."""
    for what, other in INSTEAD.items():
        command = re.sub(what, other, command)
    return command


def test_a_first_study_comes_to_its_report(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    assert "first: verdicts" in walk(project, "docs/index.md")
    assert len(project.digests()) == 9
    for product in ("report/index.html", "report/paper.pdf"):
        assert (project.root / "results/first" / product).stat().st_size > 10_000


def test_what_is_added_is_one_file_each_and_is_used(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    said = walk(project, "docs/adding.md")
    assert re.search(r"MINE-1 .* can decide it", said)
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


def test_data_are_listed_fetched_verified_prepared_and_described(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    write_dataset(project.root / "data/flowers")
    walk(project, "docs/data.md")
    walk(project, "config/README.md")  # a process has seen all datasets when it has seen one
    for name in ("digits", "flowers"):
        assert (project.root / f"results/data/{name}/manifest.json").exists()


def test_what_is_said_of_a_finished_study(project: Project) -> None:
    said = walk(project, *FINISHED)
    assert "mini: verdicts" in said
    assert (project.root / "results/recorded/mini.tar").exists()
    assert (project.root / "results/rebuilt/mini/mini/claims.json").exists()


def test_every_page_with_commands_is_walked() -> None:
    assert {*FRESH, *FINISHED} == set(PAGES)
