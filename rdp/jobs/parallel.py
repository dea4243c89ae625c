"""A job's runs side by side, in processes of their own, within the cores that the job was given.

Each process trains one run after another, each run with the threads that its specification states: how many
processes there are changes no number.
"""

import signal
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rdp.errors import Terminated, UserError
from rdp.jobs import distributed, runner
from rdp.jobs.signals import end_with_parent, interruptible, terminable
from rdp.spec import RunSpec, at_once
from rdp.store import RunRecord, Store

_LOOK_SECONDS = 0.2


def run_job(
    specs: list[RunSpec],
    results: Path,
    device: str,
    *,
    cores: int,
    checkpoint_seconds: float = 60,
    known_rates: Mapping[str, float] | None = None,
) -> list[RunRecord]:
    """Train runs as `rdp.jobs.runner.run_job` does, so many at a time as there are cores for; on a GPU, one at a time.

    Runs that several processes train together go one after another.

    Raises:
        UserError: as there; or a process ended before its runs were done.
        Terminated: SIGTERM came. Every run in training has written its checkpoint.
    """
    options: dict[str, Any] = {"checkpoint_seconds": checkpoint_seconds, "known_rates": known_rates}
    if specs[0].processes > 1:
        return distributed.run_job(specs, results, device, **options)
    processes = at_once(specs, cores)
    if processes < 2 or runner.choose_device(device) != "cpu":
        return runner.run_job(specs, results, device, **options)
    options["results"] = results
    unknown = [spec for spec in specs if spec.cell not in (known_rates or {})]
    sweep = {candidate.run: candidate for spec in unknown for candidate in spec.candidates()}
    for batch in (list(sweep.values()), specs):  # every process would train the whole sweep otherwise, run by run
        _train(batch, processes, options)
    store = Store(results)
    return [store.read(spec.run) for spec in specs]


def _train(specs: list[RunSpec], processes: int, options: dict[str, Any]) -> None:
    """Train all of them, and wait until it is done."""
    context = get_context("forkserver")  # torch's threads survive no fork; its server has imported torch, and no more
    context.set_forkserver_preload(["rdp.training.trainer"])
    taken = context.Value("i", 0)
    workers = [context.Process(target=_work, args=(specs, taken, options)) for _ in range(min(processes, len(specs)))]
    with terminable(), interruptible() as interrupted:
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                while worker.is_alive() and not (terminable.asked or interrupted.asked):
                    worker.join(_LOOK_SECONDS)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.terminate()
            for worker in workers:
                worker.join()
        terminable.look()
    if interrupted.asked:
        raise KeyboardInterrupt
    bad = [worker.exitcode for worker in workers if worker.exitcode]
    if bad:
        raise UserError(f"{len(bad)} of {len(workers)} processes ended early (status {bad[0]}), see above")


def _work(specs: list[RunSpec], taken: Any, options: dict[str, Any]) -> None:
    """Be one of the processes: take the next run, until none is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the job too, which ends its processes in order
    end_with_parent()

    def mine() -> Iterator[RunSpec]:
        while True:
            with taken.get_lock():
                place, taken.value = taken.value, taken.value + 1
            if place >= len(specs):
                return
            yield specs[place]

    try:
        runner.run_job(mine(), device="cpu", bar=False, **options)
    except Terminated:
        sys.exit(143)
    except UserError as error:
        print(f"rdp: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
