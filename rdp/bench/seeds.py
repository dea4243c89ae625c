"""Seeds side by side, each in a process of its own, beside one seed alone: what `rdp.jobs.parallel` gains.

One seed alone with all the threads stands beside it: the other thing that cores can be used for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

from rdp.bench.engine import ARCHITECTURES, make_run
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table
from rdp.errors import UserError
from rdp.utils import machine

_STEPS = 4  # in a round


@dataclass(frozen=True)
class Packing:
    """Several seeds on several cores, beside one on one.

    Attributes:
        seeds: how many, as many as there are cores.
        side_by_side: throughput of the seeds together, as a multiple of one alone.
        threads: throughput of one seed with as many threads, as a multiple of one thread's.
        step_seconds: a step of one alone, the median.
    """

    architecture: str
    seeds: int
    side_by_side: Ratio
    threads: Ratio
    step_seconds: float


def packing(architecture: str, seeds: int, setting: Setting) -> Packing:
    """Time some steps of one seed, of all side by side, and of one with as many threads, in alternation."""
    with _workers(architecture, [1] * seeds + [seeds], setting) as workers:
        *alone, wide = workers

        def of(some: list[Connection]) -> Callable[[], None]:
            def work() -> None:
                for worker in some:
                    worker.send(_STEPS)
                for worker in some:
                    worker.recv()

            return work

        work = {"one": of(alone[:1]), "all": of(alone), "threads": of([wide])}
        seconds = alternate(work, setting.rounds, setting.device)
    return Packing(
        architecture=architecture,
        seeds=seeds,
        side_by_side=Ratio.of(seeds * seconds["one"] / seconds["all"]),
        threads=Ratio.of(seconds["one"] / seconds["threads"]),
        step_seconds=float(np.median(seconds["one"])) / _STEPS,
    )


@contextmanager
def _workers(architecture: str, threads: list[int], setting: Setting) -> Iterator[list[Connection]]:
    """Processes with a run each; each takes as many steps as it is sent, and answers when it has."""
    context = get_context("spawn")
    pipes = [context.Pipe() for _ in threads]
    started = []
    try:
        for count, (_, theirs) in zip(threads, pipes, strict=True):
            given = {"threads": count, "batch_size": setting.batch_size, "precision": setting.precision}
            started.append(context.Process(target=_work, args=(theirs, architecture, given), daemon=True))
            started[-1].start()
            theirs.close()  # so that its end is seen here
        yield [ours for ours, _ in pipes]
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in started:
            process.join()


def _work(orders: Connection, architecture: str, given: dict[str, int | str]) -> None:
    """Be one of the processes, until nobody listens."""
    setting = Setting.of(device="cpu", rounds=0, **given)
    run = make_run(architecture, setting)
    try:
        while True:
            stepper(run, orders.recv())()
            orders.send(None)
    except (EOFError, BrokenPipeError):
        return


def run(setting: Setting) -> Benchmark:
    """Measure the architectures of `rdp.bench.engine`, on as many cores as there are."""
    if setting.device.type != "cpu":
        raise UserError("bench: seeds side by side are processes on cores of the CPU; --device cpu measures them")
    cores = machine.size()["cores"]
    if cores < 2:
        raise UserError("bench: one core has no room for seeds side by side")
    found = [packing(architecture, cores, setting) for architecture in ARCHITECTURES]
    title = f"Training throughput of {cores} cores, of one core's"
    columns = ("architecture", f"{cores} seeds side by side", f"one seed, {cores} threads", "step on one core")
    shown = table(f"{title}: {setting}", *columns)
    comparisons = []
    for row in found:
        step = f"{row.step_seconds * 1e3:.1f} ms"
        shown.add_row(row.architecture, str(row.side_by_side), str(row.threads), step)
        comparisons.append(Comparison(f"{row.architecture}, {cores} seeds", row.side_by_side))
        comparisons.append(Comparison(f"{row.architecture}, {cores} threads", row.threads))
    return Benchmark(title, found, shown, comparisons)
