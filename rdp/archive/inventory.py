"""What is in the store: its cells and runs, how each stands, what it takes, and which studies ask for it."""

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

# Folders of the store that are no cells.
ROOMS = frozenset({adoptions.FOLDER, scratch.RETRAINED, scratch.IMPORTED})


@dataclass(frozen=True)
class Kept:
    """A run of which something is in the store.

    Attributes:
        run: its name.
        status: ``completed``, ``diverged``, ``failed``, ``stale``, ``damaged``; ``unreceived`` (a record without a
            receipt: the next job writes it); or ``begun`` (attempts alone).
        reason: why, where that is not plain.
        bytes: of its record with its files, receipt and attempts.
    """

    run: str
    status: str
    reason: str
    bytes: int


@dataclass(frozen=True)
class KeptCell:
    """A cell of which something is in the store.

    Attributes:
        name: in the store.
        runs: what there is of each.
        wanted: studies by what they ask for of its runs.
    """

    name: str
    runs: list[Kept]
    wanted: dict[str, set[str]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all runs."""
        return sum(kept.bytes for kept in self.runs)

    @property
    def statuses(self) -> Counter[str]:
        """How many runs stand how."""
        return Counter(kept.status for kept in self.runs)

    @property
    def unneeded(self) -> list[Kept]:
        """The runs that no study asks for."""
        needed = set().union(*self.wanted.values())
        return [kept for kept in self.runs if kept.run not in needed]


def plans(more: Iterable[str] = ()) -> tuple[dict[str, Plan], list[str]]:
    """Every study there is a file of, by name: the project's, those in the working directory, and those named.

    Args:
        more: paths to files of studies that lie elsewhere.

    Returns:
        The studies, and a line about each file that cannot be read.
    """
    found, unreadable = {}, []
    for name in paths.studies():
        try:
            found[name] = study.load(name)
        except UserError as error:
            unreadable.append(str(error))
    for name in more:
        plan = study.load(name)
        found[plan.name if plan.name not in found else str(plan.file)] = plan
    return found, unreadable


def strangers(results: Path, known: Iterable[Plan]) -> list[Path]:
    """Folders of products of studies whose file is none of those that are known."""
    names = {plan.name for plan in known}
    found = sorted(path.parent for path in results.glob("*/records.parquet"))
    return [path for path in found if path.name not in names | study.RESERVED_NAMES]


def cells(results: Path, known: dict[str, Plan]) -> Iterator[KeptCell]:
    """What is in the store, cell by cell.

    Args:
        results: the results directory.
        known: studies by name, from `plans`.
    """
    store = Store(results)
    asked: dict[str, dict[str, set[str]]] = {}
    specs: dict[str, RunSpec] = {}
    for name, plan in known.items():
        for spec in (*plan.sweep.values(), *plan.specs):
            asked.setdefault(spec.cell, {}).setdefault(name, set()).add(spec.run)
            specs.setdefault(spec.cell, spec)
    for folder in _folders(store.root):
        names = _runs(folder)
        spec = specs.get(folder.name) or _spec(store, names)
        kept = [_kept(store, run, spec) for run in names]
        yield KeptCell(folder.name, kept, asked.get(folder.name, {}))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        return sum(size(inner) for inner in path.iterdir())
    except OSError:  # gone meanwhile
        return 0


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and path.name not in ROOMS)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({error.strerror})") from None


def _runs(folder: Path) -> list[str]:
    """The runs of a cell of which there is a record, a receipt or an attempt."""
    found = {path.name.removesuffix(".json") for path in folder.glob("seed-*") if path.suffix in {"", ".json"}}
    found |= {"-".join(path.name.split("-")[:2]) for path in folder.glob("attempts/seed-*")}
    return [f"{folder.name}/{seed}" for seed in sorted(found)]


def _spec(store: Store, runs: list[str]) -> RunSpec | None:
    """The specification of a cell that no study asks for, but for the seed, from one of its records."""
    for run in runs:
        try:
            return RunSpec(**store.read(run).spec)
        except (UserError, ValueError, TypeError):
            continue
    return None


def _kept(store: Store, run: str, spec: RunSpec | None) -> Kept:
    parts = [store.folder(run), store.receipt(run), *store.attempts(run)]
    status, reason = _standing(store, run, spec)
    return Kept(run, status, reason, sum(map(size, parts)))


def _standing(store: Store, run: str, spec: RunSpec | None) -> tuple[str, str]:
    try:
        receipt = store.read_receipt(run)
    except UserError as error:
        return "damaged", str(error)
    if receipt is None:
        return ("unreceived", "") if store.folder(run).exists() else ("begun", "")
    if not (store.folder(run) / "record.json").is_file():
        return "damaged", f"{store.folder(run) / 'record.json'}: no such file, and the receipt tells of it"
    if spec is None:
        return "damaged", f"{store.folder(run)}: no record that can be read"
    try:
        why = stale(store, spec, receipt.code, receipt.stack)
    except (UserError, AttributeError, KeyError) as error:  # of an architecture or a method that is no more
        why = f"made by code that this checkout does not have ({error})"
    return ("stale", why) if why is not None else (receipt.status, receipt.reason or "")
