"""Every block of the documentation is run by a test here or by one that elsewhere.yaml names."""

import doctest
import re
import shlex
import warnings
from typing import Any

import pytest
import torch
import yaml
from pydantic import BaseModel

from rdp import study
from rdp.claims.model import Claim, Part
from rdp.cli import app as cli
from rdp.methods import method_class
from rdp.methods.options import PnnhOptions
from rdp.spec import Recipe
from rdp.study.schema import Study
from tests.docs.blocks import PAGES, ROOT, Block, blocks

ELSEWHERE = yaml.safe_load((ROOT / "tests/docs/elsewhere.yaml").read_text())
RUN = {"sh", "python", "pycon", "yaml", "toml"}  # by test_commands.py, this file, and tests/library/test_wheel.py
PROGRAMS = "rdp|snakemake|make|pip|python|pytest|rocrate-validator|.ci/run"
NOT_RUN = {"make lock", "snakemake --sdm conda"}  # the first asks for the newest versions, the second needs Conda
EXTRAS = {"docs/lightning.md": "lightning", "docs/transformers.md": "transformers", "docs/accelerate.md": "accelerate"}
DROPPING = ("droppath", "droppath_batch", "random_freeze", "residual_droppath")
COMMANDS = [(block.place, command) for block in blocks(*PAGES) if block.language == "sh" for command in block.commands]


def test_every_block_is_of_a_language_that_a_test_runs() -> None:
    before: Block | None = None
    for block in blocks(*PAGES):
        # A text block is the output of the Python block before it.
        shown = block.language == "text" and before is not None and before.language == "python"
        assert block.language in RUN or shown, f"{block.place}: no test runs '{block.language}'"
        before = block
    assert len(COMMANDS) > 40


def test_commands_run_elsewhere_are_run_there() -> None:
    commands = {command for _, command in (*COMMANDS, *in_prose())}
    assert len({entry["command"] for entry in ELSEWHERE}) == len(ELSEWHERE) == 36
    for entry in ELSEWHERE:
        assert entry["command"] in commands, f"{entry['command']}: no page has it"
        assert entry["holds"] in (ROOT / entry["file"]).read_text(), f"{entry['command']}: not in {entry['file']}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))])
def test_python_blocks_run_and_print_what_is_shown(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)  # parallel tests use the other cores
    if page in EXTRAS:
        pytest.importorskip(EXTRAS[page])
        warnings.simplefilter("ignore")  # their advice about loaders and clusters
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        if block.language == "text":
            assert printed == block.text, block.place
        elif block.language == "python" and block.title is None:
            exec(compile("\n" * block.line + block.text, ROOT / page, "exec"), names)
            printed = capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "pycon" for b in blocks(page))])
def test_python_sessions_answer_what_is_shown(page: str) -> None:
    session = "".join(block.text for block in blocks(page) if block.language == "pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, page, page, 0)
    assert len(test.examples) > 3
    assert doctest.DocTestRunner().run(test).failed == 0


def test_study_files_are_valid(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [block for block in blocks(*PAGES) if block.language == "yaml"]
    for block in shown:
        if block.title is None:
            (tmp_path / "shown.yaml").write_text(block.text)
            assert study.load("shown.yaml").cells, block.place
    assert len(shown) > 3


def in_prose() -> list[tuple[str, str]]:
    """Commands between backticks."""
    commands = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
        commands += [(page, command) for command in re.findall(rf"`((?:{PROGRAMS}) [^`]+)`", text)]
    return commands


def test_commands_of_other_programs_in_prose_are_run() -> None:
    run = {command for _, command in COMMANDS} | {entry["command"] for entry in ELSEWHERE} | NOT_RUN
    others = [(page, command) for page, command in in_prose() if not command.startswith("rdp ")]
    assert [f"{page}: {command}" for page, command in others if command not in run] == []
    assert {command for _, command in others} >= NOT_RUN


def test_rdp_commands_and_their_options_exist() -> None:
    shown = [(place, command) for place, command in (*in_prose(), *COMMANDS) if command.startswith("rdp ")]
    assert len(shown) > 40
    for place, text in shown:
        words, command = shlex.split(text)[1:], cli.command
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"{place}: {text}"
            command, words = command.commands[words[0]], words[1:]
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for word in words:
            assert not word.startswith("--") or word in options, f"{place}: {text}: no option {word}"


def test_the_page_of_commands_lists_every_command() -> None:
    shown = {command for page, command in in_prose() if page == "docs/commands.md"}
    for name, command in cli.command.commands.items():
        below = getattr(command, "commands", None)
        assert any(text.startswith(f"rdp {name} ") or text == f"rdp {name}" for text in shown), name
        text = (ROOT / "docs/commands.md").read_text()
        assert [other for other in below or () if not re.search(rf"\b{other}\b", text)] == []


@pytest.mark.parametrize("model", [Study, Recipe, *map(method_class, DROPPING), PnnhOptions, Claim, Part])
def test_the_page_of_studies_lists_every_key(model: type[BaseModel]) -> None:
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "config/README.md").read_text(), re.M)
    listed = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert set(model.model_fields) - {"path"} <= listed
