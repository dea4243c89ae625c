"""Training of a job's runs in parallel, in processes that share the job's cores.

Each process trains one run after another, each with the number of threads in its specification. So the number of
processes changes no result.
"""

import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rdp.errors import Terminated, UserError
from rdp.jobs import distributed, runner
from rdp.jobs.signals import Termination, terminate_with_parent, termination
from rdp.spec import Choice, RunSpec, at_once
from rdp.store import RunRecord, Store
from rdp.utils import console

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


def run_job(
    specs: list[RunSpec],
    results: Path,
    device: str,
    *,
    cores: int,
    checkpoint_seconds: float = 60,
    known_choices: Mapping[str, Choice] | None = None,
    event_folder: Path | None = None,
) -> list[RunRecord]:
    """Train runs as `rdp.jobs.runner.run_job` does, as many at a time as the cores allow; on a GPU, one at a time.

    Distributed runs are trained one after another.

    Raises:
        UserError: as there; or a process ended before its runs were done.
        Terminated: SIGTERM came. Every run in training has written its checkpoint.
    """
    options: dict[str, Any] = {
        "checkpoint_seconds": checkpoint_seconds,
        "known_choices": known_choices,
        "event_folder": event_folder,
    }
    if any(spec.recipe.compile for spec in specs):
        from rdp.training.compilation import compiler

        compiler(runner.choose_device(device))  # a missing one is reported here, once, and not by every process
    if specs[0].processes > 1:
        return distributed.run_job(specs, results, device, **options)
    processes = at_once(specs, cores)
    if processes < 2 or runner.choose_device(device) != "cpu":
        return runner.run_job(specs, results, device, **options)
    options["results"] = results
    untuned = [spec for spec in specs if spec.cell not in (known_choices or {})]
    sweep = {candidate.run: candidate for spec in untuned for candidate in spec.candidates()}
    for batch in (list(sweep.values()), specs):  # the sweep first, or every process would train all of it
        _train(batch, processes, options)
    store = Store(results)
    return [store.read(spec.run) for spec in specs]


def _train(specs: list[RunSpec], processes: int, options: dict[str, Any]) -> None:
    context = get_context("forkserver")  # torch's threads do not survive a fork; the server has only imported torch
    context.set_forkserver_preload(["rdp.training.trainer"])
    next_index = context.Value("i", 0)
    arguments = (specs, next_index, options, console.verbosity())
    workers = [context.Process(target=_worker, args=arguments) for _ in range(min(processes, len(specs)))]
    with termination.on(signal.SIGTERM), Termination().on(signal.SIGINT) as interrupt:
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive() and not (termination.requested or interrupt.requested):
                    worker.join(_POLL_SECONDS)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()
            for worker in workers:
                worker.join()
        termination.check()
        if interrupt.requested:
            raise KeyboardInterrupt
    statuses = [worker.exitcode for worker in workers if worker.exitcode]
    if statuses:
        raise UserError(f"{len(statuses)} of {len(workers)} processes ended early (status {statuses[0]}), see above")


def _worker(specs: list[RunSpec], next_index: Any, options: dict[str, Any], verbosity: int) -> None:
    """Train the next run until none is left: the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the job too, which ends its processes
    terminate_with_parent()
    console.configure_logging(verbosity)

    def remaining() -> Iterator[RunSpec]:
        while True:
            with next_index.get_lock():
                index, next_index.value = next_index.value, next_index.value + 1
            if index >= len(specs):
                return
            yield specs[index]

    try:
        runner.run_job(remaining(), device="cpu", bar=False, **options)
    except Terminated:
        sys.exit(143)
    except UserError as error:
        log.error("rdp: %s", error)
        sys.exit(2)
