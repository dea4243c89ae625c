"""The highest rates that this machine reaches: of matrix products by type, of memory by working set.

A working set that fits into a cache is read and written faster than memory, so the rate depends on its size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}  # of square matrices
_WORKING_SETS = tuple(2**exponent for exponent in (19, 21, 23, 25, 27, 29))  # bytes
_MOVED = {"cpu": 2**27, "cuda": 2**32}  # bytes in a round, at least
_SMOKE_SIDES, _SMOKE_SETS, _SMOKE_MOVED = (64,), (2**16,), 2**16


@dataclass(frozen=True)
class MemoryPeak:
    """The highest rate at which a working set is read, copied or changed in place."""

    working_set: int  # bytes
    rate: float  # bytes read plus bytes written, per second


@dataclass(frozen=True)
class Peaks:
    """The highest rates of a machine."""

    flops: Mapping[str, float]  # floating-point operations per second of matrix products, by precision
    memory: tuple[MemoryPeak, ...]  # by increasing working set

    def byte_rate(self, working_set: int) -> float:
        """Return the highest rate for a working set of this many bytes, or of the next smaller or any larger one."""
        smaller = max((i for i, peak in enumerate(self.memory) if peak.working_set <= working_set), default=0)
        return max(peak.rate for peak in self.memory[smaller:])


@dataclass(frozen=True)
class Probe:
    """A function whose duration gives a rate."""

    quantity: str  # one of `PRECISIONS`, for operations, or ``memory``, for bytes
    amount: int  # operations or bytes
    working_set: int  # bytes
    work: Callable[[], object]


def probes(device: torch.device, *, smoke: bool) -> list[Probe]:
    """Return the functions to time. Their tensors are on the device."""
    found = []
    for precision in PRECISIONS:
        for side in _SMOKE_SIDES if smoke else _SIDES[device.type]:
            options: Any = {"device": device, "dtype": getattr(torch, precision)}
            a, b, out = (torch.ones(side, side, **options) for _ in range(3))
            size = 3 * side * side * a.element_size()
            found.append(Probe(precision, 2 * side**3, size, partial(torch.mm, a, b, out=out)))
    for size in _SMOKE_SETS if smoke else _WORKING_SETS:
        found += _memory(size, _SMOKE_MOVED if smoke else _MOVED[device.type], device)
    return found


def peaks(timed: list[tuple[Probe, "np.ndarray[Any, Any]"]]) -> Peaks:
    """Return the highest rates of probes that took these seconds, shape (rounds,)."""
    rates: dict[tuple[str, int], float] = {}
    for probe, seconds in timed:
        key = (probe.quantity, probe.working_set if probe.quantity == "memory" else 0)
        rates[key] = max(rates.get(key, 0.0), probe.amount / float(seconds.min()))
    memory = [MemoryPeak(size, rate) for (quantity, size), rate in rates.items() if quantity == "memory"]
    return Peaks(
        {precision: rates[precision, 0] for precision in PRECISIONS},
        tuple(sorted(memory, key=lambda peak: peak.working_set)),
    )


def _memory(size: int, moved: int, device: torch.device) -> list[Probe]:
    """Return probes that read, copy and change a working set, as often as they need to move ``moved`` bytes."""
    whole = torch.ones(size // 4, device=device)
    first, second = whole[: len(whole) // 2], whole[len(whole) // 2 :]
    # Each with the bytes that it moves.
    works: list[tuple[Callable[[], object], int]] = [
        (whole.sum, size),
        (partial(first.copy_, second), size),
        (whole.neg_, 2 * size),
    ]
    return [
        Probe("memory", once * (times := -(-moved // once)), size, partial(_repeat, work, times))
        for work, once in works
    ]


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()
