"""PyPI's other ``rdp`` (Ramer-Douglas-Peucker) installs its only module over ours, and ours over its.

Both are laid out here as pip leaves them; the other one by the names of its files and of its functions.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

THEIRS = "def rdp(M, epsilon=0, dist=None, algo='iter', return_mask=False):\n    return M\n"


@pytest.fixture
def site(tmp_path, root) -> Path:
    """A folder of installed packages with ours."""
    shutil.copytree(root / "rdp", tmp_path / "site/rdp", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "site/residual_droppath-0.1.0.dist-info").mkdir()
    return tmp_path / "site"


@pytest.fixture
def say(site, tmp_path, run_python) -> Callable[..., tuple[int, str]]:
    """Run a program that imports from the folder, and return its status and what it writes to standard error."""

    def run(program: str, *options: str) -> tuple[int, str]:
        done = run_python(*options, "-c", program, cwd=tmp_path, PYTHONPATH=str(site))
        return done.returncode, done.stderr

    return run


def test_alone_ours_says_nothing(say):
    assert say("import rdp; rdp.UserError, rdp.list_models") == (0, "")


@pytest.mark.parametrize("name", ["rdp-0.8.dist-info", "rdp-0.8-py3.11.egg-info"])
def test_ours_over_theirs_warns_and_works(name, say, site):
    (site / name).mkdir()
    status, said = say("import rdp; assert rdp.list_models()")
    assert status == 0
    assert said.count("UserWarning") == 1
    assert f"{site}/rdp/__init__.py: residual-droppath was installed over another package named 'rdp' ({name})" in said
    assert "pip uninstall rdp" in said
    status, said = say("from rdp import rdp")
    assert status == 1
    assert "ImportError: cannot import name 'rdp'" in said


@pytest.mark.parametrize("program", ["import rdp.cli.app", "from rdp.models import Network", "import rdp.utils.paths"])
def test_theirs_over_ours_is_named_by_every_module_of_ours(program, say, site):
    (site / "rdp/__init__.py").write_text(THEIRS)
    (site / "rdp-0.8.dist-info").mkdir()
    status, said = say(program)
    told = "another package named 'rdp' was installed over residual-droppath, or uninstalled from its folder; run: pip"
    assert status == 1
    assert said.splitlines()[-1].startswith(f"ImportError: {site}/rdp/__init__.py: {told}")


def test_ours_without_its_first_file_is_refused(say, site):
    """As when theirs was uninstalled, and took the file that both own."""
    (site / "rdp/__init__.py").unlink()
    status, said = say("from rdp.errors import UserError", "-S")  # a checkout that is installed would be found
    assert status == 1
    assert "or uninstalled from its folder; run: pip uninstall rdp; pip install --force-reinstall" in said
