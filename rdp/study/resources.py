"""Estimates of the time and memory that a job needs.

They come from what finished runs of the same cell, network or family used, and otherwise from the size of the network.
``rdp plan`` and the resources of the workflow's rules use them. Torch is not imported: the number of operations is
estimated from an architecture's arguments (`rdp.study.workload`).
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from rdp import models
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store
from rdp.study.workload import data_bytes, operations

_BASES = ("this cell", "this network", "this family", "other runs", "its size")  # from best to worst evidence
_MEASURED_NETWORK = frozenset(_BASES[:2])
_ENOUGH_RUNS = 5
_SECONDS_PER_OPERATION = {"cpu": 4e-11, "cuda": 2e-14}  # without any measurement
_RUN_START_SECONDS = 0.5  # part of a run that does not grow with it: building the network, slow first calls
_JOB_START_SECONDS = 20.0  # Python, torch, data
_PROCESS_BYTES = {"cpu": 1.0e9, "cuda": 4.0e9}  # of a process with torch, without data
_WORKFLOW_BYTES = 0.5e9  # of the Snakemake processes that a cluster counts as part of a job


@dataclass(frozen=True)
class Resources:
    """Estimated resources of a job that trains runs one after another."""

    seconds: float  # training and evaluation, on a machine like those of the finished runs
    bytes: float  # peak memory of all processes that train a run together
    basis: str  # the weakest evidence among the runs, of `_BASES`

    @property
    def measured(self) -> bool:
        """Whether runs of every network have finished before."""
        return self.basis in _MEASURED_NETWORK

    def minutes(self, attempt: int = 1) -> int:
        """A job's time limit: three times the estimate, or ten if the network is not measured; doubled per attempt.

        A job that reaches its limit continues from its last checkpoint.
        """
        margin = 3 if self.measured else 10
        return max(10, math.ceil((_JOB_START_SECONDS + margin * self.seconds) / 60)) << (attempt - 1)

    def megabytes(self, attempt: int = 1) -> int:
        """A job's memory limit: one and a half times the estimate, doubled per attempt."""
        return math.ceil((1.5 * self.bytes + _WORKFLOW_BYTES) / 1e8) * 100 << (attempt - 1)


class _Usage(NamedTuple):
    seconds_per_operation: float
    bytes: float


class ResourceEstimator:
    """Estimates from the finished runs of one store.

    Args:
        results: the results directory.
        device: ``cpu`` or ``cuda``, to use runs on this device only; ``auto`` for runs on either.
    """

    def __init__(self, results: Path, device: str = "auto") -> None:
        self._store, self._device = Store(results), device
        self._kind = "cuda" if device == "cuda" else "cpu"
        self._by_cell: dict[str, list[_Usage]] = {}
        self._by_network: dict[tuple[str, str, str], tuple[str, list[_Usage]]] = {}

    def estimate(self, specs: Iterable[RunSpec]) -> Resources:
        """Resources of runs trained one after another: their total time, and the memory of the largest."""
        seconds, peak, basis = 0.0, 0.0, _BASES[0]
        for spec in specs:
            evidence, usages = self._evidence(spec)
            pace = _SECONDS_PER_OPERATION[self._kind]
            if usages:
                pace = statistics.median(usage.seconds_per_operation for usage in usages)
            if evidence in _MEASURED_NETWORK:
                peak = max([peak, *(usage.bytes for usage in usages)])
            else:
                peak = max(peak, spec.processes * (_PROCESS_BYTES[self._kind] + 3 * data_bytes(spec.dataset)))
            seconds += _RUN_START_SECONDS + pace * operations(spec, self._kind) / spec.processes
            basis = max(basis, evidence, key=_BASES.index)
        return Resources(seconds, peak, basis)

    def _evidence(self, spec: RunSpec) -> tuple[str, list[_Usage]]:
        """The finished runs that are most like a run, and how they are related to it."""
        if own := self._usages(spec.cell, spec):
            return _BASES[0], own
        key = (spec.architecture, spec.dataset, spec.method)
        if key not in self._by_network:
            self._by_network[key] = self._search(*key)
        return self._by_network[key]

    def _search(self, architecture: str, dataset: str, method: str) -> tuple[str, list[_Usage]]:
        """Runs of this network and dataset, with this method if there are any; else of its family; else any runs."""

        family, known = models.architecture(architecture).family, models.architectures()

        def distance(cell: str) -> int:
            network, *rest = cell.split("-")
            if network == architecture and rest[:1] == [dataset]:
                return 0 if rest[1:2] == [method] else 1
            return 2 if network in known and known[network].family == family else 3

        by_distance: dict[int, list[str]] = {}
        for cell in self._cells:
            by_distance.setdefault(distance(cell), []).append(cell)
        for nearest, cells in sorted(by_distance.items()):
            usages = chain.from_iterable(self._usages(cell, None) for cell in cells)
            if nearest_usages := list(islice(usages, _ENOUGH_RUNS)):
                return _BASES[max(nearest, 1)], nearest_usages
        return _BASES[-1], []

    @cached_property
    def _cells(self) -> list[str]:
        try:
            return sorted(path.name for path in self._store.root.iterdir())
        except OSError:  # no store yet, or no permission
            return []

    def _usages(self, cell: str, spec: RunSpec | None) -> list[_Usage]:
        """Usage of a cell's finished runs: of several if a specification is given, else of one."""
        if cell not in self._by_cell:
            runs = (f"{cell}/{path.stem}" for path in sorted((self._store.root / cell).glob("seed-*.json")))
            usages = (usage for run in runs if (usage := self._usage(run, spec)) is not None)
            self._by_cell[cell] = list(islice(usages, _ENOUGH_RUNS if spec else 1))
        return self._by_cell[cell]

    def _usage(self, run: str, spec: RunSpec | None) -> _Usage | None:
        """Usage of one run; None if it failed, used another device, or cannot be read."""
        try:
            receipt = self._store.read_receipt(run)
            used = receipt.used if receipt and receipt.status == "completed" else None
            if used is None or not used.seconds or self._device not in {"auto", used.device}:
                return None
            spec = spec or RunSpec(**self._store.read(run).spec)
            seconds = max(used.seconds - _RUN_START_SECONDS, 0.1 * used.seconds)
            peak = spec.processes * (used.process_peak_bytes or 0)
            kind = "cuda" if used.device == "cuda" else "cpu"
            return _Usage(seconds * spec.processes / operations(spec, kind), peak)
        except (UserError, ValueError, TypeError, OSError):  # an estimate is possible without it
            return None
