"""Invalid input gives one line that names it, a nonzero status and no partial output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rdp.cli import app as cli
from rdp.errors import UserError
from tests.workflow.conftest import ROOT

GOOD = """
title: Small
seeds: 1
methods:
  vanilla:
  droppath: {rate: 0.1}
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 1, batch_size: 50}}
"""


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(folder), "RDP_OFFLINE": "1", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line a refused command printed."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[mlp8]", "[mlp9]", "grids[0].architectures: unknown name 'mlp9'; did you mean 'mlp8'?"),
        ("seeds:", "seads:", "seads: unknown key; did you mean 'seeds'?"),
        ("rate: 0.1", "rate: -0.1", "methods.droppath.rate: "),
        ("grids:", "tune: {seeds: [0]}\ngrids:", "tune.seeds: 0 is also a seed of the study"),
        ("grids:", "tune: {learning_rats: [0.1]}\ngrids:", "tune.learning_rats: unknown key; did you mean"),
        ("[mlp8]", "[resnet20]", "no cell can be trained (resnet20 reads images, and the dataset holds vectors)"),
    ],
    ids=["unknown architecture", "misspelt key", "negative rate", "a seed of its own", "misspelt sweep", "no cells"],
)
def test_a_bad_study_is_rejected(old: str, new: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD.replace(old, new))
    line = refusal(run(tmp_path, "rdp", "plan", "small.yaml"))
    assert line.startswith("rdp: small.yaml: ")
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_every_command_rejects_a_bad_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All of them in one process: what they share, they load once."""
    (tmp_path / "small.yaml").write_text(GOOD.replace("seeds:", "seads:"))
    monkeypatch.chdir(tmp_path)
    more = {"probe": ["coders"], "plot": ["accuracy"], "weights": ["RUN", "--to", "a.safetensors"]}
    tried = 0
    for name, command in cli.command.commands.items():
        if command.params and command.params[0].metavar == "STUDY":
            with pytest.raises(UserError, match=r"^small\.yaml: seads: unknown key; did you mean 'seeds'"):
                cli.app([name, "small.yaml", *more.get(name, [])], standalone_mode=False)
            tried += 1
    assert tried >= 16
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_snakemake_rejects_a_bad_study_before_planning(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD.replace("rate: 0.1", "rate: 1.0"))
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--config", "study=small.yaml"]
    done = run(tmp_path, *command)
    assert done.returncode != 0
    assert "small.yaml: methods.droppath.rate: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()


def test_snakemake_rejects_an_unknown_key(tmp_path: Path) -> None:
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--config", "studdy=rdp"]
    done = run(tmp_path, *command)
    assert done.returncode != 0
    assert "--config studdy: unknown; did you mean 'study'?" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            "study=2024_10",
            "study: Snakemake reads the value as 202410, which is no text; write study=config/studies/NAME",
        ),
        ("results=007", "results: Snakemake reads the value as 7, which is no text; write results=./NAME"),
        pytest.param("study=1e3", "reads the value as 1000.0", marks=pytest.mark.slow),
        pytest.param("study=", "reads the value as None", marks=pytest.mark.slow),
        pytest.param("device=1", "device: Snakemake reads the value as 1", marks=pytest.mark.slow),
    ],
)
def test_snakemake_rejects_a_name_that_it_reads_as_a_number(entry: str, told: str, tmp_path: Path) -> None:
    """Where both exist, it would be another study."""
    studies = tmp_path / "config/studies"
    studies.mkdir(parents=True)
    for name in ("2024_10", "202410", "1e3", "1000.0"):
        (studies / f"{name}.yaml").write_text(GOOD)
    done = run(tmp_path, "snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--config", entry)
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


