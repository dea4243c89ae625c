"""What a cell's job takes before it trains, and the memory it comes to: each measured in a process of its own.

Run as a program, this file is that process: it prints, as JSON, when it came to each of `STAGES`, and its peak memory.
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
_MOST = 5  # starts of each: one takes seconds, and they differ little
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
    seconds: dict[str, float]
    peak_bytes: int


def start(architecture: str, setting: "Setting") -> Start:
    """Start so many processes, one after another, each with one network."""
    import numpy as np

    given = {"batch_size": setting.batch_size, "precision": setting.precision, "rounds": setting.rounds}
    given |= {"threads": setting.threads, "device": setting.device.type}
    found = []
    for _ in range(min(setting.rounds, _MOST)):
        command = [sys.executable, __file__, architecture, json.dumps(given), repr(time.time())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    seconds = np.median([row["seconds"] for row in found], axis=0)
    return Start(
        architecture=architecture,
        seconds=dict(zip(STAGES, seconds.tolist(), strict=True)),
        peak_bytes=int(np.median([row["peak_bytes"] for row in found])),
    )


def run(setting: "Setting") -> "Benchmark":
    """Measure the architectures of `rdp.bench.engine`."""
    from rdp.bench.engine import ARCHITECTURES
    from rdp.bench.measuring import Benchmark, table

    found = [start(architecture, setting) for architecture in ARCHITECTURES]
    title = "Until a job trains, in seconds"
    shown = table(f"{title}: {setting}", "architecture", *STAGES, "all", "peak memory")
    for row in found:
        stages = (f"{row.seconds[stage]:.2f}" for stage in STAGES)
        shown.add_row(row.architecture, *stages, f"{sum(row.seconds.values()):.2f}", f"{row.peak_bytes / 1e6:.0f} MB")
    return Benchmark(title, found, shown)


def _child(architecture: str, given: dict[str, Any], began: float) -> None:
    """Be a job's process up to its first steps."""
    marks = [began, time.time()]
    from rdp.bench import engine
    from rdp.bench.measuring import Setting

    marks.append(time.time())
    run = engine.make_run(architecture, Setting.of(**given))
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
    sys.path[0] = str(Path(__file__).parents[2])  # this folder has modules that are called as others of the library
    name, given, began = sys.argv[1:]
    _child(name, json.loads(given), float(began))
