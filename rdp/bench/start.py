"""What a cell's job takes before it trains, and the memory it comes to: each measured in a process of its own.

Run as a program, this file is that process: it prints, as JSON, when it came to each of `STAGES`, and its peak memory.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

STAGES = ("interpreter", "imports", "network", "first step", "operations counted")
ARCHITECTURES = ("resnet20", "resnet56", "vit_tiny")
_STEPS = 3  # whose memory is the peak: the optimizer has its state after the first


@dataclass(frozen=True)
class Start:
    """What a job takes until it trains.

    Attributes:
        seconds: that each of `STAGES` took, the medians: the interpreter's start; torch and what trains; data and
            network; the first step; the count of the operations of an iteration.
        peak_bytes: of the process after some steps, the median.
    """

    architecture: str
    batch_size: int
    rounds: int
    seconds: dict[str, float]
    peak_bytes: int


def start(architecture: str, *, batch_size: int, rounds: int, threads: int, device: str) -> Start:
    """Start so many processes, one after another, each with one network. ``device`` is ``cpu`` or ``cuda``."""
    import numpy as np

    found = []
    for _ in range(rounds):
        command = [sys.executable, __file__, architecture, str(batch_size), str(threads), device, repr(time.time())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    seconds = np.median([row["seconds"] for row in found], axis=0)
    return Start(
        architecture=architecture,
        batch_size=batch_size,
        rounds=rounds,
        seconds=dict(zip(STAGES, seconds.tolist(), strict=True)),
        peak_bytes=int(np.median([row["peak_bytes"] for row in found])),
    )


def run(*, batch_size: int, rounds: int, threads: int, device: str, results: Path) -> tuple["Table", Path]:
    """Measure `ARCHITECTURES`; return a table for the terminal, and where the figures are: ``bench/start.json``."""
    from rich.table import Table

    from rdp import files
    from rdp.bench import Setting

    setting = Setting.of(device, threads)
    options = {"batch_size": batch_size, "rounds": rounds, "threads": threads, "device": setting.device.type}
    found = [start(architecture, **options) for architecture in ARCHITECTURES]
    path = results / "bench" / "start.json"
    files.write_json(path, setting.facts | {"starts": [asdict(row) for row in found]})
    title = f"Until a job trains, in seconds: {setting}, batch {batch_size}, {rounds} starts each"
    table = Table("architecture", *STAGES, "all", "peak memory", title=title, title_justify="left")
    for row in found:
        stages = (f"{row.seconds[stage]:.2f}" for stage in STAGES)
        table.add_row(row.architecture, *stages, f"{sum(row.seconds.values()):.2f}", f"{row.peak_bytes / 1e6:.0f} MB")
    return table, path


def _child(architecture: str, batch_size: int, threads: int, device: str, began: float) -> None:
    """Be a job's process up to its first steps."""
    marks = [began, time.time()]
    import torch

    from rdp.bench import engine
    from rdp.train import make_deterministic

    marks.append(time.time())
    make_deterministic(threads)
    run = engine.make_run(architecture, batch_size, "float32", torch.device(device))
    marks.append(time.time())
    run.train_step()
    marks.append(time.time())
    _ = run.iteration_cost
    marks.append(time.time())
    for _ in range(_STEPS):
        run.train_step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = [after - before for before, after in pairwise(marks)]
    os.write(1, json.dumps({"seconds": seconds, "peak_bytes": peak}).encode())


if __name__ == "__main__":
    name, size, count, where, began = sys.argv[1:]
    sys.path[0] = str(Path(__file__).parents[2])  # this folder has modules that are called as others of the library
    _child(name, int(size), int(count), where, float(began))
