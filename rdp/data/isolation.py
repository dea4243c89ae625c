"""Map a function over items in parallel processes, where a process that dies costs only its item.

Decoders of image files are C libraries, and a damaged file can end the process that reads it. The executors of
`concurrent.futures` then end all processes, and do not tell the item. Here each process has a pipe and reports item by
item.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from rdp.errors import UserError

_CHUNK = 64  # items that a process gets at a time

Function = Callable[..., Any]
Items = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Died:
    """The result of an item at which two processes ended, the second of which began with it.

    ``status`` is the exit status of the second, or the negative number of the signal that ended it.
    """

    status: int

    @property
    def killed(self) -> bool:
        """Whether it was killed from outside, as by a system that lacks memory."""
        return self.status == -signal.SIGKILL

    def __str__(self) -> str:
        """``it ended the process that read it: SIGSEGV``."""
        cause = signal.Signals(-self.status).name if self.status < 0 else f"status {self.status}"
        return f"it ended the process that read it: {cause}"


def isolated_map(function: Function, items: Items, preload: list[str]) -> list[Any]:
    """The results of a module-level function for tuples of arguments, in their order; `Died` where there is none.

    The function runs in processes on all cores, which import the modules of ``preload`` once. Its exceptions are raised
    here. Raises `UserError` if a process cannot start.
    """
    context = get_context("forkserver")  # forking a process that runs torch's threads is unsafe
    context.set_forkserver_preload(preload)
    chunks = deque(deque(range(len(items))[start : start + _CHUNK]) for start in range(0, len(items), _CHUNK))
    results: list[Any] = [None] * len(items)
    suspects: set[int] = set()  # items at which a process ended once; the item before may have damaged its memory
    readers: dict[Any, _Reader] = {}  # by connection
    try:
        while chunks or readers:
            while chunks and len(readers) < len(os.sched_getaffinity(0)):
                started = _Reader(context, function, items)
                readers[started.connection] = started
                started.take(chunks.popleft())
            for connection in wait([*readers]):
                reader = readers[connection]
                position, outcome = reader.open[0], reader.receive()
                if isinstance(outcome, Exception):
                    raise outcome
                if isinstance(outcome, Died) and position not in suspects:
                    suspects.add(position)  # another process begins with it
                else:
                    results[position] = outcome
                    reader.open.popleft()
                if isinstance(outcome, Died) or not (reader.open or chunks):
                    readers.pop(connection).stop()
                    if reader.open:
                        chunks.appendleft(reader.open)
                elif not reader.open:
                    reader.take(chunks.popleft())
    finally:
        for reader in readers.values():
            reader.stop()
    return results


class _Reader:
    """The parent's handle of one process. ``open`` holds the positions of its items without a result, in order."""

    def __init__(self, context: Any, function: Function, items: Items) -> None:
        self.items, self.open, self.begun = items, deque[int](), False
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, function), daemon=True)
        self.process.start()
        other.close()  # otherwise the parent would not read the end of the pipe

    def take(self, positions: deque[int]) -> None:
        self.open = positions
        with suppress(OSError):  # `receive` notices that the process has ended
            self.connection.send([self.items[position] for position in positions])

    def receive(self) -> Any:
        """The result of its current item, an exception of the function, or `Died`."""
        try:
            self.begun = self.begun or self.connection.recv()
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            if not self.begun:  # which is no fault of its item
                return UserError(f"a process that reads files ended as it started (status {self.process.exitcode})")
            return Died(self.process.exitcode)

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()  # it holds no state
        self.process.join()
        self.process.close()


def _serve(connection: Connection, function: Function) -> None:
    """The main loop of a process, until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent ends it
    connection.send(True)
    while True:
        try:
            for arguments in connection.recv():
                try:
                    outcome = function(*arguments)
                except Exception as error:
                    outcome = error
                connection.send(outcome)
        except (EOFError, OSError):
            return
