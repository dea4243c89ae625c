"""What an audit says: checks, each with how much was looked at, and what was found."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rdp.errors import UserError
from rdp.utils.humanize import count

_T = TypeVar("_T")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: a file, with the place in it; a run; a package.
        what: what is wrong there.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return str(UserError(f"{self.where}: {self.what}"))  # one line, whatever was quoted


@dataclass
class Check:
    """One question to a study's results.

    Attributes:
        name: in a word or two.
        asks: what was checked, as a sentence that is true where nothing was found.
        of: what was looked at, in the singular.
        looked_at: how many of them.
        findings: what is wrong.
        notes: what a reader should know, and is not wrong.
    """

    name: str
    asks: str
    of: str
    looked_at: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, where: object, what: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(str(where), what))

    def find_line(self, line: object) -> None:
        """Add a finding that one line tells: where, a colon, and what."""
        where, _, what = str(line).partition(": ")
        self.find(where, what or "cannot be read")

    def attempt(self, call: Callable[[], _T], where: object = None) -> _T | None:
        """What a call returns; None, and a finding, where it is refused, or fails on what it reads.

        Args:
            call: reads something that anybody may have written and sealed.
            where: what it reads, for what fails without a word of that.
        """
        try:
            return call()
        except UserError as error:
            self.find_line(error)
        except Exception as error:  # an audit ends with findings, whatever it is given
            self.find(where or self.name, f"cannot be used: {type(error).__name__}: {error}")
        return None

    @property
    def outcome(self) -> str:
        """In words: how much was looked at, and how much is wrong."""
        wrong = count(len(self.findings), "finding") if self.findings else "nothing found"
        return f"{count(self.looked_at, self.of)}, {wrong}"


@dataclass(frozen=True)
class Audit:
    """All checks of a study's results, and what was audited when, where and how."""

    about: dict[str, Any]
    checks: list[Check]

    @property
    def findings(self) -> list[Finding]:
        """Those of all checks."""
        return [finding for check in self.checks for finding in check.findings]

    @property
    def verdict(self) -> str:
        """In one line."""
        if not self.findings:
            return "nothing found"
        return count(len(self.findings), "finding")

    def as_json(self) -> dict[str, Any]:
        """As ``audit.json`` holds it."""
        checks = [vars(check) | {"findings": [vars(finding) for finding in check.findings]} for check in self.checks]
        return self.about | {"findings": len(self.findings), "checks": checks}
