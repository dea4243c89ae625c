"""The result of an audit: checks with their findings and notes, written as a page and as JSON."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rdp.errors import UserError
from rdp.report import templating
from rdp.study import Plan
from rdp.utils import files, sealed
from rdp.utils.humanize import count

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes:
        where: a file, a run, or a package.
        what: the fault.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return str(UserError(f"{self.where}: {self.what}"))  # one printable line, whatever is quoted


@dataclass
class Check:
    """A statement about a study's results, and its exceptions.

    Attributes:
        name: one or two words.
        statement: a sentence that is true if there are no findings.
        unit: what is checked, in the singular.
        checked: number of units checked.
        findings: the faults.
        notes: remarks that are not faults.
    """

    name: str
    statement: str
    unit: str
    checked: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, where: object, *faults: str) -> None:
        """Add a finding for each fault."""
        self.findings += [Finding(str(where), fault) for fault in faults]

    def find_lines(self, lines: Iterable[object]) -> None:
        """Add a finding for each line of the form ``where: what``."""
        for line in lines:
            where, _, what = str(line).partition(": ")
            self.find(where, what or "cannot be read")

    def attempt(self, where: object, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Return the result of a call, or None with a finding if it raises; ``where`` is what the call reads."""
        try:
            return call(*args, **kwargs)
        except UserError as error:
            self.find_lines([error])
        except Exception as error:  # an audit ends with findings, whatever the files hold
            self.find(where, f"cannot be used: {type(error).__name__}: {error}")
        return None

    @property
    def outcome(self) -> str:
        """How many units were checked, and the number of findings."""
        return f"{count(self.checked, self.unit)}, {count(len(self.findings), 'finding')}"


@dataclass(frozen=True)
class Audit:
    """All checks of a study's results, with the study, time, machine and options of the audit in ``about``."""

    about: dict[str, Any]
    checks: list[Check]

    @property
    def findings(self) -> list[Finding]:
        """The findings of all checks."""
        return [finding for check in self.checks for finding in check.findings]

    @property
    def verdict(self) -> str:
        """``no findings``, or their number."""
        return count(len(self.findings), "finding") if self.findings else "no findings"

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        checks = [vars(check) | {"findings": [vars(finding) for finding in check.findings]} for check in self.checks]
        return self.about | {"findings": len(self.findings), "checks": checks}


def write(plan: Plan, results: Path, audit: Audit) -> Path:
    """Write both files among a study's products, and return the path of the page."""
    folder = results / plan.name / "audit"
    sealed.write_json(folder / "audit.json", audit.as_json(), plan.name)
    path = folder / "index.html"
    with files.atomic_write(path) as part:
        part.write_text(render(audit), encoding="utf-8")
    return path


def render(audit: Audit) -> str:
    """Return the page as HTML."""
    style = templating.text("style.css")
    return templating.html("audit.html.j2").render(
        audit=audit, about=audit.about, style=style, policy=templating.policy(style)
    )
