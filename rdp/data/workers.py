"""Processes that fill arrays in memory they share with this one. How many there are changes no number.

Each has a pipe and a few places for arrays of its own, so that one that ends is noticed, and one whose parent ends sees
its pipe close and ends too, however the parent was ended.
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
# Arrays that a process makes before they are asked for: two as in torch's loader, and one more as timm's has, without
# which it would wait for a parent that does not get its turn on a busy machine.
_AHEAD = 3

Fill = Callable[[Any, np.ndarray], None]


def count() -> int:
    """How many processes decode beside one that trains: ``RDP_WORKERS``, or the cores that this one may use, less 1."""
    stated = os.environ.get(VARIABLE) or str(max(1, len(os.sched_getaffinity(0)) - 1))
    if not stated.isdecimal() or not 1 <= int(stated) <= 1024:
        raise UserError(f"{VARIABLE}: a number of processes from 1 to 1024 is needed, found '{stated}'")
    return int(stated)


class Pool:
    """Arrays of one shape, filled by processes in the order in which they are asked for, a few ahead.

    Args:
        fill: what a process does: from a task to the content of an array. Found by its name, so a module's own.
        shape: of the arrays, which are of uint8; a task may ask for fewer along the first axis.
        processes: how many.
        preload: modules that the processes should find imported.
    """

    def __init__(self, fill: Fill, shape: tuple[int, ...], processes: int, preload: list[str]) -> None:
        # torch's threads survive no fork; the server that forks these has imported what they need, and done no more.
        context = get_context("forkserver")
        context.set_forkserver_preload(preload)
        self.shape = shape
        self._workers = [_Worker(context, fill, shape) for _ in range(processes)]
        self._tickets = itertools.count()
        self._of: dict[Hashable, tuple[_Worker, int]] = {}
        # Called at the end of the interpreter too, and there before it waits for processes to end by themselves.
        self.close = util.Finalize(self, _stop, [self._workers], exitpriority=10)

    @property
    def ahead(self) -> int:
        """How many arrays should be asked for before they are taken."""
        return _AHEAD * len(self._workers)

    def ask(self, key: Hashable, task: Any, size: int) -> None:
        """Have an array's first ``size`` rows made; nothing where ``key`` has been asked for."""
        if key not in self._of:
            worker, ticket = min(self._workers, key=lambda worker: worker.taken), next(self._tickets)
            worker.ask(ticket, task, size)
            self._of[key] = (worker, ticket)

    def take(self, key: Hashable) -> np.ndarray:
        """The array that was asked for, which stays as it is until it is dropped. Waits until it is made.

        Raises:
            UserError: what its making met with, or the process ended.
        """
        worker, ticket = self._of[key]
        return worker.take(ticket)

    def keep(self, keys: set[Hashable]) -> None:
        """Drop all that was asked for but these."""
        for key in self._of.keys() - keys:
            worker, ticket = self._of.pop(key)
            worker.drop(ticket)


class _Worker:
    """A process, as its parent sees it."""

    def __init__(self, context: Any, fill: Fill, shape: tuple[int, ...]) -> None:
        places = _AHEAD + 2  # one that is in use, and one for a key that nobody foresaw
        size = int(np.prod(shape))
        memory = context.RawArray("B", places * size)
        self.arrays = np.frombuffer(memory, np.uint8).reshape(places, *shape)
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, memory, shape, fill), daemon=True)
        self.process.start()
        other.close()  # else its end would not be noticed here
        self.free = list(range(places))
        self.pending: deque[tuple[int, int, int]] = deque()  # ticket, place and rows, in the order of the tasks
        self.made: dict[int, tuple[int, int, UserError | None]] = {}
        self.dropped: set[int] = set()

    @property
    def taken(self) -> int:
        return len(self.arrays) - len(self.free)

    def ask(self, ticket: int, task: Any, size: int) -> None:
        while not self.free:
            self._receive()
        place = self.free.pop()
        try:
            self.connection.send((place, size, task))
        except OSError:
            raise self._ended() from None
        self.pending.append((ticket, place, size))

    def take(self, ticket: int) -> np.ndarray:
        while ticket not in self.made:
            self._receive()
        place, size, error = self.made[ticket]
        if error is not None:
            raise error
        return self.arrays[place, :size]

    def drop(self, ticket: int) -> None:
        if ticket in self.made:
            self.free.append(self.made.pop(ticket)[0])
        else:
            self.dropped.add(ticket)

    def _receive(self) -> None:
        try:
            error = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        ticket, place, size = self.pending.popleft()
        if ticket in self.dropped:
            self.dropped.remove(ticket)
            self.free.append(place)
        else:
            self.made[ticket] = (place, size, error)

    def _ended(self) -> UserError:
        self.process.join(1)
        return UserError(f"a process that decodes images ended early (status {self.process.exitcode})")


def _stop(workers: list[_Worker]) -> None:
    """End processes, whatever they are at: they hold nothing that is needed."""
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.process.close()
    workers.clear()


def _serve(connection: Connection, memory: Any, shape: tuple[int, ...], fill: Fill) -> None:
    """Be one of the processes: fill what is asked for, until nobody is left to ask."""
    import torch

    # Whoever trains is told of Ctrl-C or the job's end too, and needs mini-batches to the end of its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    arrays = np.frombuffer(memory, np.uint8).reshape(-1, *shape)
    while True:
        try:
            place, size, task = connection.recv()
        except (EOFError, OSError):
            return
        error = None
        try:
            fill(task, arrays[place, :size])
        except UserError as found:
            error = found
        try:
            connection.send(error)
        except OSError:
            return
