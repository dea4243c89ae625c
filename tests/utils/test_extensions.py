"""The user's own files are found, named when they are broken, and part of the code digest of their cells alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rdp.utils import paths

EXAMPLES = paths.ROOT / "docs" / "examples"
PLACES = {
    "early_droppath.py": "methods",
    "prenorm_mlp.py": "architectures",
    "rings.py": "datasets",
    "calibration.py": "probes",
    "calibration_error.py": "metrics",
    "reliability.py": "figures",
    "claims.yaml": "claims",
}
AVAILABLE = """
import json
from rdp import data, methods, models, probes
from rdp.claims import metrics, model
from rdp.report import plots
names = {
    "methods": methods.available(), "architectures": models.architectures(), "datasets": data.available(),
    "probes": probes.available(), "metrics": metrics.available(), "figures": plots.available(),
    "claims": model.load().claims,
}
print(json.dumps({kind: list(listed) for kind, listed in names.items()}))
"""
DIGESTS = """
import json
from rdp.store import fingerprint
cells = [("vanilla", "mlp8"), ("early_droppath", "mlp8"), ("vanilla", "prenorm8")]
print(json.dumps({" ".join(cell): fingerprint.code_digest(*cell, "spiral") for cell in cells}))
"""


def place(folder: Path) -> None:
    """Put the examples of the documentation where docs/adding.md puts them, below a folder of extensions."""
    for name, kind in PLACES.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(EXAMPLES / name, folder / kind / name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with the examples and the study that uses them."""
    place(tmp_path / "extensions")
    shutil.copyfile(EXAMPLES / "mine.yaml", tmp_path / "mine.yaml")
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of installed packages with one that has the examples and an entry point."""
    site = tmp_path / "site"
    place(site / "theirs")
    (site / "theirs/__init__.py").touch()
    (site / "theirs-1.0.dist-info").mkdir()
    (site / "theirs-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info/entry_points.txt").write_text("[rdp.extensions]\ntheirs = theirs\n")
    return site


@pytest.fixture
def digests(run_python) -> Callable[..., dict[str, str]]:
    """Return the code digests of some cells, as a process in a folder computes them."""

    def compute(folder: Path, **environment: str) -> dict[str, str]:
        done = run_python("-c", DIGESTS, cwd=folder, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return compute


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the cells whose digests differ."""
    return {cell for cell in before if before[cell] != after[cell]}


NAMES = {
    "methods": "early_droppath",
    "architectures": "prenorm8",
    "datasets": "rings",
    "probes": "calibration",
    "metrics": "calibration_error",
    "figures": "reliability",
    "claims": "MINE-1",
}


def test_every_kind_is_found_in_the_working_directory(home, run_python, tmp_path):
    (tmp_path / "extensions/methods/_helper.py").write_text("RATE = 0.1\n")
    listed = json.loads(run_python("-c", AVAILABLE, cwd=home).stdout)
    assert {kind for kind, name in NAMES.items() if name in listed[kind]} == set(NAMES)
    assert "_helper" not in listed["methods"]
    (tmp_path / "elsewhere").mkdir()
    without = json.loads(run_python("-c", AVAILABLE, cwd=tmp_path / "elsewhere").stdout)
    assert not [kind for kind, name in NAMES.items() if name in without[kind]]


def test_every_kind_is_found_in_a_package_with_an_entry_point(installed, run_python, tmp_path):
    done = run_python("-c", AVAILABLE, cwd=tmp_path, PYTHONPATH=str(installed))
    listed = json.loads(done.stdout)
    assert {kind for kind, name in NAMES.items() if name in listed[kind]} == set(NAMES)


