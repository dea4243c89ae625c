"""Checks of what is made from records: all of it is made once more in a directory apart, and compared."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rdp import tables
from rdp.audit.comparing import COLLECTOR, compare, compare_tables
from rdp.audit.findings import Check, Finding
from rdp.claims import preregistration, verdict_json
from rdp.errors import UserError
from rdp.provenance import checklist
from rdp.report import contents, figures, page, paper
from rdp.store import fingerprint, origin
from rdp.study import Plan
from rdp.tables import collect

_LENT = ("store", "data", "bench", origin.FILE)  # what products are made from, beside probes and speed
_DRAWN = (".svg", ".pdf", ".png")
_DRAWN_BY = re.compile(rb"Matplotlib v(?:ersion ?)?([0-9.]+)")


def check(plan: Plan, results: Path, scratch: Path) -> Iterator[Check]:
    """Tables, claims, figures and report: each is what the records give.

    Args:
        plan: the study.
        results: its results.
        scratch: where all is made again; a directory that is not there yet.
    """
    there, again = results / plan.name, scratch / plan.name
    made = _Made(there, again)

    asks = "Every number of the tables of runs is the one that a record gives."
    check = Check("tables", asks, "file")
    made.make(check, lambda: _lend(plan, results, scratch))
    made.make(check, lambda: collect.write(plan, scratch))
    collected = check.attempt(lambda: collect.read(plan.name, results))
    remade = check.attempt(lambda: collect.read(plan.name, scratch)) if made.whole else None
    if collected is not None and remade is not None:
        for name, one, other in zip(collect.TABLES, collected, remade, strict=True):
            check.looked_at += 1
            path = there / f"{name}.parquet"
            for line in check.attempt(lambda one=one, other=other: compare_tables(one, other), path) or ():
                check.find(path, line)
        if COLLECTOR in collected[0] and set(collected[0][COLLECTOR].dropna()) - {fingerprint.package_digest()}:
            check.notes.append("collected by another version of this package than this checkout's")
    yield check

    check = Check("claims", "Every verdict, with every number beside it, follows from tables and measurements.", "file")
    loaded = check.attempt(lambda: tables.load(plan, scratch)) if made.whole else None
    made.make(check, lambda: verdict_json.write(loaded) if loaded else None)
    if check.attempt(lambda: verdict_json.read(plan.name, results)) is not None:
        made.compare(check, ["claims.json"])
    check.notes += [
        f"{name}: its text, as it now reads, is younger than runs that decide it, and the report says so"
        for name in (younger_claims(plan, scratch) if made.whole else ())
    ]
    yield check

    asks = "Every figure, and the data behind it, is what this checkout draws of the same tables."
    check = Check("figures", asks, "file")
    names = list(contents.figures(plan))
    for name in names:
        made.make(check, lambda name=name: figures.write(loaded, name, scratch) if loaded else None)
    for name in names:
        check.attempt(lambda name=name: contents.drawing(plan, name, there / "figures"))
    made.compare(check, [f"figures/{name}{kind}" for name in names for kind in (".csv", *_DRAWN, ".rst")])
    made.look_for_others(check, "figures")
    yield check

    asks = "Page, paper, checklist and tables are what this checkout writes of the same tables, verdicts and figures."
    check = Check("report", asks, "file")
    made.take_drawings(names)
    made.make(check, lambda: page.write(plan, scratch))
    made.make(check, lambda: paper.write(plan, scratch))
    made.make(check, lambda: checklist.write(plan, scratch))
    sheets = sorted({path.name for folder in (there, again) for path in (folder / "tables").glob("*")})
    reports = [f"report/{name}" for name in ("index.html", "paper.typ", "paper.pdf", checklist.NAME)]
    made.compare(check, [*reports, *(f"tables/{name}" for name in sheets)])
    yield check


def younger_claims(plan: Plan, results: Path) -> list[str]:
    """The claims whose present text was first seen after runs that decide them were begun."""
    try:
        return [claim["name"] for claim in verdict_json.read(plan.name, results)["claims"] if claim["runs_before_it"]]
    except UserError:
        return []


def _lend(plan: Plan, results: Path, scratch: Path) -> None:
    """A results directory that has what products are made from, and no products."""
    (scratch / plan.name).mkdir(parents=True)
    for name in (*_LENT, f"{plan.name}/probes", f"{plan.name}/speed.parquet"):
        if (results / name).exists():
            (scratch / name).symlink_to((results / name).resolve())
    # A copy: deciding claims notes when it first saw their texts, and an audit is no first sight.
    if (results / preregistration.FOLDER).is_dir():
        shutil.copytree(
            results / preregistration.FOLDER, scratch / preregistration.FOLDER, ignore_dangling_symlinks=True
        )


class _Made:
    """A study's products as they are, and as they are made again."""

    def __init__(self, there: Path, again: Path) -> None:
        self._there, self._again = there, again
        self.whole = True  # whether all could be made so far
        self._other_drawings: set[str] = set()  # figures drawn by another Matplotlib than is installed

    def make(self, check: Check, call: Callable[[], object]) -> None:
        """Make something again; what cannot be made is a finding, and what is made from it is not tried."""
        if self.whole:
            before = len(check.findings)
            check.attempt(call, self._there)
            self.whole = len(check.findings) == before
            apart, real = str(self._again.parent), str(self._there.parent)  # what is lent is named where it is
            check.findings[before:] = [
                Finding(found.where.replace(apart, real), found.what.replace(apart, real))
                for found in check.findings[before:]
            ]

    def compare(self, check: Check, names: Iterable[str]) -> None:
        """Compare files with what was made in their place."""
        unmade = []
        for name in names:
            there, again = self._there / name, self._again / name
            check.looked_at += 1
            if not again.is_file() and (self.whole or not there.is_file()):
                check.find(there, "this checkout makes no such file" if self.whole else "no such file")
            elif not again.is_file():
                unmade.append(name)
            elif not there.is_file():
                check.find(there, "no such file, and this checkout makes one")
            elif check.attempt(lambda there=there, again=again: self._drawn_by_another(there, again), there):
                self._other_drawings.add(there.stem)
            else:
                for line in compare(there, again):
                    check.find(there, line)
        if unmade:
            which = f"{unmade[0]} and {len(unmade) - 1} more" if len(unmade) > 1 else unmade[0]
            check.notes.append(f"not compared with anything, since it could not be made again: {which}")
        if self._other_drawings and check.name == "figures":
            which = ", ".join(sorted(self._other_drawings))
            check.notes.append(
                f"drawn by another Matplotlib than is installed, so that only their data were compared: {which}"
            )

    def look_for_others(self, check: Check, folder: str) -> None:
        """Note files that this checkout does not make."""
        ours = {path.name for path in (self._again / folder).glob("*")}
        others = sorted(path.name for path in (self._there / folder).glob("*") if path.name not in ours)
        if others and self.whole:
            check.notes.append(f"{self._there / folder}: holds what this checkout does not make: {', '.join(others)}")

    def take_drawings(self, names: Iterable[str]) -> None:
        """Of figures drawn by another Matplotlib, let the report be made with those that are there."""
        for name in self._other_drawings & set(names):
            for kind in _DRAWN:
                shutil.copyfile(self._there / f"figures/{name}{kind}", self._again / f"figures/{name}{kind}")

    @staticmethod
    def _drawn_by_another(there: Path, again: Path) -> bool:
        if there.suffix not in _DRAWN:
            return False
        first, second = (_DRAWN_BY.search(path.read_bytes()) for path in (there, again))
        return bool(first and second and first[1] != second[1])
