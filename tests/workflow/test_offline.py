"""Compute nodes need no network: a login node prepares the data, and jobs download nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflow.conftest import MINIATURE, Project, copy_project

# A network namespace of its own has no route anywhere, and its loopback is down.
ALONE = ("unshare", "--net")


def needs_a_namespace() -> None:
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("cutting off the network takes root and unshare")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of which nothing has run."""
    needs_a_namespace()
    return copy_project(tmp_path_factory.mktemp("fresh"))


@pytest.mark.slow
def test_a_study_with_prepared_data_needs_no_network(fresh: Project, finished: Project) -> None:
    fresh.narrow("vanilla", "residual_droppath")
    prepared = fresh.snakemake("--until", "prepare_data")
    assert prepared.returncode == 0, prepared.stderr
    assert len(list(fresh.root.glob("results/data/*/manifest.json"))) == 2
    done = fresh.run(*ALONE, "snakemake", "--cores", "2", "--config", "study=mini")
    assert done.returncode == 0, done.stderr
    assert len(fresh.digests()) == 8
    assert fresh.digests().items() <= finished.digests().items()
    for product in ("report/index.html", "report/paper.pdf"):
        assert (fresh.root / "results" / "mini" / product).stat().st_size > 10_000


@pytest.mark.slow
def test_a_job_downloads_nothing_and_names_the_command_that_does(fresh: Project) -> None:
    study = fresh.root / "fashion.yaml"
    study.write_text(MINIATURE.replace("[digits]", "[fashion_mnist]"))
    done = fresh.run("rdp", "train", "fashion.yaml", "resnet20/fashion_mnist/vanilla", RDP_DATA="absent")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "fashion_mnist is needed: rdp data fetch fashion_mnist, with a network" in done.stderr
    assert not (fresh.root / "absent").exists()


@pytest.mark.slow
@pytest.mark.parametrize("offline", [True, False])
def test_snakemake_names_missing_data_and_the_command_that_downloads_them(offline: bool, fresh: Project) -> None:
    """With ``RDP_OFFLINE`` set, and where there is no network at all."""
    study = fresh.root / "fashion.yaml"
    study.write_text(MINIATURE.replace("[digits]", "[fashion_mnist]"))
    command = ["snakemake", "--cores", "2", "--until", "prepare_data", "--config", "study=fashion.yaml"]
    environment = {"RDP_DATA": "absent"} | ({"RDP_OFFLINE": "1"} if offline else {})
    done = fresh.run(*([] if offline else ALONE), *command, **environment)
    assert done.returncode == 1
    # The rule writes it, and the logger shows the log of the job, wrapped.
    line, *_ = (line for line in done.stderr.splitlines() if line.startswith("rdp: "))
    assert line.startswith("rdp: absent/FashionMNIST/raw/train-images-idx3-ubyte")
    assert "rdp data fetch fashion_mnist" in line
    assert (fresh.root / "results" / "data" / "spiral" / "manifest.json").exists()


@pytest.mark.slow
def test_preparing_without_a_network_fails_in_one_line(fresh: Project) -> None:
    done = fresh.run(*ALONE, "rdp", "data", "prepare", "fashion_mnist", RDP_DATA="absent")
    assert done.returncode == 2
    assert "fashion_mnist is missing and could not be downloaded" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_environment_installs_from_a_wheelhouse(tmp_path: Path) -> None:
    """Every step of the recipe with a lock of two packages, of which one has no wheel and is built."""
    needs_a_namespace()
    project = copy_project(tmp_path)
    lock = project.root / "envs" / "requirements.lock"
    blocks = lock.read_text().split("\n")
    kept, keep = [], False
    for line in blocks:
        if not line.startswith(" "):
            keep = line.split("==")[0] in {"uv", "setuptools", "hatchling", "connection-pool", *BACKEND}
        kept += [line] if keep else []
    lock.write_text("\n".join(kept) + "\n")
    made = project.run("make", "wheelhouse", PATH=os.environ["PATH"])
    assert made.returncode == 0, made.stderr
    done = project.run(
        *ALONE, "make", "env", "WHEELHOUSE=wheelhouse", PATH=os.environ["PATH"], UV_CACHE_DIR=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    listed = project.run(".venv/bin/uv", "pip", "list", "--python", ".venv/bin/python")
    assert "connection-pool" in listed.stdout
    assert "residual-droppath" in listed.stdout


BACKEND = ("editables", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers")  # what hatchling needs
