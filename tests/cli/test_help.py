"""`rdp --help` shows every command in its group, with one full sentence on one line of 80 columns."""

import re

import pytest

from rdp.cli import app as cli

COMMANDS = [
    *((name,) for name in cli.command.commands),
    *((name, below) for name in ("store", "data") for below in cli.command.commands[name].commands),
]


@pytest.fixture
def help_of(run_python):
    """Return the help of a command as a terminal of 80 columns shows it."""

    def show(*words: str) -> str:
        done = run_python("-m", "rdp.cli", *words, "--help", COLUMNS="80", TERM="dumb", NO_COLOR="1")
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return show


def rows(text: str) -> dict[str, dict[str, str]]:
    """Return the lines of each panel by its title, split into the first word and the rest."""
    panels: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if title := re.match(r"╭─ (.+?) ─+╮$", line):
            panel = panels[title[1]] = {}
        elif row := re.match(r"│ (\S+) +(.*?) +│$", line):
            panel[row[1]] = row[2]
    return panels


def test_commands_are_grouped(help_of):
    panels = rows(help_of())
    assert list(panels) == ["Options", *cli.PANELS]
    assert {panel: tuple(commands) for panel, commands in panels.items() if panel != "Options"} == cli.PANELS


@pytest.mark.parametrize("words", [(), ("store",), ("data",)], ids="-".join)
def test_every_command_has_one_full_sentence_on_one_line(words, help_of):
    text = help_of(*words)
    assert "…" not in text
    assert max(map(len, text.splitlines())) == 80
    names = {names[-1] for names in COMMANDS if names[:-1] == words}
    sentences = {name: text for panel in rows(text).values() for name, text in panel.items() if name in names}
    assert sentences.keys() == names
    for name, sentence in sentences.items():
        assert re.fullmatch(r"[A-Z][^.]+(\.\w[^.]*)*\.", sentence), f"{name}: {sentence}"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command_is_made_of_sentences(words):
    command = cli.command
    for name in words:
        command = command.commands[name]
    for parameter in command.params:
        assert re.fullmatch(r"(?s)\S.*\.", parameter.help or ""), f"{' '.join(words)} {parameter.name}"
