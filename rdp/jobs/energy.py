"""Energy: what the machine's own counters say it used while a run trained.

NVML counts the energy of a GPU (``nvmlDeviceGetTotalEnergyConsumption``, millijoules since its driver was loaded; Volta
and later), Linux that of each processor package (RAPL, ``/sys/class/powercap``, microjoules). Both count the whole
device, with whatever else ran on it at the time. A counter that is not there, or that others than root may not read,
tells nothing, and no run fails of it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rdp.store.record import Energy

POWERCAP = Path("/sys/class/powercap")
KINDS = tuple(Energy.model_fields)
_LOOK_SECONDS = 30.0  # a package's counter begins again at 0, of some machines after three minutes at full power


class Counter:
    """The joules that a counter went on by since it was first read.

    Args:
        read: the counter, in joules; what it raises at first is passed on.
        wrap: the joules at which it begins again at 0; None for one that never does.
    """

    def __init__(self, read: Callable[[], float], wrap: float | None = None) -> None:
        self._read, self._wrap, self._last = read, wrap, read()
        self._used: float | None = 0.0

    def joules(self) -> float | None:
        """Since it was first read; None from when on it could not be read, or went back."""
        if self._used is not None:
            try:
                now = self._read()
            except Exception:  # of whatever library or driver: a run does not fail because nobody counts
                self._used = None
                return None
            step = now - self._last
            if step < 0 and self._wrap is not None:
                step += self._wrap
            self._last, self._used = now, self._used + step if step >= 0 else None
        return self._used


class Meter:
    """Counters of the devices that a run uses, and the joules of the attempts that it goes on from.

    Args:
        counters: of each of `KINDS`; none where the machine has none that can be read.
        earlier: joules so far, by kind; what it does not know stays unknown.
    """

    def __init__(
        self, counters: Mapping[str, list[Counter]], earlier: Mapping[str, float | None] | None = None
    ) -> None:
        self._counters, self._looked = counters, time.monotonic()
        self.earlier: Mapping[str, float | None] = dict.fromkeys(KINDS, 0.0) if earlier is None else earlier

    def look(self) -> None:
        """Read the counters, if they were not just read: often enough, and no counter begins again unseen."""
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self.joules()

    def joules(self) -> dict[str, float | None]:
        """So far, by kind; None where nothing, or not all, was told."""
        self._looked = time.monotonic()
        return {kind: self._sum(kind) for kind in KINDS}

    def _sum(self, kind: str) -> float | None:
        found = [self.earlier.get(kind), *(counter.joules() for counter in self._counters.get(kind, []))]
        return sum(found) if len(found) > 1 and None not in found else None


def meter(gpus: Iterable[int] = ()) -> Meter:
    """A meter of this machine's processors, and of some of the GPUs that torch sees, by their numbers there."""
    return Meter({"cpu_package_joules": packages(POWERCAP), "gpu_joules": _gpus(list(gpus))})


def packages(powercap: Path) -> list[Counter]:
    """A counter a processor package; none where one of them cannot be read.

    Zones within a package (``intel-rapl:0:0``: its cores, its memory) and the whole platform (``psys``) are left out,
    since they would count the same twice.
    """
    found = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                read = partial(_micro, zone / "energy_uj")
                found.append(Counter(read, _micro(zone / "max_energy_range_uj")))
        except (OSError, ValueError):  # readable by root alone, since it tells others what is computed
            return []
    return found


def _micro(file: Path) -> float:
    """A file's number, a millionth of it."""
    return int(file.read_text()) / 1e6


def _gpus(numbers: list[int]) -> list[Counter]:
    """A counter a GPU; none where one of them has none."""
    if not numbers:
        return []
    with suppress(Exception):  # no driver, an old GPU, a slice of one: whatever it is, nothing is told
        import pynvml
        import torch

        pynvml.nvmlInit()
        # Torch and NVML number GPUs differently where CUDA_VISIBLE_DEVICES names some of them.
        names = [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in numbers]
        return [Counter(partial(_milli, pynvml.nvmlDeviceGetHandleByUUID(name))) for name in names]
    return []


def _milli(handle: Any) -> float:
    """A GPU's count, in joules."""
    import pynvml

    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
