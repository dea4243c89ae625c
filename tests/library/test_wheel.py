"""The built wheel in a clean environment: the library, then the extras, then the user's extensions."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdp.archive.pack import pack
from tests.claims.conftest import AS_CLAIMED
from tests.docs.blocks import blocks, write_files
from tests.helpers.planting import SHORT, load, plant

ROOT = Path(__file__).parents[2]
HEAVY = {"snakemake", "seaborn", "matplotlib", "pandas", "pyarrow", "typst"}
pytestmark = pytest.mark.slow


class Clean:
    """A virtual environment with nothing but what its wheel asks for, in the lock's versions."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "venv/bin"
        self.wheel = self._build()
        self._uv("venv", "--python", sys._base_executable, folder / "venv")

    def _build(self) -> Path:
        words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", self.folder / "dist"]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = (self.folder / "dist").glob("*.whl")
        return wheel

    def _uv(self, *words: str | Path) -> str:
        done = subprocess.run([sys.executable, "-m", "uv", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, extra: str = "") -> set[str]:
        """Install the wheel, and tell what is there then."""
        python = ("--python", self.bin / "python")
        constraint = ("--constraint", ROOT / "envs/requirements.lock")
        self._uv("pip", "install", *python, *constraint, f"{self.wheel}{extra}")
        return {line.split("==")[0] for line in self._uv("pip", "list", "--format", "freeze", *python).splitlines()}

    def run(self, *words: str, folder: str = "home", **env: str) -> subprocess.CompletedProcess:
        """A program of the environment, in a folder far from the checkout."""
        home = self.folder / folder
        home.mkdir(exist_ok=True)
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("RDP_", "PYTHON"))}
        environment = bare | {"PATH": f"{self.bin}:{os.environ['PATH']}"} | env
        program = [str(self.bin / words[0]), *words[1:]]
        return subprocess.run(program, cwd=home, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Clean:
    """With core dependencies alone."""
    made = Clean(tmp_path_factory.mktemp("clean"))
    assert not made.install() & HEAVY
    return made


@pytest.mark.parametrize(
    "page", ["docs/loop.md", "docs/pnnh.md", "docs/library.md", "docs/timm.md", "docs/torchvision.md"]
)
def test_the_examples_of_the_library_need_no_extra(clean, page):
    """As they stand, one after another; what they print is compared by tests/docs."""
    code = "\n".join(block.text for block in blocks(page) if block.language == "python")
    assert "rdp" in code
    done = clean.run("python", "-W", "error", "-c", f"import torch\ntorch.set_num_threads(1)\n{code}\nprint('walked')")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("walked\n")


def test_a_study_is_planned_and_trained_and_its_weights_are_exported(clean):
    planned = clean.run("rdp", "plan", "digits")
    assert planned.returncode == 0, planned.stderr
    assert "mlp32/spiral/vanilla" in planned.stdout
    run = "mlp32/spiral/residual_droppath/seed-0000"
    trained = clean.run("rdp", "train", "digits", run)
    assert trained.returncode == 0, trained.stderr
    assert "completed test accuracy" in trained.stderr
    written = clean.run("rdp", "weights", "digits", run, "--to", "spiral.safetensors")
    assert written.returncode == 0, written.stderr
    loaded = clean.run("python", "-c", written.stdout + "import torch; print(*model(torch.zeros(3, 2)).shape)")
    assert loaded.stdout == "3 2\n", loaded.stderr


def test_runs_are_packed_and_unpacked(clean):
    packed = clean.run("rdp", "pack", "digits", "--to", "digits.tar")
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.startswith("digits.tar: 1 run, ")
    done = clean.run("rdp", "unpack", "digits.tar", "--to", "site")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 run added, ")


@pytest.mark.parametrize("command", ["claims quick", "report quick", "probe quick coders", "watch quick"])
def test_a_command_names_the_extra_that_it_needs(clean, command):
    done = clean.run("rdp", *command.split())
    name = command.split()[0]
    extra = "residual-droppath[report]"
    message = f"rdp: rdp {name} needs the packages of {extra}: pip install '{extra}'\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_event_files_name_the_extra_that_they_need_and_are_written_with_it(clean):
    command = ["rdp", "train", "digits", "mlp32/spiral/vanilla/seed-0000", "--tensorboard", "events"]
    assert "pip install 'residual-droppath[tensorboard]'" in clean.run(*command).stderr
    clean.install("[tensorboard]")
    done = clean.run(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((clean.folder / "home/events").glob("mlp32-spiral-vanilla-*/seed-0000/events.*"))) == 1


def test_the_callbacks_name_the_extra_that_they_need_and_work_with_it(clean):
    program = ["python", "-c", "import rdp.integrations.lightning, rdp.integrations.transformers"]
    assert "pip install 'residual-droppath[integrations]'" in clean.run(*program).stderr
    clean.install("[integrations]")
    done = clean.run(*program)
    assert done.returncode == 0, done.stderr[-2000:]


def test_with_all_extras_the_workflow_decides_the_claims_of_a_recorded_study(clean, tmp_path):
    """After the tests of the library, since it adds to the environment."""
    assert clean.install("[workflow]") >= HEAVY
    snakefile = Path(clean.run("rdp", "snakefile").stdout.strip())
    assert clean.bin.parent in snakefile.parents
    assert {path.name for path in (ROOT / "report").iterdir()} == {
        path.name for path in (snakefile.parent / "report").iterdir()
    }
    words = ["snakemake", "--snakefile", str(snakefile), "--cores", "2", "--until", "decide_claims"]
    plan = load(tmp_path, **SHORT)
    plant(plan, tmp_path, AS_CLAIMED)
    pack(plan, tmp_path, clean.folder / "home/results/recorded/planted.tar")
    done = clean.run(*words, "--config", "study=planted", "records=recorded")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "PNNH-4" in (clean.folder / "home/results/rebuilt/planted/planted/claims.json").read_text()


def test_extensions_of_every_kind_work_in_the_users_folder(clean):
    """The files and commands of docs/adding.md, with nothing of the checkout."""
    clean.install("[workflow]")
    home = clean.folder / "mine"
    write_files(home, "docs/adding.md")
    commands = [
        (block.place, command)
        for block in blocks("docs/adding.md")
        if block.language == "sh"
        for command in block.commands
        if command.startswith("rdp ")
    ]
    assert len(commands) == 8
    (home / "commands.json").write_text(json.dumps(commands))
    done = clean.run("python", str(ROOT / "tests/docs/walk.py"), "commands.json", folder="mine")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (home / "results/mine/figures/reliability.svg").stat().st_size > 5000
    assert (home / "results/mine/probes/calibration.parquet").exists()
    claims = json.loads((home / "results/mine/claims.json").read_text())["claims"]
    mine = {claim["name"]: claim for claim in claims if claim["name"].startswith("MINE-")}
    assert mine.keys() == {"MINE-1", "MINE-2"}
    assert all(claim["verdicts"]["exploratory"]["verdict"] != "not tested" for claim in mine.values())
    snakefile = clean.run("rdp", "snakefile").stdout.strip()
    packed = clean.run("rdp", "pack", "mine", folder="mine")
    assert packed.returncode == 0, packed.stderr
    words = ["snakemake", "--snakefile", snakefile, "--cores", "2", "--until", "decide_claims", "--config"]
    rebuilt = clean.run(*words, "study=mine", "records=recorded", folder="mine")
    assert rebuilt.returncode == 0, rebuilt.stderr[-2000:]
    assert "MINE-2" in (home / "results/rebuilt/mine/mine/claims.json").read_text()
    records = {path: path.stat().st_mtime_ns for path in home.glob("results/store/*/seed-*/record.json")}
    words = ["snakemake", "--snakefile", snakefile, "--cores", "2", "--until", "collect_records"]
    collected = clean.run(*words, "--config", "study=mine", folder="mine")
    assert collected.returncode == 0, collected.stderr[-2000:]
    assert {path: path.stat().st_mtime_ns for path in records} == records
    words += ["--dry-run", "--config", "study=mine"]
    planned = clean.run(*words, folder="mine")
    assert "Train " not in planned.stdout + planned.stderr
    method = home / "extensions/methods/early_droppath.py"
    method.write_text(method.read_text().replace("step >= self.until", "step > self.until"))
    # These runs were trained by hand, so Snakemake has no record of the code. Their status follows from it.
    status = clean.run("rdp", "status", "mine", folder="mine").stdout
    assert re.search(r"prenorm8/rings/vanilla +│ 5 ", status)
    stale = next(line for line in status.splitlines() if "prenorm8/rings/early_droppath" in line).split("│")
    assert [cell.strip() for cell in stale[2:-1]] == ["", "", "", "", "", "5", "", ""]
    assert "made by other code" in status


def test_extensions_of_an_installed_package_work_without_a_folder(clean):
    """The package that the end of docs/adding.md describes, built and installed."""
    clean.install("[workflow]")
    source = clean.folder / "source"
    write_files(source, "docs/adding.md")
    (source / "extensions").rename(source / "my_package")
    (source / "my_package/__init__.py").touch()
    (entry_point,) = (block.text for block in blocks("docs/adding.md") if block.language == "toml")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "my-package"\nversion = "1.0"\n{entry_point}'
    )
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(source / "dist")]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    clean._uv("pip", "install", "--python", clean.bin / "python", "--no-deps", wheel)
    (clean.folder / "packaged").mkdir()
    shutil.copy(source / "config/studies/mine.yaml", clean.folder / "packaged")
    planned = clean.run("rdp", "plan", "mine.yaml", folder="packaged")
    assert planned.returncode == 0, planned.stderr
    assert "prenorm8/rings/early_droppath" in planned.stdout
    assert "MINE-2" in planned.stdout
    run = "prenorm8/rings/early_droppath/seed-0000"
    trained = clean.run("rdp", "train", "mine.yaml", run, folder="packaged")
    assert trained.returncode == 0, trained.stderr
    assert "completed" in trained.stderr
