"""Distributed data parallel training of a job's runs, with torchrun's agent in this process.

The agent starts the processes. If one of them dies, it ends the others and starts all again, from the last checkpoint.
Runs are trained one after another; all processes call `rdp.jobs.runner.run_job`.
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
from rdp.jobs.signals import terminate_with_parent
from rdp.spec import Choice, RunSpec
from rdp.store import RunRecord, Store
from rdp.utils import console

RESTARTS = 3  # of all processes, in one job; the workflow restarts jobs as well
_TIMEOUT = timedelta(days=7)  # the first process may wait for another job that trains the same run


def run_job(
    specs: list[RunSpec],
    results: Path,
    device: str,
    *,
    checkpoint_seconds: float = 60,
    known_choices: Mapping[str, Choice] | None = None,
    event_folder: Path | None = None,
) -> list[RunRecord]:
    """Train runs as `rdp.jobs.runner.run_job` does, each in the number of processes of its specification.

    Raises:
        UserError: as there; or processes died too often, or there are fewer GPUs than processes.
        Terminated: SIGTERM came. The run in training has written its checkpoint.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    processes, device = specs[0].processes, runner.choose_device(device)
    if device == "cuda" and (available := torch.cuda.device_count()) < processes:
        raise UserError(f"device: {processes} processes need a GPU each, but this machine has {available}")
    os.environ.setdefault("OMP_NUM_THREADS", str(specs[0].threads))  # otherwise the agent sets it, with a warning
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
        monitor_interval=0.2,
        start_method="spawn",  # torch's threads do not survive a fork
        local_addr="localhost",
    )
    contents = [spec.model_dump(mode="json") for spec in specs]
    options = {
        "checkpoint_seconds": checkpoint_seconds,
        "known_choices": known_choices,
        "event_folder": event_folder,
    }
    try:
        elastic_launch(config, _worker)(contents, str(results), device, options, console.verbosity())
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


def _worker(contents: list[dict[str, Any]], results: str, device: str, options: dict[str, Any], verbosity: int) -> None:
    terminate_with_parent()
    import torch
    from torch import distributed
    from torch._C._distributed_c10d import PrefixStore, TCPStore  # torch.distributed exports them without a type

    from rdp.data import workers
    from rdp.training.process_group import ProcessGroup

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    console.configure_logging(verbosity if rank == 0 else -2)  # the others would repeat its lines
    # Each has its own processes for decoding streamed images: in all, one fewer than there are cores.
    os.environ.setdefault(workers.VARIABLE, str(max(1, len(os.sched_getaffinity(0)) // size - 1)))
    if device == "cuda":
        torch.cuda.set_device(rank)
    # The agent's store survives a restart. Without a prefix, processes would read the addresses of dead ones.
    agent = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    store = PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", agent)
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    specs = [RunSpec(**content) for content in contents]
    try:
        runner.run_job(specs, Path(results), device, bar=False, group=ProcessGroup(rank, size), **options)
    except Terminated:
        sys.exit(143)
    distributed.destroy_process_group()
