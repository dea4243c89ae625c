"""A process that has imported torch and forks a child for each attempt at a job, so that attempts start at once.

It reads orders on standard input, one JSON object per line, and answers each with a line when the child has ended.
A child reports through a pipe each stage that it reaches and each change of the file system.
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

import sklearn.datasets  # noqa: F401 (reads datasets; imported here, it is imported in children)
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
    """The runs of a study by method. Operations of their networks are counted here, once for all children."""
    by_method = {cell.label: list(cell.specs) for cell in study.load(file).cells}
    with tempfile.TemporaryDirectory() as folder:
        for spec, *_ in by_method.values():
            cost = trainer.Trainer(spec, prepared.load(spec.dataset, Path(folder)), torch.device("cpu")).iteration_cost
            assert len(cost.units.forward) == len(cost.rest_frozen)  # counted here, not in each fork
    return by_method


def attempt(order: dict[str, Any]) -> dict[str, Any]:
    """Fork, and send the child the signal of the order after it reaches the stage of the order."""
    planned = specs(order["study"])[order["method"]]
    # A fork has only one thread: its parent must not have started others.
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(planned, order, writer)
    os.close(writer)
    events: list[Any] = []
    waited_for, due, pending = order["signal_at"], None, b""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            left = None if due is None else max(due - time.monotonic(), 0)
            if not select.select([pipe], [], [], left)[0]:
                os.kill(pid, order["signal"])
                due = None
            elif chunk := pipe.read(65536):
                *lines, pending = (pending + chunk).split(b"\n")
                events += map(json.loads, lines)
                if waited_for and _times(events, waited_for[0]) >= waited_for[1]:
                    due, waited_for = time.monotonic() + order["after"], None
            else:
                break
    status = os.waitpid(pid, 0)[1]
    return {"code": os.waitstatus_to_exitcode(status), "events": events}


def _times(events: list[Any], stage: str) -> int:
    """How often a stage was reached."""
    return sum(row[:2] == ["stage", stage] for row in events)


def _child(planned: list[RunSpec], order: dict[str, Any], pipe: int) -> None:
    """Do the job as `rdp train` does, and end the process."""
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        stages = _Stages(pipe, order)
        stages.announce()
        root = Path(order["results"])
        with Operations(root, stages.report, order["kill_at"], order["half"]):
            runner.run_job(planned, root, "cpu", checkpoint_seconds=order["checkpoint_seconds"])
        stages.reach("end")
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
    """Reports the stages of a job, and does what the order asks for at them."""

    def __init__(self, pipe: int, order: dict[str, Any]) -> None:
        self.pipe, self.order = pipe, order
        self.count: dict[str, int] = {}

    def report(self, *event: Any) -> None:
        os.write(self.pipe, json.dumps([*event, time.monotonic()]).encode() + b"\n")

    def reach(self, stage: str) -> None:
        """Report that a stage is reached; fill or free the disk, or fail, if the order asks for it."""
        self.count[stage] = self.count.get(stage, 0) + 1
        self.report("stage", stage)
        moment = [stage, self.count[stage]]
        if moment == self.order["fill_at"]:
            _fill(Path(self.order["ballast"]))
        if moment == self.order["free_at"]:
            Path(self.order["ballast"]).unlink()
        if moment == self.order["fail_at"]:
            raise RuntimeError("the GPU fell off the bus")

    def announce(self) -> None:
        """Wrap the functions that start the stages."""
        self.reach("load")
        self._before(trainer.Trainer, "__init__", "build")
        self._before(trainer.Trainer, "train", "train")
        self._before(trainer.Trainer, "train_step", "step")
        self._before(checkpoint, "save", "checkpoint", "train")
        self._before(trainer.Trainer, "finish", "evaluate", "weights")
        self._before(Store, "commit", "commit")
        self._before(Store, "write_receipt", "receipt")

    def _before(self, owner: Any, name: str, stage: str, then: str | None = None) -> None:
        call = getattr(owner, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            self.reach(stage)
            result = call(*arguments, **options)
            if then:
                self.reach(then)
            return result

        setattr(owner, name, wrapper)


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
