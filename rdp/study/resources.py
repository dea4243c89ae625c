"""What a job will need: time and memory, from what runs like its own used, or from the size of its network.

Plans, ``rdp plan`` and the workflow's resources all go by this. Torch is not imported: work is estimated from the
arguments of an architecture (`rdp.study.workload`), and time from records wherever some are near.
"""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rdp import models
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store
from rdp.study.workload import data_bytes, operations

_ENOUGH = 5  # pieces of evidence of one kind
_PACE = {"cpu": 4e-11, "cuda": 2e-14}  # seconds an operation where nothing was measured
_RUN_START = 0.5  # seconds of a run that do not grow with it: a network is built, its first calls are slow
_START = 20.0  # seconds until a job trains: Python, torch, data
_BYTES = {"cpu": 1.0e9, "cuda": 4.0e9}  # of a process with torch, before any data
_WORKFLOW_BYTES = 0.5e9  # of the Snakemake processes that a cluster counts as part of a job


@dataclass(frozen=True)
class Need:
    """What some runs, one after another in a job, are expected to take.

    Attributes:
        seconds: in training and evaluation, on one like the machines that the evidence is from.
        bytes: of memory, at the peak, in all processes that train a run together.
        basis: what the estimate rests on: ``this cell``, ``this network``, ``this family``, ``other runs`` or
            ``its size``.
    """

    seconds: float
    bytes: float
    basis: str

    @property
    def near(self) -> bool:
        """Whether runs of the very network were measured."""
        return self.basis in {"this cell", "this network"}

    def minutes(self, attempt: int = 1) -> int:
        """A job's time limit: three times what is expected, ten where no such network was measured; twice as much
        for each attempt that came before. A job that meets its limit goes on from its last checkpoint."""
        margin = 3 if self.near else 10
        return max(10, math.ceil((_START + margin * self.seconds) / 60)) * 2 ** (attempt - 1)

    def megabytes(self, attempt: int = 1) -> int:
        """A job's memory limit: half as much again as is expected; twice as much for each attempt before."""
        return math.ceil((1.5 * self.bytes + _WORKFLOW_BYTES) / 1e8) * 100 * 2 ** (attempt - 1)


@dataclass(frozen=True)
class _Used:
    """What runs of one cell used: seconds an operation, and bytes at the peak."""

    pace: float
    bytes: float


class Needs:
    """Estimates from what the runs of one store used.

    Args:
        results: the results directory.
        device: ``cpu`` or ``cuda``: runs on the other say nothing; ``auto`` takes any.
    """

    def __init__(self, results: Path, device: str = "auto") -> None:
        self._store, self._device = Store(results), device
        self._kind = "cuda" if device == "cuda" else "cpu"
        self._of_cell: dict[str, list[_Used]] = {}
        self._of_network: dict[tuple[str, str, str], tuple[str, list[_Used]]] = {}

    def of(self, specs: Iterable[RunSpec]) -> Need:
        """What runs take, trained one after another: their time in all, and the memory of the largest."""
        seconds, most, basis = 0.0, 0.0, "this cell"
        for spec in specs:
            name, used = self._evidence(spec)
            pace = statistics.median(found.pace for found in used) if used else _PACE[self._kind]
            measured = [found.bytes for found in used] if name in _NEAR else []
            most = max([most, *measured] if measured else [most, spec.processes * self._size(spec)])
            seconds += _RUN_START + pace * operations(spec, self._kind) / spec.processes
            basis = max(basis, name, key=_BASES.index)  # the weakest
        return Need(seconds, most, basis)

    def _evidence(self, spec: RunSpec) -> tuple[str, list[_Used]]:
        """The nearest runs that were measured, and how near they are."""
        if own := self._measured(spec.cell, spec):
            return _BASES[0], own
        key = (spec.architecture, spec.dataset, spec.method)
        if key not in self._of_network:
            self._of_network[key] = self._search(*key)
        return self._of_network[key]

    def _search(self, architecture: str, dataset: str, method: str) -> tuple[str, list[_Used]]:
        """Cells of this network on these data, of this method if there are; else of its family; else any."""

        def of(*parts: str) -> Iterator[str]:
            return (cell for cell in self._cells if cell.split("-")[: len(parts)] == list(parts))

        family = models.architecture(architecture).family
        known = models.architectures()
        kin = (c for c in self._cells if (n := c.split("-")[0]) in known and known[n].family == family)
        kinds = (
            ("this network", of(architecture, dataset, method)),
            ("this network", of(architecture, dataset)),
            ("this family", kin),
            ("other runs", iter(self._cells)),
        )
        for name, cells in kinds:
            used: list[_Used] = []
            for cell in cells:
                used += self._measured(cell, None)
                if len(used) >= _ENOUGH:
                    break
            if used:
                return name, used
        return "its size", []

    @cached_property
    def _cells(self) -> list[str]:
        try:
            return sorted(path.name for path in self._store.root.iterdir())
        except OSError:  # there is none yet, or it is somebody else's
            return []

    def _measured(self, cell: str, spec: RunSpec | None) -> list[_Used]:
        """What runs of a cell used: several of one that is planned, of which the specification is at hand, or one."""
        if cell not in self._of_cell:
            found: list[_Used] = []
            for path in sorted((self._store.root / cell).glob("seed-*.json")):
                if (used := self._read(f"{cell}/{path.stem}", spec)) is not None:
                    found.append(used)
                if len(found) >= (_ENOUGH if spec else 1):
                    break
            self._of_cell[cell] = found
        return self._of_cell[cell]

    def _read(self, run: str, spec: RunSpec | None) -> _Used | None:
        """What one run used; None for one that failed, is of another device or cannot be read."""
        try:
            receipt = self._store.read_receipt(run)
            used = receipt.used if receipt and receipt.status == "completed" else None
            if used is None or not used.seconds or self._device not in {"auto", used.device}:
                return None
            spec = spec or RunSpec(**self._store.read(run).spec)
            grows = max(used.seconds - _RUN_START, 0.1 * used.seconds)
            peak = spec.processes * (used.process_peak_bytes or 0)  # they hold as much each
            kind = "cuda" if used.device == "cuda" else "cpu"
            return _Used(grows * spec.processes / operations(spec, kind), peak)
        except (UserError, ValueError, TypeError, OSError):  # an estimate may do without it
            return None

    def _size(self, spec: RunSpec) -> float:
        """Bytes of a process that trains a network of which none was measured."""
        return _BYTES[self._kind] + 3 * data_bytes(spec.dataset)


_BASES = ("this cell", "this network", "this family", "other runs", "its size")  # from near to far
_NEAR = frozenset(_BASES[:2])
