"""How a process is asked to stop, and ends in order: SIGTERM, Ctrl-C, and the end of its parent."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import SimpleNamespace
from typing import Any

from rdp.errors import Terminated


class Terminable:
    """Turns SIGTERM into a checkpoint and an orderly end after the current step."""

    asked = False

    def look(self) -> None:
        """Raise `Terminated` if SIGTERM came."""
        if self.asked:
            raise Terminated

    @contextmanager
    def __call__(self) -> Iterator[None]:
        def ask(number: int, frame: Any) -> None:
            self.asked = True

        before = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            self.asked = False
            signal.signal(signal.SIGTERM, before)


terminable = Terminable()


@contextmanager
def interruptible() -> Iterator[SimpleNamespace]:
    """``asked`` turns true where Ctrl-C came.

    An exception in its place could be raised where Python drops it, as in a callback, and the job would train on.
    """
    interrupted = SimpleNamespace(asked=False)
    before = signal.signal(signal.SIGINT, lambda number, frame: setattr(interrupted, "asked", True))
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM and Ctrl-C raise `Terminated`. Snakemake's own handler would wait for jobs to end."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Stop this process of a job in an orderly way where the job is killed: nobody would wait for what it trains."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
