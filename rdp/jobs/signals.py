"""Signals: end a job in an orderly way on SIGTERM, Ctrl-C and the death of its parent process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType

from rdp.errors import Terminated


class Termination:
    """Notes signals, so that a run ends after its current step, with a checkpoint.

    An exception could be raised where Python drops it, such as in a callback, and the job would go on.

    Attributes:
        requested: whether a signal came.
    """

    requested = False

    def check(self) -> None:
        """Raise `Terminated` if a signal came."""
        if self.requested:
            raise Terminated

    @contextmanager
    def on(self, *numbers: int) -> Iterator["Termination"]:
        """Handle these signals while the block lasts."""

        def handler(number: int, frame: FrameType | None) -> None:
            self.requested = True

        previous = {number: signal.signal(number, handler) for number in numbers}
        try:
            yield self
        finally:
            self.requested = False
            for number, before in previous.items():
                signal.signal(number, before)


termination = Termination()  # by SIGTERM, of this process


def terminate_with_parent() -> None:
    """Send this process SIGTERM when its parent dies: nobody would wait for what it trains."""

    def wait() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
