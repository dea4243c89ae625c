"""A process that has torch imported, and forks a child for each attempt at a job: what is killed starts in no time.

It reads orders on standard input, one JSON object a line, and answers each with a line when the child has ended.
A child tells through a pipe what it does: each stage it comes to, and each change of the file system.
"""

import json
import os
import select
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401 (what data are read with: children find it imported)
import torch

from rdp import study
from rdp.data import prepared
from rdp.errors import Terminated, UserError
from rdp.jobs import runner
from rdp.spec import RunSpec
from rdp.store import Store
from rdp.training import checkpoint, trainer
from rdp.utils import console, machine
from tests.faults.operations import Operations


@cache
def specs(file: str) -> dict[str, list[RunSpec]]:
    """The runs of a study by method. The operations of their networks are counted here, once for all children."""
    found = {cell.label: list(cell.specs) for cell in study.load(file).cells}
    with tempfile.TemporaryDirectory() as folder:
        for spec, *_ in found.values():
            cost = trainer.Trainer(spec, prepared.load(spec.dataset, Path(folder)), torch.device("cpu")).iteration_cost
            assert len(cost.units.forward) == len(cost.rest_frozen)  # counted here, and not in each fork
    return found


def attempt(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, and send the child a signal so many seconds after it came to a stage, if the order says so."""
    planned = specs(order["study"])[order["method"]]
    # A fork has one thread, whatever its parent had: none must have been started for it to miss.
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(planned, order, writer)
    os.close(writer)
    told: list[Any] = []
    waited_for, due, pending = order["signal_at"], None, b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            left = None if due is None else max(due - time.monotonic(), 0)
            if not select.select([pipe], [], [], left)[0]:
                os.kill(pid, order["signal"])
                due = None
            elif found := pipe.read(65536):
                *lines, pending = (pending + found).split(b"\n")
                told += map(json.loads, lines)
                if waited_for and _times(told, waited_for[0]) >= waited_for[1]:
                    due, waited_for = time.monotonic() + order["after"], None
            else:
                break
    status = os.waitpid(pid, 0)[1]
    return {"code": os.waitstatus_to_exitcode(status), "told": told}


def _times(told: list[Any], stage: str) -> int:
    """How often a stage was come to."""
    return sum(row[:2] == ["stage", stage] for row in told)


def _child(planned: list[RunSpec], order: dict[str, Any], pipe: int) -> None:
    """Do the job, as `rdp train` does it, and end the process."""
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        stages = _Stages(pipe, order)
        stages.announce()
        root = Path(order["results"])
        with Operations(root, stages.tell, order["kill_at"], order["half"]):
            runner.run_job(planned, root, "cpu", checkpoint_seconds=order["checkpoint_seconds"])
        stages.come("end")
        code = 0
    except UserError as error:
        print(f"rdp: {error}", file=sys.stderr)
        code = 2
    except Terminated:
        code = 143
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Stages:
    """The stages of a job, told as it comes to them, and what an order wants to happen there."""

    def __init__(self, pipe: int, order: dict[str, Any]) -> None:
        self.pipe, self.order = pipe, order
        self.count: dict[str, int] = {}

    def tell(self, *what: Any) -> None:
        os.write(self.pipe, json.dumps([*what, time.monotonic()]).encode() + b"\n")

    def come(self, stage: str) -> None:
        """Tell that the job is there, for the n-th time; fill or free the disk, or fail, if that is the order."""
        self.count[stage] = self.count.get(stage, 0) + 1
        self.tell("stage", stage)
        here = [stage, self.count[stage]]
        if here == self.order["fill_at"]:
            _fill(Path(self.order["ballast"]))
        if here == self.order["free_at"]:
            Path(self.order["ballast"]).unlink()
        if here == self.order["fail_at"]:
            raise RuntimeError("the GPU fell off the bus")

    def announce(self) -> None:
        """Have this process come to its stages, by what it calls."""
        self.come("load")
        self._before(trainer.Trainer, "__init__", "build")
        self._before(trainer.Trainer, "train", "train")
        self._before(trainer.Trainer, "train_step", "step")
        self._before(checkpoint, "save", "checkpoint", "train")
        self._before(trainer.Trainer, "finish", "evaluate", "weights")
        self._before(Store, "commit", "commit")
        self._before(Store, "write_receipt", "receipt")

    def _before(self, owner: Any, name: str, stage: str, then: str | None = None) -> None:
        call = getattr(owner, name)

        def told(*arguments: Any, **options: Any) -> Any:
            self.come(stage)
            result = call(*arguments, **options)
            if then:
                self.come(then)
            return result

        setattr(owner, name, told)


def _fill(ballast: Path) -> None:
    """Write a file until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 10, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def main() -> None:
    trainer.make_deterministic(1)
    console.configure_logging()
    assert machine.versions()
    machine.commit()  # git, once for all children
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
