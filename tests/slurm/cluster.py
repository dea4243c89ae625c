"""A real Slurm cluster of two nodes on this machine: munge, slurmctld and two slurmd, brought up and taken down.

Each node has one GPU of the gres kind, behind a harmless device file. Nothing is mocked: jobs are queued, placed,
cancelled, timed out and lost by Slurm itself.

Run as a program, this file waits until nothing can write to its standard input any more, because its parent closed
the pipe or died in whatever way; then it kills what belongs to the cluster in the given folder, and the folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
SEARCHED = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"  # daemons are not on every user's path
TAKES_JOBS = {"idle", "mixed", "allocated"}
UNFINISHED = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING")
DEVICES = {"n1": "/dev/null", "n2": "/dev/zero"}  # one "GPU" a node, of which CUDA sees none

CONFIG = """
ClusterName=rdptest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5  # also how long a requeued job waits: 120 s by default
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
KillWait=5
SlurmdParameters=config_overrides  # the nodes are larger than this machine
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=4 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=n[1-2] MaxTime=INFINITE State=UP
"""


def obstacle() -> str | None:
    """Why no cluster can be had on this machine, or None."""
    if os.geteuid() != 0:
        return "slurmd runs as root, and we do not"
    absent = [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]
    return f"not installed: {', '.join(absent)} (Debian: apt-get install slurm-wlm munge)" if absent else None


class Cluster:
    """The cluster, up within the block of a ``with``; nothing of it outlives that, or this process."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has 107 letters at most
        self.folder.chmod(0o755)  # munged wants its socket where every user could reach it
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.ports, self.name = _ports(3)
        guard = [sys.executable, __file__, str(self.folder)]
        self.guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to talk to this cluster and no other."""
        return {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": f"{self.folder}/bin:{SEARCHED}"}

    def _start(self) -> None:
        """Bring everything up, and wait until both nodes take jobs."""
        for name in ("bin", "state", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir()
        (self.folder / "key").write_bytes(os.urandom(64))
        (self.folder / "key").chmod(0o600)
        config = CONFIG.format(host=socket.gethostname(), folder=self.folder, ports=self.ports)
        (self.folder / "slurm.conf").write_text(config)
        gres = "".join(f"NodeName={node} Name=gpu File={device}\n" for node, device in DEVICES.items())
        (self.folder / "gres.conf").write_text(gres)
        # Within a job Snakemake's plugin starts srun without any variable SLURM_*, SLURM_CONF included.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_program("srun")} "$@"\n')
        srun.chmod(0o755)

        names = {"socket": "munge.socket", "key-file": "key", "pid-file": "munge.pid", "seed-file": "seed"}
        self._run("munged", "--foreground", *(f"--{option}={self.folder / name}" for option, name in names.items()))
        wait((self.folder / "munge.socket").exists, 60, "munged")
        self._run("slurmctld", "-D", "-i")
        for node in DEVICES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, for the first time or again, and wait until the node takes jobs."""
        self._run("slurmd", "-D", "-N", node, name=node)
        wait(lambda: self.state(node) in TAKES_JOBS, 120, f"node {node}", self.told)

    def _stop(self) -> None:
        assert self.guard.stdin is not None
        self.guard.stdin.close()
        assert self.guard.wait(60) == 0
        for daemon in self.daemons.values():
            daemon.wait()
        self.name.close()

    def lose_node(self, node: str, *, jobs_too: bool = True) -> None:
        """A node's power fails at once; or its slurmd alone dies, and the jobs go on as orphans."""
        if jobs_too:
            # Nobody may see another die, and say so, clean up or go on: all are stopped before any is killed.
            stopped: set[int] = set()
            while fresh := set(processes(self.folder, node)) - stopped:
                _kill(fresh, signal.SIGSTOP)
                stopped |= fresh
            _kill(stopped)
        self.daemons[node].kill()
        self.daemons[node].wait()

    def clear(self) -> None:
        """Cancel all jobs, and have both nodes back, with nothing on them."""
        self.run("scancel", "--user=root")
        for node in DEVICES:
            if self.daemons[node].poll() is not None:
                _kill(processes(self.folder, node))  # orphans
                self.start_node(node)

        def cleared() -> bool:
            # Not by nodes that are idle: sinfo may count the CPUs of a job that has ended until the next one starts.
            return not self.jobs(*UNFINISHED) and all(self.state(node) in TAKES_JOBS for node in DEVICES)

        wait(cleared, 120, "nodes without jobs", self.told)

    def told(self) -> str:
        """How nodes and jobs are."""
        return self.run("sinfo", "--Node", "--format=%N %T %E") + "\n" + self.run("squeue", "--states=all")

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        env = os.environ | self.environment
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def state(self, node: str) -> str:
        """A node's state in lower case, its flags left out."""
        return self.run("sinfo", "--noheader", f"--nodes={node}", "--partition=main", "--format=%T").strip("*~#!%$@^-")

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """Jobs that are in one of these states, or in any that Slurm still remembers, in the order of submission."""
        fields = {"id": "%A", "state": "%T", "node": "%N", "limit": "%l", "folder": "%Z"}
        fields |= {"partition": "%P", "account": "%a", "comment": "%k"}
        chosen = f"--states={','.join(states) or 'all'}"
        lines = self.run("squeue", "--noheader", "--sort=i", chosen, f"--format={'|'.join(fields.values())}")
        return [dict(zip(fields, line.split("|"), strict=True)) for line in lines.splitlines()]

    def _run(self, program: str, *arguments: str, name: str | None = None) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            command, env = [_program(program), *arguments], os.environ | self.environment
            self.daemons[name or program] = subprocess.Popen(command, env=env, stdout=log, stderr=log)


def processes(folder: Path, node: str | None = None) -> list[int]:
    """What runs on a node of the cluster in a folder, its slurmd included, or anywhere in that cluster."""
    logs = {f"{folder}/slurmd-{name}.log" for name in ([node] if node else DEVICES)}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            opened = {str(file.readlink()) for file in (process / "fd").iterdir()}
        except OSError:  # it has ended
            continue
        # Jobs are known by their environment, which slurmstepd has not; that one writes its slurmd's log.
        here = node is None or f"SLURMD_NODENAME={node}".encode() in variables
        if (here and f"SLURM_CONF={folder}/slurm.conf".encode() in variables) or logs & opened:
            found.append(int(process.name))
    return found


def wait(condition: Callable[[], object], seconds: float, what: str, told: Callable[[], str] = str) -> None:
    """Wait until a condition holds; if it does not in time, fail with what was waited for and what is told."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what}\n{told()}"
        time.sleep(0.05)


def _program(name: str) -> str:
    path = shutil.which(name, path=SEARCHED)
    assert path is not None, name
    return path


def _ports(count: int) -> tuple[list[int], socket.socket]:
    """Ports in a row, as Slurm wants its nodes', that nobody listens at; kept from other clusters by a name.

    They cannot be kept by listening. The name is of Linux's abstract kind, which ends with its holder.
    """
    for first in range(17000, 30000, count):
        ports, name = list(range(first, first + count)), socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0rdp-slurm-{first}")
            for port in ports:
                with socket.socket() as free:
                    free.bind(("", port))
            return ports, name
        except OSError:
            name.close()
    raise AssertionError("no free ports")


def _kill(pids: Iterable[int], number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.stdin.read()
    while pids := processes(Path(sys.argv[1])):
        _kill(pids)
        time.sleep(0.05)
    shutil.rmtree(sys.argv[1])
