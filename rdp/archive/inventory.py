"""List the cells and runs of a store: their status, their size, and the studies that use them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rdp import study
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import Store, adoptions, scratch
from rdp.study import Plan
from rdp.study.states import stale
from rdp.utils import paths

_NO_CELLS = frozenset({adoptions.FOLDER, scratch.RETRAINED, scratch.IMPORTED})


@dataclass(frozen=True)
class StoredRun:
    """A run with a record, a receipt or an attempt in the store."""

    run: str
    # completed, diverged, failed, stale, damaged; "no receipt" (the next job writes it); or started (attempts only)
    status: str
    reason: str  # of the status; may be empty
    bytes: int  # size of its record, other files, receipt and attempts


@dataclass(frozen=True)
class StoredCell:
    """A cell with runs in the store."""

    name: str
    runs: list[StoredRun]
    studies: dict[str, set[str]] = field(default_factory=dict)  # its runs that each study uses, by the study's name

    @property
    def bytes(self) -> int:
        """Size of all runs."""
        return sum(run.bytes for run in self.runs)

    @property
    def statuses(self) -> Counter[str]:
        """Number of runs by status."""
        return Counter(run.status for run in self.runs)

    @property
    def unneeded(self) -> list[StoredRun]:
        """The runs that no study uses."""
        used = set().union(*self.studies.values())
        return [run for run in self.runs if run.run not in used]


def load_studies(more: Iterable[str] = ()) -> tuple[dict[str, Plan], list[str]]:
    """Load all studies of the project and of the working directory, and ``more`` study files.

    Returns:
        The studies by name, and a line for each file that cannot be read.
    """
    plans: dict[str, Plan] = {}
    errors = []
    for name in paths.studies():
        try:
            plans[name] = study.load(name)
        except UserError as error:
            errors.append(str(error))
    for name in more:
        plan = study.load(name)
        plans[plan.name if plan.name not in plans else str(plan.file)] = plan
    return plans, errors


def unknown_studies(results: Path, plans: Iterable[Plan]) -> list[Path]:
    """The product folders of studies other than these."""
    names = {plan.name for plan in plans} | study.RESERVED_NAMES
    return [path.parent for path in sorted(results.glob("*/records.parquet")) if path.parent.name not in names]


def cells(results: Path, plans: dict[str, Plan]) -> Iterator[StoredCell]:
    """The cells of the store, with the studies that use them, from `load_studies`."""
    store = Store(results)
    users: dict[str, dict[str, set[str]]] = {}
    specs: dict[str, RunSpec] = {}
    for name, plan in plans.items():
        for spec in (*plan.sweep.values(), *plan.specs):
            users.setdefault(spec.cell, {}).setdefault(name, set()).add(spec.run)
            specs.setdefault(spec.cell, spec)
    for folder in _folders(store.root):
        runs = _runs(folder)
        cell_spec = specs.get(folder.name) or _read_spec(store, runs)
        yield StoredCell(folder.name, [_stored(store, run, cell_spec) for run in runs], users.get(folder.name, {}))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        return sum(size(inner) for inner in path.iterdir())
    except OSError:  # removed meanwhile
        return 0


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and path.name not in _NO_CELLS)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None


def _runs(folder: Path) -> list[str]:
    """The runs of a cell with a record, a receipt or an attempt."""
    names = {path.name.removesuffix(".json") for path in folder.glob("seed-*") if path.suffix in {"", ".json"}}
    names |= {"-".join(path.name.split("-")[:2]) for path in folder.glob("attempts/seed-*")}
    return [f"{folder.name}/{name}" for name in sorted(names)]


def _read_spec(store: Store, runs: list[str]) -> RunSpec | None:
    """The specification of a cell, from one of its records; its seed means nothing."""
    for run in runs:
        try:
            return RunSpec(**store.read(run).spec)
        except (UserError, ValueError, TypeError):
            continue
    return None


def _stored(store: Store, run: str, spec: RunSpec | None) -> StoredRun:
    parts = [store.folder(run), store.receipt(run), *store.attempts(run)]
    status, reason = _status(store, run, spec)
    return StoredRun(run, status, reason, sum(map(size, parts)))


def _status(store: Store, run: str, spec: RunSpec | None) -> tuple[str, str]:
    try:
        receipt = store.read_receipt(run)
    except UserError as error:
        return "damaged", str(error)
    if receipt is None:
        return ("no receipt" if store.folder(run).exists() else "started"), ""
    if not (store.folder(run) / "record.json").is_file():
        return "damaged", f"{store.folder(run) / 'record.json'}: no such file, although there is a receipt"
    if spec is None:
        return "damaged", f"{store.folder(run)}: no readable record"
    try:
        reason = stale(store, spec, receipt.code, receipt.stack)
    except (UserError, AttributeError, KeyError) as error:  # of an architecture or a method that was removed
        reason = f"made by code that this checkout does not have ({error})"
    return ("stale", reason) if reason is not None else (receipt.status, receipt.reason or "")
