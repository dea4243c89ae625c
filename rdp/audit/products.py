"""Check everything that is made from records: rebuild it in a scratch directory, and compare."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from rdp import tables
from rdp.audit.findings import Check, Finding
from rdp.claims import preregistration, verdict_json
from rdp.provenance import checklist
from rdp.report import contents, figures, page, paper
from rdp.store import fingerprint, origin
from rdp.study import Plan
from rdp.tables import collect
from rdp.utils.compare import describe, file_differences, table_differences

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SOURCE = "the records give"
_COLLECTOR = "collector"  # the column with the version of this package that collected a row
_LINKED = ("store", "data", "bench", origin.FILE)  # inputs of the products, beside probes and speed
_IMAGES = (".svg", ".pdf", ".png")
_MATPLOTLIB = re.compile(rb"Matplotlib v(?:ersion ?)?([0-9.]+)")


def check(plan: Plan, results: Path, scratch: Path) -> Iterator[Check]:
    """Yield the checks of tables, claims, figures and report; ``scratch`` is a directory that does not exist yet."""
    rebuild = _Rebuild(results / plan.name, scratch / plan.name)
    yield _check_tables(plan, results, scratch, rebuild)

    check = Check("claims", "Every verdict and its numbers follow from tables and measurements.", "file")
    loaded = rebuild.make(check, tables.load, plan, scratch)
    if loaded:
        rebuild.make(check, verdict_json.write, loaded)
    if check.attempt(rebuild.stored, verdict_json.read, plan.name, results) is not None:
        rebuild.compare(check, ["claims.json"])
    verdicts = rebuild.make(check, verdict_json.read, plan.name, scratch)
    for claim in verdicts["claims"] if verdicts else ():
        if claim["runs_before_it"]:
            check.notes.append(f"{claim['name']}: its text is newer than runs that decide it, as the report says")
    yield check

    check = Check("figures", "Every figure and its data are what this checkout draws from the tables.", "file")
    names = list(contents.figures(plan))
    for name in names:
        if loaded:
            rebuild.make(check, figures.write, loaded, name, scratch)
        check.attempt(rebuild.stored, contents.drawing, plan, name, rebuild.stored / "figures")
    rebuild.compare(check, [f"figures/{name}{kind}" for name in names for kind in (".csv", *_IMAGES, ".rst")])
    rebuild.note_other_files(check, "figures")
    yield check

    statement = "Page, paper, checklist and tables are what this checkout writes from tables, verdicts and figures."
    check = Check("report", statement, "file")
    rebuild.copy_stored_images(names)
    for write in (page.write, paper.write, checklist.write):
        rebuild.make(check, write, plan, scratch)
    reports = [f"report/{name}" for name in ("index.html", "paper.typ", "paper.pdf", checklist.NAME)]
    sheets = {path.name for folder in (rebuild.stored, rebuild.rebuilt) for path in (folder / "tables").glob("*")}
    rebuild.compare(check, [*reports, *(f"tables/{name}" for name in sorted(sheets))])
    yield check


def _check_tables(plan: Plan, results: Path, scratch: Path, rebuild: "_Rebuild") -> Check:
    check = Check("tables", "Every number in the tables of runs comes from a record.", "file")
    rebuild.make(check, _link_inputs, plan, results, scratch)
    rebuild.make(check, collect.write, plan, scratch)
    stored = check.attempt(rebuild.stored, collect.read, plan.name, results)
    rebuilt = check.attempt(rebuild.rebuilt, collect.read, plan.name, scratch) if rebuild.complete else None
    if stored is not None and rebuilt is not None:
        for name, one, other in zip(collect.TABLES, stored, rebuilt, strict=True):
            check.checked += 1
            path = rebuild.stored / f"{name}.parquet"
            changes = table_differences(one, other, ignore={_COLLECTOR})
            check.find(path, *(check.attempt(path, describe, changes, _SOURCE) or ()))
        if _COLLECTOR in stored[0] and set(stored[0][_COLLECTOR].dropna()) - {fingerprint.package_digest()}:
            check.notes.append("collected by another version of this package")
    return check


def _link_inputs(plan: Plan, results: Path, scratch: Path) -> None:
    """Create a results directory with the inputs of the products, and no products."""
    (scratch / plan.name).mkdir(parents=True)
    for name in (*_LINKED, f"{plan.name}/probes", f"{plan.name}/speed.parquet"):
        if (results / name).exists():
            (scratch / name).symlink_to((results / name).resolve())
    # A copy, because deciding claims logs when it first reads a text, and an audit must not add to that log.
    log = preregistration.FOLDER
    if (results / log).is_dir():
        shutil.copytree(results / log, scratch / log, ignore_dangling_symlinks=True)


class _Rebuild:
    """A study's products as stored and as rebuilt.

    Attributes:
        stored, rebuilt: their folders.
        complete: whether every step so far succeeded.
    """

    def __init__(self, stored: Path, rebuilt: Path) -> None:
        self.stored, self.rebuilt, self.complete = stored, rebuilt, True
        self._other_matplotlib: set[str] = set()  # figures drawn by another Matplotlib than the installed one

    def make(self, check: Check, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Call a function of the rebuild and return its result; a failure is a finding, and ends the rebuild."""
        if not self.complete:
            return None
        before = len(check.findings)
        result = check.attempt(self.stored, call, *args, **kwargs)
        self.complete = len(check.findings) == before
        # Inputs are links, so findings name the original.
        scratch, results = str(self.rebuilt.parent), str(self.stored.parent)
        check.findings[before:] = [
            Finding(finding.where.replace(scratch, results), finding.what.replace(scratch, results))
            for finding in check.findings[before:]
        ]
        return result

    def compare(self, check: Check, names: Iterable[str]) -> None:
        """Compare stored files with rebuilt ones."""
        not_rebuilt = []
        for name in names:
            stored, rebuilt = self.stored / name, self.rebuilt / name
            check.checked += 1
            if not rebuilt.is_file() and (self.complete or not stored.is_file()):
                check.find(stored, "this checkout makes no such file" if self.complete else "no such file")
            elif not rebuilt.is_file():
                not_rebuilt.append(name)
            elif not stored.is_file():
                check.find(stored, "no such file, but this checkout makes one")
            elif check.attempt(stored, _drawn_by_other_matplotlib, stored, rebuilt):
                self._other_matplotlib.add(stored.stem)
            else:
                check.find(stored, *file_differences(stored, rebuilt, _SOURCE))
        if not_rebuilt:
            others = f" and {len(not_rebuilt) - 1} more" if len(not_rebuilt) > 1 else ""
            check.notes.append(f"not compared, because they could not be rebuilt: {not_rebuilt[0]}{others}")
        if self._other_matplotlib and check.name == "figures":
            which = ", ".join(sorted(self._other_matplotlib))
            check.notes.append(f"drawn by another Matplotlib than the installed one; only data compared: {which}")

    def note_other_files(self, check: Check, folder: str) -> None:
        """Note files that this checkout does not make."""
        made = {path.name for path in (self.rebuilt / folder).glob("*")}
        others = sorted(path.name for path in (self.stored / folder).glob("*") if path.name not in made)
        if others and self.complete:
            check.notes.append(f"{self.stored / folder}: has files this checkout does not make: {', '.join(others)}")

    def copy_stored_images(self, names: Iterable[str]) -> None:
        """Use the stored images of figures drawn by another Matplotlib for the rebuilt report."""
        for name in self._other_matplotlib & set(names):
            for kind in _IMAGES:
                shutil.copyfile(self.stored / f"figures/{name}{kind}", self.rebuilt / f"figures/{name}{kind}")


def _drawn_by_other_matplotlib(stored: Path, rebuilt: Path) -> bool:
    if stored.suffix not in _IMAGES:
        return False
    first, second = (_MATPLOTLIB.search(path.read_bytes()) for path in (stored, rebuilt))
    return bool(first and second and first[1] != second[1])
