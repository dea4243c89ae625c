"""Benchmark `start`: the time until a job trains, by stage, and its peak memory, each in a fresh process.

This file is also the program of that process. It prints the seconds of each of `STAGES` and the peak memory as JSON.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdp.bench.measuring import Benchmark, Setting

STAGES = ("interpreter", "imports", "network", "first step", "operations counted")
_MAX_STARTS = 5  # of each architecture: a start takes seconds, and starts differ little
_STEPS = 3  # after the first step, which allocates the optimizer's state


@dataclass(frozen=True)
class Start:
    """Cost of starting a job."""

    architecture: str
    # median time of each of `STAGES`: interpreter, imports, data and network, first step, count of its operations
    seconds: dict[str, float]
    peak_bytes: int  # median peak memory of the process


def start(architecture: str, setting: "Setting") -> Start:
    """Start processes one after another and return the medians."""
    import numpy as np

    names = ("batch_size", "precision", "rounds", "threads")
    options = {name: getattr(setting, name) for name in names} | {"device": setting.device.type}
    starts = []
    for _ in range(min(setting.rounds, _MAX_STARTS)):
        command = [sys.executable, __file__, architecture, json.dumps(options), repr(time.time())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        starts.append(json.loads(done.stdout))
    seconds = np.median([row["seconds"] for row in starts], axis=0)
    return Start(
        architecture=architecture,
        seconds=dict(zip(STAGES, seconds.tolist(), strict=True)),
        peak_bytes=int(np.median([row["peak_bytes"] for row in starts])),
    )


def run(setting: "Setting") -> "Benchmark":
    """Time the architectures of `rdp.bench.engine`."""
    from rdp.bench.engine import ARCHITECTURES
    from rdp.bench.measuring import Benchmark, table

    starts = [start(architecture, setting) for architecture in ARCHITECTURES]
    title = "Seconds until a job trains"
    shown = table(f"{title}: {setting}", "architecture", *STAGES, "all", "peak memory")
    for row in starts:
        stages = (f"{row.seconds[stage]:.2f}" for stage in STAGES)
        shown.add_row(row.architecture, *stages, f"{sum(row.seconds.values()):.2f}", f"{row.peak_bytes / 1e6:.0f} MB")
    return Benchmark(title, starts, shown)


def _child(architecture: str, options: dict[str, Any], began: float) -> None:
    marks = [began, time.time()]
    from rdp.bench import engine
    from rdp.bench.measuring import Setting

    marks.append(time.time())
    run = engine.make_run(architecture, Setting.of(**options))
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
    sys.path[0] = str(Path(__file__).parents[2])  # modules of this folder have the names of libraries
    architecture, options, began = sys.argv[1:]
    _child(architecture, json.loads(options), float(began))
