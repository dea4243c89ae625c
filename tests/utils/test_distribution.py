"""The name and extras of the installed distribution, and the message of a missing extra."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from rdp.cli import app as cli
from rdp.utils import distribution

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PYPROJECT["optional-dependencies"]


@pytest.mark.parametrize("extra", OPTIONAL)
def test_every_optional_package_belongs_to_an_extra(extra):
    for name in (Requirement(text).name for text in OPTIONAL[extra]):
        if name != distribution.NAME:
            assert distribution.extra_of(name) == extra
            assert distribution.extra_of(f"{name}.part") == extra


def test_other_packages_belong_to_no_extra():
    for name in (*(Requirement(text).name for text in PYPROJECT["dependencies"]), "numpy.random", "unheard_of", ""):
        assert distribution.extra_of(name) is None


def run(monkeypatch, capsys, missing: str) -> tuple[int, str]:
    def command(**options):
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(cli, "command", command)
    monkeypatch.setattr(sys, "argv", ["rdp", "report", "quick"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr().err


def test_a_command_whose_extra_is_missing_exits_with_status_2(monkeypatch, capsys):
    """The real thing, in an environment without them, is in test_wheel.py."""
    message = (
        "rdp: rdp report needs the packages of residual-droppath[report]: pip install 'residual-droppath[report]'\n"
    )
    assert run(monkeypatch, capsys, "matplotlib.axes") == (2, message)


def test_a_missing_package_of_no_extra_is_raised(monkeypatch, capsys):
    with pytest.raises(ModuleNotFoundError):
        run(monkeypatch, capsys, "unheard_of")


@pytest.mark.parametrize(
    ("content", "command"),
    [
        ("def rdp(points, epsilon=0): ...\n", ["-m", "rdp.cli", "plan", "quick"]),
        ("def rdp(points, epsilon=0): ...\n", ["-c", "import rdp.models.units"]),
        (None, ["-S", "-c", "import rdp.errors"]),  # without site-packages, which has a whole package
    ],
    ids=["command", "library", "removed"],
)
def test_another_package_called_rdp_in_the_same_folder_is_named(content, command, run_python, tmp_path):
    """As pip leaves the folder: the package on PyPI has the file rdp/__init__.py, too."""
    (tmp_path / "rdp").mkdir()
    for path in (ROOT / "rdp").iterdir():
        if path.name not in {"__init__.py", "__pycache__"}:
            (tmp_path / "rdp" / path.name).symlink_to(path)
    if content is not None:
        (tmp_path / "rdp/__init__.py").write_text(content)
    done = run_python(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert line.startswith("ImportError: ")
    assert str(tmp_path / "rdp") in line
    assert "pip uninstall rdp; pip install --force-reinstall --no-deps residual-droppath" in line


def test_the_name_is_that_of_the_installed_distribution():
    assert PYPROJECT["name"] == distribution.NAME
    assert distribution.version() == PYPROJECT["version"]