@pytest.mark.slow
def test_such_a_study_is_planned_by_the_path_of_its_file(tmp_path: Path) -> None:
    studies = tmp_path / "config/studies"
    studies.mkdir(parents=True)
    for name in ("2024_10", "202410"):
        (studies / f"{name}.yaml").write_text(GOOD)
    entries = ["study=config/studies/2024_10.yaml", "results=./007"]
    done = run(tmp_path, "snakemake", "-s", str(ROOT / "Snakefile"), "--summary", "--config", *entries)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "007/2024_10/report/index.html" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["train"], "Missing argument 'STUDY'"),
        (["train", "quick", "--checkpoint-seconds", "inf"], "Invalid value for '--checkpoint-seconds'"),
        (["status", "quick", "--watch", "--every", "inf"], "Invalid value for '--every'"),
        (["bench", "pnnh", "--threads", "100000000"], "Invalid value for '--threads'"),
        (["plans"], "No such command 'plans'"),
    ],
    ids=["argument", "checkpoints", "watch", "threads", "command"],
)
def test_an_unknown_command_is_rejected_in_one_line(
    command: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["rdp", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"rdp: {told}")


@pytest.mark.slow
def test_a_results_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    (tmp_path / "taken").write_text("a file, where a directory is wanted\n")
    line = refusal(run(tmp_path, "rdp", "train", "small.yaml", RDP_RESULTS="taken"))
    assert "taken" in line
    assert "cannot be written" in line
    assert (tmp_path / "taken").read_text() == "a file, where a directory is wanted\n"


def test_a_results_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    # Nobody may make files there, root included.
    line = refusal(run(tmp_path, "rdp", "train", "small.yaml", RDP_RESULTS="/proc/rdp-results"))
    assert "/proc/rdp-results" in line
    assert "cannot be written" in line


@pytest.mark.slow
def test_a_prepared_dataset_that_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    assert run(tmp_path, "rdp", "data", "prepare", "spiral").returncode == 0
    path = tmp_path / "results/data/spiral/data.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    line = refusal(run(tmp_path, "rdp", "train", "small.yaml"))
    assert "results/data/spiral/data.safetensors: damaged" in line
    assert "rdp data prepare spiral" in line
    assert not list(tmp_path.glob("results/store/*/seed-*"))


def test_a_source_file_with_the_wrong_checksum(tmp_path: Path) -> None:
    raw = tmp_path / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"not what was published")
    line = refusal(run(tmp_path, "rdp", "data", "prepare", "fashion_mnist"))
    assert "data/FashionMNIST/raw/train-images-idx3-ubyte: damaged" in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])
@pytest.mark.slow
def test_a_missing_dataset_that_may_not_be_downloaded(dataset: str, tmp_path: Path) -> None:
    line = refusal(run(tmp_path, "rdp", "data", "prepare", dataset))
    assert "no such file" in line
    assert f"rdp data fetch {dataset}" in line
    assert not (tmp_path / "results").exists()


def test_a_study_without_a_sweep_has_nothing_to_tune(tmp_path: Path) -> None:
    done = run(tmp_path, "rdp", "tune", "digits")
    assert done.returncode == 2
    line = refusal(done)
    assert "digits.yaml: no learning rate to choose" in line
    assert "'tune'" in line
    assert not list(tmp_path.iterdir())


def test_a_cell_without_a_sweep_has_nothing_to_tune(tmp_path: Path) -> None:
    rows = GOOD.replace("grids:", "tune: {learning_rates: [0.1]}\ngrids:")
    (tmp_path / "small.yaml").write_text(
        rows + "  - {datasets: [spiral], architectures: [mlp16], learning_rates: []}\n"
    )
    line = refusal(run(tmp_path, "rdp", "tune", "small.yaml", "mlp16/spiral/vanilla"))
    assert "no learning rate to choose" in line
    line = refusal(run(tmp_path, "rdp", "tune", "small.yaml", "mlp8/spiral/vanila"))
    assert "did you mean 'mlp8/spiral/vanilla'?" in line


@pytest.mark.slow
def test_a_benchmark_with_an_invalid_rate(tmp_path: Path) -> None:
    done = run(tmp_path, "rdp", "bench", "rdp", "--rate", "1.5")
    assert done.returncode == 2
    assert refusal(done) == "rdp: bench: rate 1.5: a rate in (0, 1) is needed"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_benchmark_on_an_unknown_device(tmp_path: Path) -> None:
    done = run(tmp_path, "rdp", "bench", "rdp", "--device", "gpu")
    assert done.returncode == 2
    assert "gpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_run_names_the_closest_match(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(GOOD)
    line = refusal(run(tmp_path, "rdp", "train", "small.yaml", "mlp8/spiral/vanila"))
    assert "did you mean 'mlp8/spiral/vanilla'?" in line
