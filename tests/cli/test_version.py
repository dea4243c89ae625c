"""`rdp --version` names the distribution, which differs from the import name."""

import sys
from importlib import metadata

import pytest

from rdp import cli


def run(capsys, monkeypatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["rdp", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return (done.value.code, *capsys.readouterr())


def test_it_is_shown_and_nothing_else(capsys, monkeypatch):
    version = metadata.version("residual-droppath")
    assert run(capsys, monkeypatch, "--version") == (0, f"residual-droppath {version}\n", "")
    assert run(capsys, monkeypatch, "-v", "--version", "plan") == (0, f"residual-droppath {version}\n", "")


def test_it_is_no_option_of_the_commands(capsys, monkeypatch):
    status, out, said = run(capsys, monkeypatch, "schema", "--version")
    assert (status, out) == (2, "")
    assert said.startswith("rdp: No such option: --version")
