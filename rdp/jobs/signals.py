"""Signals: end a job in an orderly way on SIGTERM, Ctrl-C and the death of its parent process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType, SimpleNamespace

from rdp.errors import Terminated


class Termination:
    """Notes SIGTERM, so that a run ends after its current step, with a checkpoint.

    Attributes:
        requested: whether SIGTERM came.
    """

    requested = False

    def check(self) -> None:
        """Raise `Terminated` if SIGTERM came."""
        if self.requested:
            raise Terminated

    @contextmanager
    def on_sigterm(self) -> Iterator[None]:
        """Handle SIGTERM while the block lasts."""

        def handler(number: int, frame: FrameType | None) -> None:
            self.requested = True

        previous = signal.signal(signal.SIGTERM, handler)
        try:
            yield
        finally:
            self.requested = False
            signal.signal(signal.SIGTERM, previous)


termination = Termination()


@contextmanager
def note_signals(*numbers: int) -> Iterator[SimpleNamespace]:
    """Set ``requested`` when one of these signals comes while the block lasts.

    An exception could be raised where Python drops it, such as in a callback, and the job would go on.
    """
    noted = SimpleNamespace(requested=False)

    def handler(number: int, frame: FrameType | None) -> None:
        noted.requested = True

    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield noted
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def terminate_with_parent() -> None:
    """Send this process SIGTERM when its parent dies: nobody would wait for what it trains."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
