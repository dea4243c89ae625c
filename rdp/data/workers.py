"""A pool of processes that fill arrays in shared memory. The number of processes changes no result.

torch's DataLoader is not used: after SIGKILL of their parent, its workers under forkserver do not end.
Here each process has a pipe. A process that dies is noticed, and one whose parent dies reads the end of its pipe and
exits.
"""

import itertools
import os
import signal
from collections import deque
from collections.abc import Callable, Hashable
from multiprocessing import get_context, util
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rdp.errors import UserError

VARIABLE = "RDP_WORKERS"
# Arrays per process that are made in advance. torch's loader has 2; a third keeps processes busy while the training
# process waits for a core.
_PREFETCH = 3

Fill = Callable[[Any, np.ndarray], None]


def count() -> int:
    """The number of decoding processes: ``RDP_WORKERS``, or the available cores less 1."""
    stated = os.environ.get(VARIABLE) or str(max(1, len(os.sched_getaffinity(0)) - 1))
    if not stated.isdecimal() or not 1 <= int(stated) <= 1024:
        raise UserError(f"{VARIABLE}: a number of processes from 1 to 1024 is needed, found '{stated}'")
    return int(stated)


class Pool:
    """Processes that fill uint8 arrays of one shape, several arrays in advance.

    ``fill``, a module-level function, writes the result of a task into an array. A task may need fewer entries along
    the first axis. The modules in ``preload`` are imported before the processes start.
    """

    def __init__(self, fill: Fill, shape: tuple[int, ...], processes: int, preload: list[str]) -> None:
        # Forking a process that runs torch's threads is unsafe.
        context = get_context("forkserver")
        context.set_forkserver_preload(preload)
        self.shape = shape
        self._workers = [_Worker(context, fill, shape) for _ in range(processes)]
        self._tickets = itertools.count()
        self._tasks: dict[Hashable, tuple[_Worker, int]] = {}
        # Also called when the interpreter exits, before multiprocessing waits for its processes.
        self.close = util.Finalize(self, _stop, [self._workers], exitpriority=10)

    @property
    def prefetch(self) -> int:
        """The number of arrays to request in advance."""
        return _PREFETCH * len(self._workers)

    def request(self, key: Hashable, task: Any, size: int) -> None:
        """Start to fill the first ``size`` entries of an array, unless ``key`` was requested before."""
        if key not in self._tasks:
            worker, ticket = min(self._workers, key=lambda worker: worker.used), next(self._tickets)
            worker.request(ticket, task, size)
            self._tasks[key] = (worker, ticket)

    def get(self, key: Hashable) -> np.ndarray:
        """Wait for a requested array, which is valid until `discard_except` drops its key.

        Raises `UserError` if the task failed, or its process died.
        """
        worker, ticket = self._tasks[key]
        return worker.get(ticket)

    def discard_except(self, keys: set[Hashable]) -> None:
        """Discard all requested arrays but these."""
        for key in self._tasks.keys() - keys:
            worker, ticket = self._tasks.pop(key)
            worker.discard(ticket)


class _Worker:
    """The parent's handle of one process and its arrays."""

    def __init__(self, context: Any, fill: Fill, shape: tuple[int, ...]) -> None:
        slots = _PREFETCH + 2  # one for the array in use, one for an unexpected request
        memory = context.RawArray("B", slots * int(np.prod(shape)))
        self.arrays = np.frombuffer(memory, np.uint8).reshape(slots, *shape)
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, memory, shape, fill), daemon=True)
        self.process.start()
        other.close()  # otherwise the parent would not read the end of the pipe
        self.free = list(range(slots))
        self.pending: deque[tuple[int, int, int]] = deque()  # ticket, slot and size, in the order of the tasks
        self.results: dict[int, tuple[int, int, UserError | None]] = {}
        self.discarded: set[int] = set()

    @property
    def used(self) -> int:
        return len(self.arrays) - len(self.free)

    def request(self, ticket: int, task: Any, size: int) -> None:
        while not self.free:
            self._receive()
        slot = self.free.pop()
        try:
            self.connection.send((slot, size, task))
        except OSError:
            raise self._died() from None
        self.pending.append((ticket, slot, size))

    def get(self, ticket: int) -> np.ndarray:
        while ticket not in self.results:
            self._receive()
        slot, size, error = self.results[ticket]
        if error is not None:
            raise error
        return self.arrays[slot, :size]

    def discard(self, ticket: int) -> None:
        if ticket in self.results:
            self.free.append(self.results.pop(ticket)[0])
        else:
            self.discarded.add(ticket)

    def _receive(self) -> None:
        """Wait for the result of the oldest pending task."""
        try:
            error = self.connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        ticket, slot, size = self.pending.popleft()
        if ticket in self.discarded:
            self.discarded.remove(ticket)
            self.free.append(slot)
        else:
            self.results[ticket] = (slot, size, error)

    def _died(self) -> UserError:
        self.process.join(1)
        return UserError(f"a process that decodes images ended early (status {self.process.exitcode})")


def _stop(workers: list[_Worker]) -> None:
    """Kill the processes; they hold no state."""
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.process.close()
    workers.clear()


def _serve(connection: Connection, memory: Any, shape: tuple[int, ...], fill: Fill) -> None:
    """The main loop of a process: run tasks until the parent closes the pipe."""
    import torch

    # The training process handles these signals, and needs mini-batches until the end of its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    arrays = np.frombuffer(memory, np.uint8).reshape(-1, *shape)
    while True:
        try:
            slot, size, task = connection.recv()
        except (EOFError, OSError):
            return
        failure = None
        try:
            fill(task, arrays[slot, :size])
        except UserError as error:
            failure = error
        try:
            connection.send(failure)
        except OSError:
            return
