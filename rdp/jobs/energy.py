"""Energy that a run used, from the counters of the machine.

NVML counts the energy of a GPU (``nvmlDeviceGetTotalEnergyConsumption``, millijoules since its driver was loaded; Volta
and later). Linux counts that of each processor package (RAPL, ``/sys/class/powercap``, microjoules). Both count the
whole device, whatever else runs on it. Without a readable counter the energy is unknown, and the run goes on.
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
_POLL_SECONDS = 30.0  # a package's counter may wrap after three minutes at full power


class Counter:
    """Joules counted since construction.

    Args:
        read: reads the counter, in joules; an exception of the first reading is passed on.
        wrap: the joules at which the counter starts again at 0; None if it never does.
    """

    def __init__(self, read: Callable[[], float], wrap: float | None = None) -> None:
        self._read, self._wrap, self._last = read, wrap, read()
        self._used: float | None = 0.0

    def joules(self) -> float | None:
        """Joules so far; None after a reading that failed or went back."""
        if self._used is not None:
            try:
                now = self._read()
            except Exception:  # of any library or driver: it must not fail the run
                self._used = None
                return None
            step = now - self._last
            if step < 0 and self._wrap is not None:
                step += self._wrap
            self._last, self._used = now, self._used + step if step >= 0 else None
        return self._used


class Meter:
    """Energy of a run over all its attempts.

    Args:
        counters: by kind, see `KINDS`; no entry or an empty list if there is no readable counter.
        earlier: joules of the attempts before, by kind; None is unknown.
    """

    def __init__(
        self, counters: Mapping[str, list[Counter]], earlier: Mapping[str, float | None] | None = None
    ) -> None:
        self._counters, self._polled = counters, time.monotonic()
        self.earlier: Mapping[str, float | None] = dict.fromkeys(KINDS, 0.0) if earlier is None else earlier

    def poll(self) -> None:
        """Read the counters often enough to notice every wrap. Call it at each step."""
        if time.monotonic() - self._polled >= _POLL_SECONDS:
            self.joules()

    def joules(self) -> dict[str, float | None]:
        """Joules so far, by kind; None if a part of them is unknown."""
        self._polled = time.monotonic()
        sums: dict[str, float | None] = {}
        for kind in KINDS:
            counters = self._counters.get(kind, [])
            parts = [self.earlier.get(kind), *(counter.joules() for counter in counters)]
            known = [part for part in parts if part is not None]
            sums[kind] = sum(known) if counters and len(known) == len(parts) else None
        return sums


def make_meter(gpus: Iterable[int] = ()) -> Meter:
    """A meter of this machine's processor packages and of the GPUs with these torch device indices."""
    return Meter({"cpu_package_joules": package_counters(POWERCAP), "gpu_joules": _gpu_counters(list(gpus))})


def package_counters(powercap: Path) -> list[Counter]:
    """One counter per processor package; none if one of them cannot be read.

    Zones within a package (``intel-rapl:0:0``: its cores, its memory) and the whole platform (``psys``) would be
    counted twice, and are left out.
    """
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        try:
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                read = partial(_read_microjoules, zone / "energy_uj")
                counters.append(Counter(read, _read_microjoules(zone / "max_energy_range_uj")))
        except (OSError, ValueError):  # usually readable by root only
            return []
    return counters


def _read_microjoules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _gpu_counters(indices: list[int]) -> list[Counter]:
    """One counter per GPU; none if one of them has no counter."""
    if not indices:
        return []
    with suppress(Exception):  # no driver, an old GPU, a slice of one
        import pynvml
        import torch

        pynvml.nvmlInit()

        def joules(handle: Any) -> float:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

        # Torch and NVML number GPUs differently if CUDA_VISIBLE_DEVICES is set.
        uuids = [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in indices]
        return [Counter(partial(joules, pynvml.nvmlDeviceGetHandleByUUID(uuid))) for uuid in uuids]
    return []
