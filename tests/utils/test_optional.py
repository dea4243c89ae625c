"""A command whose packages are not installed says in one line what to install."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rdp import cli
from rdp.utils import optional

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
OPTIONAL = PYPROJECT["optional-dependencies"]


@pytest.mark.parametrize("extra", OPTIONAL)
def test_every_optional_package_is_told_by_its_extra(extra):
    for name in (Requirement(text).name for text in OPTIONAL[extra]):
        if name != "rdp":
            assert optional.extra_of(name) == extra
            assert optional.extra_of(f"{name}.part") == extra


def test_others_have_none():
    for name in (*(Requirement(text).name for text in PYPROJECT["dependencies"]), "numpy.random", "unheard_of", ""):
        assert optional.extra_of(name) is None


def run(monkeypatch, capsys, missing: str) -> tuple[int, str]:
    def command(**options):
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(cli, "app", command)
    monkeypatch.setattr(sys, "argv", ["rdp", "report", "quick"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr().err


def test_a_command_that_needs_them_ends_with_status_2(monkeypatch, capsys):
    """The real thing, in an environment without them, is in test_wheel.py."""
    told = "rdp: rdp report needs the packages of rdp[report]: pip install 'rdp[report]'\n"
    assert run(monkeypatch, capsys, "matplotlib.axes") == (2, told)


def test_a_package_that_no_extra_has_stays_an_error(monkeypatch, capsys):
    with pytest.raises(ModuleNotFoundError):
        run(monkeypatch, capsys, "unheard_of")
