"""`--verbose` and `--quiet` before or after any command set what is logged."""

import logging
import sys

import pytest

from rdp.cli import app as cli
from rdp.utils import console


@pytest.fixture(autouse=True)
def _same_level_afterwards():
    yield
    console.configure_logging()


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("schema", logging.INFO),
        ("-v schema", logging.DEBUG),
        ("schema --verbose", logging.DEBUG),
        ("-q schema", logging.WARNING),
        ("--quiet schema", logging.WARNING),
        ("schema -q", logging.WARNING),
        ("schema -qq", logging.ERROR),
        ("data list -q", logging.WARNING),
        ("data -v list", logging.DEBUG),
    ],
)
def test_an_option_sets_the_level_wherever_it_is_typed(words, level, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RDP_RESULTS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["rdp", *words.split()])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    assert capsys.readouterr().out
    assert logging.getLogger("rdp").level == level


@pytest.mark.parametrize("words", [["data"], ["store"], [*cli.command.commands]])
def test_every_command_takes_both(words):
    groups = [cli.command, *(cli.command.commands[word] for word in words)]
    for group in groups:
        options = {option for parameter in group.params for option in parameter.opts}
        assert {"--verbose", "-v", "--quiet", "-q"} <= options, group.name
