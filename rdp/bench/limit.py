"""Benchmark `limit`: what share of the machine's highest rates a training step reaches, by kind of operation.

The least time of a kind is the larger of two: its floating-point operations at the highest rate of matrix products in
their precision, and the bytes that it moves at the highest rate for its working sets (the roofline model of Williams,
Waterman and Patterson, 2009). Its share of the limit is that time over the measured one. All highest rates are measured
in turn with the steps. Steps are not compiled, because compiled code fuses operations of several kinds.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch.autograd.profiler import profile

from rdp.bench.engine import ARCHITECTURES, make_run
from rdp.bench.measuring import WARM_UP, Benchmark, Comparison, Ratio, Setting, alternate, stepper, table
from rdp.bench.operations import KINDS, OTHER, Operation, operations
from rdp.bench.peaks import PRECISIONS, Peaks, peaks, probes
from rdp.training.trainer import Trainer

Seconds = dict[str, float]  # by kind of operation


@dataclass(frozen=True)
class KindLimit:
    """What the operations of one kind in a step need and take."""

    kind: str  # one of `KINDS`, or ``other``: the rest of the step, which has no limit
    flops: int  # floating-point operations
    moved: int  # bytes read plus bytes written
    compute_seconds: float  # least time of the floating-point operations
    memory_seconds: float  # least time of reading and writing
    seconds: float  # median time
    share: Ratio | None  # least time over measured time; None for ``other`` and for a kind that the step lacks

    @property
    def least(self) -> float:
        """The least time in seconds."""
        return max(self.compute_seconds, self.memory_seconds)


@dataclass(frozen=True)
class StepLimit:
    """The share of the machine's limit that a training step reaches."""

    architecture: str
    precision: str
    share: Ratio  # sum of the least times over the time of the step
    step_seconds: float  # median time of a step, not profiled
    kinds: list[KindLimit]  # `KINDS`, then ``other``
    peaks: Peaks  # the machine's highest rates, the same in all rows


class Profile:
    """A function that profiles one training step and keeps the seconds of each kind."""

    def __init__(self, run: Trainer) -> None:
        self.step, self.device = stepper(run, 1), run.device
        self.step()  # makes the optimizer's state, which later steps find
        self.operations = operations(self.step)
        self._kinds = {operation.name: operation.kind for operation in self.operations}
        self.steps: list[Seconds] = []

    def __call__(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would log each profile
        on_device = self.device.type == "cuda"
        with profile(use_device=self.device.type if on_device else None) as profiled:
            self.step()
        seconds: Seconds = defaultdict(float)
        for event in profiled.function_events or ():
            if event.name in self._kinds and not self._is_inside(event):
                microseconds = event.device_time_total if on_device else event.cpu_time_total
                seconds[self._kinds[event.name]] += microseconds * 1e-6
        self.steps.append(seconds)

    def _is_inside(self, event: Any) -> bool:
        """Whether an operation was called by another one that was counted."""
        while (event := event.cpu_parent) is not None:
            if event.name in self._kinds:
                return True
        return False


def step_limits(setting: Setting) -> list[StepLimit]:
    """Time matrix products, memory and the steps of `ARCHITECTURES` in both precisions, all in alternation."""
    cases = [(architecture, precision) for architecture in ARCHITECTURES for precision in PRECISIONS]
    profiles, works = {}, dict[Any, Callable[[], object]]()
    for architecture, precision in cases:
        condition = replace(setting, precision=precision)
        profiles[architecture, precision] = Profile(make_run(architecture, condition))
        works[architecture, precision] = profiles[architecture, precision].step
        works[architecture, precision, "profiled"] = profiles[architecture, precision]
    probed = probes(setting.device, smoke=setting.smoke)
    works |= {probe: probe.work for probe in probed}
    seconds = alternate(works, setting.rounds, setting.device)
    highest = peaks([(probe, seconds[probe]) for probe in probed])
    return [
        _step_limit(*case, highest, profiles[case].operations, profiles[case].steps[WARM_UP:], seconds[case])
        for case in cases
    ]


def _step_limit(
    architecture: str,
    precision: str,
    highest: Peaks,
    done: list[Operation],
    profiled: list[Seconds],
    steps: "np.ndarray[Any, Any]",
) -> StepLimit:
    """Compare the operations of a step with what it took: of each round, by kind and in all."""
    kinds, rest = [], steps.copy()
    for kind in KINDS:
        taken = np.array([seconds.get(kind, 0.0) for seconds in profiled])
        kinds.append(kind_limit(kind, done, taken, highest))
        rest -= taken
    kinds.append(KindLimit(OTHER, 0, 0, 0.0, 0.0, max(float(np.median(rest)), 0.0), None))
    least = sum(kind.least for kind in kinds)
    return StepLimit(architecture, precision, Ratio.of(least / steps), float(np.median(steps)), kinds, highest)


def kind_limit(kind: str, done: list[Operation], taken: "np.ndarray[Any, Any]", highest: Peaks) -> KindLimit:
    """Return the limit of the operations of a kind that took these seconds, shape (rounds,)."""
    own = [operation for operation in done if operation.kind == kind]
    compute = sum(one.flops / highest.flops[one.precision] for one in own if one.flops)
    memory = sum(one.moved / highest.byte_rate(one.working_set) for one in own)
    return KindLimit(
        kind=kind,
        flops=sum(one.flops for one in own),
        moved=sum(one.moved for one in own),
        compute_seconds=compute,
        memory_seconds=memory,
        seconds=float(np.median(taken)),
        share=Ratio.of(max(compute, memory) / taken) if taken.all() else None,
    )


def run(setting: Setting) -> Benchmark:
    """Measure `ARCHITECTURES` in both precisions, whichever the setting has."""
    rows = step_limits(setting)
    title = "Share of the machine's limit that a training step reaches"
    highest = rows[0].peaks
    rates = [f"{rate / 1e9:,.0f} GFLOP/s in {precision}" for precision, rate in highest.flops.items()]
    rates += [f"{peak.rate / 1e9:,.0f} GB/s of {peak.working_set / 2**20:g} MiB" for peak in highest.memory]
    caption = f"Each kind: its share of the step's time, and of the limit. Highest rates: {', '.join(rates)}"
    columns = ("architecture", "precision", "step", "share of limit", *KINDS, OTHER)
    shown = table(f"{title}: {setting}", *columns, caption=caption)
    for row in rows:
        step = f"{row.step_seconds * 1e3:.1f} ms"
        shown.add_row(row.architecture, row.precision, step, str(row.share), *(_cell(row, kind) for kind in row.kinds))
    comparisons = [Comparison(f"{row.architecture}, {row.precision}", row.share) for row in rows]
    return Benchmark(title, rows, shown, comparisons)


def _cell(row: StepLimit, kind: KindLimit) -> str:
    time = f"{100 * kind.seconds / row.step_seconds:.0f} %"
    return f"{time}, {kind.share.median:.2f}" if kind.share else time