@pytest.mark.slow
def test_an_entry_point_of_no_package_is_named(installed, run_python, tmp_path):
    (installed / "theirs-1.0.dist-info/entry_points.txt").write_text("[rdp.extensions]\nours = nowhere.at_all\n")
    done = run_python("-m", "rdp.cli", "plan", "quick", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "entry point ours in rdp.extensions: nowhere.at_all is not an installed package" in done.stderr


def test_a_broken_file_does_not_end_in_a_traceback(home, run_python):
    path = home / "extensions/methods/early_droppath.py"
    path.write_text("x = 1\ny = z\n")
    done = run_python("-m", "rdp.cli", "plan", "mine.yaml", cwd=home)
    assert done.returncode == 2
    assert done.stderr == f"rdp: {path}: line 2: NameError: name 'z' is not defined\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("methods/early_droppath.py", "def", "SyntaxError: invalid syntax (early_droppath.py, line 1)"),
        ("methods/early_droppath.py", "import nothing_such", "No module named 'nothing_such'"),
        ("methods/early_droppath.py", "x = 1", "defines 0 subclasses of Method; define exactly one"),
        ("methods/vanilla.py", "x = 1", "the name is taken by"),
        ("methods/My_Own.py", "x = 1", "rename the file to lower-case letters, digits and underscores"),
        ("architectures/prenorm_mlp.py", "x = (", "SyntaxError: '(' was never closed (<unknown>, line 1)"),
        ("architectures/prenorm_mlp.py", "ARCHITECTURES = {}", "defines no INPUT"),
        ("architectures/prenorm_mlp.py", "ARCHITECTURES = dict()", "ARCHITECTURES must be a literal"),
        ("architectures/more.py", "INPUT = 'vector'\nARCHITECTURES = {'mlp8': {}}", "architecture mlp8 is already in"),
        ("datasets/rings.py", "1 / 0", "line 1: ZeroDivisionError: division by zero"),
        ("datasets/rings.py", "x = 1", "defines no DATASETS"),
        ("metrics/calibration_error.py", "import nothing_such", "line 1: ModuleNotFoundError: No module named"),
    ],
)
def test_a_broken_file_is_named_in_one_line(file, text, reason, home, run_python):
    path = home / "extensions" / file
    path.write_text(text)
    done = run_python("-m", "rdp.cli", "plan", "mine.yaml", cwd=home)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"rdp: {path}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_broken_probe_is_named_in_one_line(home, run_python):
    path = home / "extensions/probes/calibration.py"
    path.write_text("COLUMNS = ()")
    done = run_python("-m", "rdp.cli", "probe", "mine.yaml", "calibration", cwd=home)
    assert (done.returncode, done.stderr) == (2, f"rdp: {path}: defines no measure\n")


def test_a_changed_file_changes_the_digest_of_its_cells_alone(home, digests):
    before = digests(home)
    method, family = (
        home / "extensions" / name for name in ("methods/early_droppath.py", "architectures/prenorm_mlp.py")
    )
    method.write_text(f"# a comment\n{method.read_text()}")
    assert changed(before, digests(home)) == set()
    method.write_text(method.read_text().replace("step >= self.until", "step > self.until"))
    after = digests(home)
    assert changed(before, after) == {"early_droppath mlp8"}
    family.write_text(family.read_text().replace("nn.ReLU()", "nn.GELU()"))
    assert changed(after, digests(home)) == {"vanilla prenorm8"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["from ._share import HALF", "from . import _share", "from rdp.methods.schedules import _share"]
)
def test_a_changed_helper_changes_the_digest(line, home, digests):
    helper, method = (home / "extensions/methods" / name for name in ("_share.py", "early_droppath.py"))
    helper.write_text("HALF = 0.5\n")
    method.write_text(method.read_text().replace("from rdp.methods import", f"{line}\nfrom rdp.methods import"))
    before = digests(home)
    helper.write_text("HALF = 0.25\n")
    assert changed(before, digests(home)) == {"early_droppath mlp8"}


@pytest.mark.slow
def test_the_digest_covers_what_a_package_in_development_imports(home, digests, tmp_path):
    library, method = tmp_path / "lib/mylib/part.py", home / "extensions/methods/early_droppath.py"
    library.parent.mkdir(parents=True)
    (library.parent / "__init__.py").touch()
    library.write_text("HALF = 0.5\n")
    method.write_text(
        method.read_text().replace("from rdp.methods import", "from mylib.part import HALF\nfrom rdp.methods import")
    )
    before = digests(home, PYTHONPATH=str(tmp_path / "lib"))
    library.write_text("HALF = 0.25\n")
    assert changed(before, digests(home, PYTHONPATH=str(tmp_path / "lib"))) == {"early_droppath mlp8"}


@pytest.mark.slow
def test_a_file_has_the_same_digest_in_a_package_and_in_the_working_directory(home, installed, digests, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert digests(elsewhere, PYTHONPATH=str(installed)) == digests(home)
