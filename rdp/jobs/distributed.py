"""A job whose runs are trained by several processes together: torchrun's agent, within this process.

The agent starts the processes, and where one of them dies, ends the others and starts all anew; they go on from the
last checkpoint. Runs are trained one after another, each as its own `rdp.jobs.runner.run_job` by all processes.
"""

import os
import signal
import sys
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rdp.errors import Terminated, UserError
from rdp.jobs import runner
from rdp.jobs.signals import end_with_parent
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store

RESTARTS = 3  # of all processes together, in one job; the workflow starts jobs again too
_WAIT = timedelta(days=7)  # of processes for the first, which may wait for another job that trains the same run


def run_job(
    specs: list[RunSpec],
    results: Path,
    device: str,
    *,
    checkpoint_seconds: float = 60,
    known_rates: Mapping[str, float] | None = None,
) -> list[RunRecord]:
    """Train runs as `rdp.jobs.runner.run_job` does, each by as many processes as its specification says.

    Raises:
        UserError: as there; or processes died more often than they are started anew, or fewer GPUs than processes.
        Terminated: SIGTERM came. The run in training has written its checkpoint.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processes, chosen = specs[0].processes, runner.choose_device(device)
    _check_gpus(processes, chosen)
    os.environ.setdefault("OMP_NUM_THREADS", str(specs[0].threads))  # which the agent would set, and say so
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
        monitor_interval=0.2,
        start_method="spawn",  # torch's threads survive no fork
        local_addr="localhost",
    )
    told = [spec.model_dump(mode="json") for spec in specs]
    options = {"checkpoint_seconds": checkpoint_seconds, "known_rates": known_rates}
    try:
        elastic_launch(config, _work)(told, str(results), chosen, options)
    except SignalException as error:
        if error.sigval == signal.SIGTERM:
            raise Terminated from None
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        reason = str(failure.message).strip().splitlines()
        raise UserError(
            f"process {rank} of {processes} ended early (status {failure.exitcode}) {RESTARTS + 1} times"
            + (f": {reason[-1]}" if reason else "")
        ) from None
    store = Store(results)
    return [store.read(spec.run) for spec in specs]


def _check_gpus(processes: int, device: str) -> None:
    if device == "cuda":
        import torch

        if (there := torch.cuda.device_count()) < processes:
            raise UserError(f"device: {processes} processes train a run, each on a GPU of its own; there are {there}")


def _work(told: list[dict[str, Any]], results: str, device: str, options: dict[str, Any]) -> None:
    """Be one of the processes."""
    end_with_parent()
    import torch
    from torch import distributed

    from rdp.data import workers
    from rdp.training.process_group import World

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # Each has processes of its own that decode images that are streamed: together, one fewer than there are cores.
    os.environ.setdefault(workers.VARIABLE, str(max(1, len(os.sched_getaffinity(0)) // size - 1)))
    if device == "cuda":
        torch.cuda.set_device(rank)
    # The agent's store outlives those that died: without a prefix, processes would find where the dead ones listened.
    agent = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    store = distributed.PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", agent)
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAIT)
    specs = [RunSpec(**content) for content in told]
    try:
        runner.run_job(specs, Path(results), device, bar=False, world=World(rank, size), **options)
    except Terminated:
        sys.exit(143)
    distributed.destroy_process_group()
