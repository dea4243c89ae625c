"""Benchmark `timm`: a training run against timm's loop: timm's dataset, loader, transforms and optimizer.

Network, batch size and thread count are the same. Two pairs are timed. The first is a run with the setting's precision
and the loop of timm's documentation. The second is the fastest run and the fastest loop that options of both give:
float32 or bfloat16, channels first or last, compiled or not. A few rounds choose them, and other rounds compare them.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import torch

from rdp.bench.engine import ARCHITECTURES, make_run
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table
from rdp.bench.peaks import PRECISIONS
from rdp.bench.timm_loop import WORKERS, Steps, dataset, make_loader, steps_of_timm, unrestricted
from rdp.training.compilation import compiler
from rdp.training.trainer import Trainer
from rdp.utils import paths

_CHOOSING = 2  # rounds to choose the fastest options
_ROUND_SECONDS, _MOST_STEPS = 0.4, 8  # of a round of the comparison: about, and at most
DOCUMENTED: Final = "documented loop"


@dataclass(frozen=True)
class Options:
    """Options that a run's recipe and timm's loop share."""

    precision: Literal["float32", "bfloat16"]
    channels_last: bool
    compiled: bool = False

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "channels first"
        return ", ".join([self.precision, layout, *(["compiled"] if self.compiled else [])])


@dataclass(frozen=True)
class Entry:
    """A run, or a timm loop, with options."""

    side: Literal["run", "loop", "documented loop"]  # the last without options that timm's documentation does not use
    options: Options


@dataclass(frozen=True)
class Trial:
    """A measurement of an entry while the fastest are chosen."""

    side: str
    options: Options
    step_seconds: float  # median time of a step


@dataclass(frozen=True)
class LoopSpeed:
    """Speed of a training run and of a timm loop."""

    architecture: str
    loop: str  # ``documented`` or ``fastest``
    run_options: Options
    loop_options: Options
    workers: int  # number of processes of timm's loader
    throughput: Ratio  # training throughput of the run over the loop's
    step_seconds: float  # median time of a step of the run
    loop_seconds: float  # median time of a step of the loop
    trials: list[Trial]  # what the fastest were chosen from


class Race:
    """Runs and timm loops of one architecture, made and timed when needed.

    Attributes:
        trials: median seconds of a step while the fastest are chosen.
    """

    def __init__(self, architecture: str, images: Any, setting: Setting) -> None:
        self.architecture, self.images, self.setting = architecture, images, setting
        self.trials: dict[Entry, float] = {}
        self._steps: dict[Entry, Steps] = {}

    def choose(self, *, compiled: bool) -> None:
        """Try options: each precision and layout, then the fastest run and loop also compiled.

        Runs have channels last throughout.
        """
        options = [Options(precision, last) for precision in PRECISIONS for last in (False, True)]
        self._try([Entry("loop", one) for one in options] + [Entry("run", one) for one in options if one.channels_last])
        if compiled:
            # The loop first: it compiles on all cores, and the run finds most of the compiled code.
            entries = [self.fastest("loop"), self.fastest("run")]
            self._try(entries + [replace(one, options=replace(one.options, compiled=True)) for one in entries])

    def fastest(self, side: str) -> Entry:
        """Return the fastest of the runs or loops tried."""
        return min((entry for entry in self.trials if entry.side == side), key=self.trials.__getitem__)

    def time(self, entries: Iterable[Entry]) -> "dict[Entry, np.ndarray[Any, Any]]":
        """Return the seconds of a step of each entry, timed in alternation, shape (rounds,)."""
        made = {entry: self._made(entry) for entry in entries}
        steps = min(_MOST_STEPS, max(1, round(_ROUND_SECONDS / min(self.trials.values()))))
        steps = 1 if self.setting.smoke else steps
        work = {entry: partial(function, steps) for entry, function in made.items()}
        return {
            entry: seconds / steps
            for entry, seconds in alternate(work, self.setting.rounds, self.setting.device).items()
        }

    def _try(self, entries: list[Entry]) -> None:
        work = {entry: partial(self._made(entry), 1) for entry in entries}
        seconds = alternate(work, _CHOOSING, self.setting.device)
        self.trials |= {entry: float(np.median(times)) for entry, times in seconds.items()}

    def _made(self, entry: Entry) -> Steps:
        if entry not in self._steps:
            self._steps[entry] = (self._run if entry.side == "run" else self._loop)(entry)
        return self._steps[entry]

    def _trainer(self, options: Options, *, compiled: bool) -> Trainer:
        setting = replace(self.setting, precision=options.precision)
        return make_run(self.architecture, setting, channels_last=options.channels_last, compile=compiled)

    def _run(self, entry: Entry) -> Steps:
        run = self._trainer(entry.options, compiled=entry.options.compiled)
        return lambda steps: stepper(run, steps)()

    def _loop(self, entry: Entry) -> Steps:
        made, options = self._trainer(entry.options, compiled=False), entry.options
        if options.compiled:
            made.network.compile()
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        loader = make_loader(self.images, self.setting.batch_size, self.setting.device)
        fused = {} if entry.side == DOCUMENTED else {"fused": True}
        steps_of_loop = steps_of_timm(made.network, loader, layout, made.recipe, **fused)

        def work(steps: int) -> None:
            with unrestricted():
                steps_of_loop(steps)

        if options.compiled:
            with torch._inductor.config.patch(compile_threads=os.cpu_count()):  # a compiled run sets one per thread
                work(1)
        return work


def loop_speeds(architecture: str, images: Any, setting: Setting, *, compiled: bool = True) -> list[LoopSpeed]:
    """Time a run and the documented loop, and the fastest run and loop, all in alternation."""
    race = Race(architecture, images, setting)
    race.choose(compiled=compiled)
    pairs = {
        "documented": (
            Entry("run", Options(setting.precision, channels_last=True)),
            Entry(DOCUMENTED, Options(setting.precision, channels_last=False)),
        ),
        "fastest": (race.fastest("run"), race.fastest("loop")),
    }
    seconds = race.time(dict.fromkeys(entry for pair in pairs.values() for entry in pair))
    return [
        LoopSpeed(
            architecture=architecture,
            loop=name,
            run_options=run.options,
            loop_options=loop.options,
            workers=WORKERS,
            throughput=Ratio.of(seconds[loop] / seconds[run]),
            step_seconds=float(np.median(seconds[run])),
            loop_seconds=float(np.median(seconds[loop])),
            trials=[Trial(entry.side, entry.options, step) for entry, step in race.trials.items()],
        )
        for name, (run, loop) in pairs.items()
    ]


def bar(architecture: str, loop: str, setting: Setting) -> float:
    """Return the least throughput of a run over the loop's that counts as a pass."""
    if loop == "fastest":
        return 1.0
    if setting.device.type == "cpu":
        return 1.2
    return 5.0 if architecture == "resnet20" else 1.0


def run(setting: Setting) -> Benchmark:
    """Time `ARCHITECTURES`; with ``smoke``, only the first is compiled.

    Raises:
        UserError: there are no images, or no compiler.
    """
    images = dataset(paths.datasets())
    compiler(setting.device.type)
    speeds = [
        row
        for name in ARCHITECTURES
        for row in loop_speeds(name, images, setting, compiled=not setting.smoke or name == ARCHITECTURES[0])
    ]
    title = "Training throughput of a run over the timm loop's"
    columns = ("architecture", "timm loop", "run / loop", "run", "step of the run", "step of the loop")
    caption = f"timm's loader has {WORKERS} worker process; documented: as in timm's documentation"
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    comparisons = []
    for row in speeds:
        steps = (f"{seconds * 1e3:.1f} ms" for seconds in (row.step_seconds, row.loop_seconds))
        loop = f"{row.loop}: {row.loop_options}"
        shown.add_row(row.architecture, loop, str(row.throughput), str(row.run_options), *steps)
        least = bar(row.architecture, row.loop, setting)
        comparisons.append(Comparison(f"{row.architecture}, {row.loop} loop", row.throughput, least))
    return Benchmark(title, speeds, shown, comparisons)
