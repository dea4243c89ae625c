"""Commands in forks of the job server: the same outputs as in their own process; or refused, and run there."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rdp.store import Store

pytestmark = pytest.mark.slow

STUDY = """
title: Small
seeds: 1
methods: {vanilla: }
recipe: {learning_rate: 0.02, epochs: EPOCHS, batch_size: 50}
grids: [{datasets: [spiral], architectures: [mlp8]}]
"""
# Starts a server that ends with this process.
PARENT = """
import sys
from rdp.cli import job_server
job_server.start()
print(job_server.address(), flush=True)
sys.stdin.read()
"""
# A command, and whether the fork has imported what commands need, or this process.
COMMAND = """
import sys
from rdp import cli
sys.argv[0] = "rdp"
try:
    cli.main()
finally:
    print("own process" if "typer" in sys.modules else "fork", flush=True)
"""
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Home:
    """A directory with a study, and a server that was started in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.environment = root, os.environ | THREADS
        (root / "small.yaml").write_text(STUDY.replace("EPOCHS", "2"))
        (root / "long.yaml").write_text(STUDY.replace("EPOCHS", "100000"))
        (root / "extensions").mkdir()
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.parent.stdout
        self.address = self.parent.stdout.readline().strip()
        while not Path(self.address).exists():
            time.sleep(0.01)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", COMMAND, *words]
        env = self.environment | {"RDP_JOB_SERVER": self.address} | environment
        return subprocess.Popen(
            command, cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str, str]:
        """The exit status, standard output and standard error of a command."""
        process = self.start(*words, **environment)
        return (process.wait(), *process.communicate())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.parent.communicate()


def test_a_fork_gives_the_status_and_the_outputs_of_a_process(home: Home) -> None:
    status, out, err = home.run("plan", "small.yaml")
    alone = home.run("plan", "small.yaml", RDP_JOB_SERVER="")
    assert (status, out.replace("fork", "own process"), err) == alone
    assert out.endswith("fork\n")
    assert status == 0
    assert home.run("plan", "absent.yaml") == (2, "fork\n", home.run("plan", "absent.yaml", RDP_JOB_SERVER="")[2])


def test_a_run_has_the_same_numbers_in_a_fork(home: Home) -> None:
    for results, server in (("forked", home.address), ("alone", "")):
        status, out, _ = home.run("train", "small.yaml", RDP_RESULTS=results, RDP_JOB_SERVER=server)
        assert (status, out) == (0, "fork\n" if server else "own process\n")
    (run,) = (
        str(path.relative_to(home.root / "alone/store").with_suffix(""))
        for path in home.root.glob("alone/store/*/*.json")
    )
    forked, alone = (Store(home.root / results).read(run) for results in ("forked", "alone"))
    assert forked.digest == alone.digest


def test_sigterm_ends_a_fork_with_a_checkpoint(home: Home) -> None:
    process = home.start("train", "long.yaml", "--checkpoint-seconds", "0")
    while not list(home.root.glob("results/store/*/attempts/*/checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not list(home.root.glob("results/store/*/seed-0000.json"))


def test_a_fork_ends_when_its_command_is_killed(home: Home) -> None:
    process = home.start("train", "long.yaml")
    while not list(home.root.glob("results/store/*/attempts/*/progress.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)  # until the fork closes the command's standard output


@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "2"}, {"PYTHONHASHSEED": "1"}, {"RDP_JOB_SERVER": "/none"}])
def test_a_command_in_another_environment_or_without_a_server_runs_by_itself(home: Home, variables: dict) -> None:
    assert home.run("schema", "study", **variables)[1].endswith("own process\n")
    assert home.run("schema", "study")[1].endswith("fork\n")


def test_a_command_of_code_that_changed_since_runs_by_itself(home: Home) -> None:
    (home.root / "extensions" / "figures").mkdir()
    (home.root / "extensions" / "figures" / "new.py").write_text("FIGURES = {}\n")
    assert home.run("schema", "study")[1].endswith("own process\n")


def test_the_server_ends_with_the_process_that_started_it(home: Home) -> None:
    home.parent.communicate(timeout=60)
    while Path(home.address).exists():
        time.sleep(0.05)
    assert not Path(home.address).parent.exists()
    assert home.run("schema", "study")[1].endswith("own process\n")
