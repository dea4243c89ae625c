"""Benchmark `seeds`: several seeds in parallel processes, as in `rdp.jobs.parallel`, against one seed on one core.

The alternative use of the cores, one seed with as many threads, is timed too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

from rdp.bench.engine import ARCHITECTURES, make_run
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table
from rdp.errors import UserError
from rdp.training.determinism import make_deterministic
from rdp.utils import machine

_STEPS = 4  # in a round


@dataclass(frozen=True)
class Packing:
    """Throughput of several cores over that of one core."""

    architecture: str
    seeds: int
    parallel: Ratio  # throughput of all seeds in parallel over one seed's
    threads: Ratio  # throughput of one seed with as many threads over one thread's
    step_seconds: float  # median time of a step on one core


def packing(architecture: str, seeds: int, setting: Setting) -> Packing:
    """Time steps of one seed, of all seeds in parallel, and of one seed with as many threads, in alternation."""
    with _workers(architecture, [1] * seeds + [seeds], setting) as workers:
        *single, threaded = workers

        def steps_of(connections: list[Connection]) -> Callable[[], None]:
            def work() -> None:
                for connection in connections:
                    connection.send(_STEPS)
                for connection in connections:
                    connection.recv()

            return work

        work = {"one": steps_of(single[:1]), "all": steps_of(single), "threads": steps_of([threaded])}
        seconds = alternate(work, setting.rounds, setting.device)
    return Packing(
        architecture=architecture,
        seeds=seeds,
        parallel=Ratio.of(seeds * seconds["one"] / seconds["all"]),
        threads=Ratio.of(seconds["one"] / seconds["threads"]),
        step_seconds=float(np.median(seconds["one"])) / _STEPS,
    )


@contextmanager
def _workers(architecture: str, threads: list[int], setting: Setting) -> Iterator[list[Connection]]:
    """Start processes with one run each. A process runs as many steps as it is sent, then answers."""
    context = get_context("spawn")
    pipes = [context.Pipe() for _ in threads]
    processes = []
    try:
        for count, (_, theirs) in zip(threads, pipes, strict=True):
            arguments = (theirs, architecture, replace(setting, threads=count))
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            processes.append(process)
            theirs.close()  # so that the end of the process closes the pipe
        yield [ours for ours, _ in pipes]
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in processes:
            process.join()


def _work(orders: Connection, architecture: str, setting: Setting) -> None:
    """Run steps as ordered until the other end of the pipe closes."""
    make_deterministic(setting.threads)
    run = make_run(architecture, setting)
    try:
        while True:
            stepper(run, orders.recv())()
            orders.send(None)
    except (EOFError, BrokenPipeError):
        return


def run(setting: Setting) -> Benchmark:
    """Time the architectures of `rdp.bench.engine` on all cores."""
    if setting.device.type != "cpu":
        raise UserError("bench: seeds: parallel processes use CPU cores; run it with --device cpu")
    cores = machine.size()["cores"]
    if cores < 2:
        raise UserError("bench: seeds: at least two CPU cores are needed")
    packings = [packing(architecture, cores, setting) for architecture in ARCHITECTURES]
    title = f"Training throughput of {cores} cores over one core's"
    columns = ("architecture", f"{cores} seeds in parallel", f"one seed, {cores} threads", "step on one core")
    shown = table(f"{title}: {setting}", *columns)
    comparisons = []
    for row in packings:
        step = f"{row.step_seconds * 1e3:.1f} ms"
        shown.add_row(row.architecture, str(row.parallel), str(row.threads), step)
        comparisons.append(Comparison(f"{row.architecture}, {cores} seeds", row.parallel))
        comparisons.append(Comparison(f"{row.architecture}, {cores} threads", row.threads))
    return Benchmark(title, packings, shown, comparisons)
