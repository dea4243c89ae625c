"""Adoptions: statements that runs made by one version of the code can be used with another.

::

    results/store/adopted/<old>-<new>-<stack>.json    the first digits of three digests

An adoption says that two versions of the code give the same bits on a stack, and lists the runs that were retrained to
show it. Records are not changed: each keeps the digest of the code that made it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError
from rdp.utils import digest, files

if TYPE_CHECKING:
    from rdp.store.record import RunRecord

Adoption = dict[str, Any]

FOLDER = "adopted"
FORMAT = 2
_KEYS = frozenset({"old", "new", "stack", "runs", "commit", "when"})
_DIGITS = 64


def name(adoption: Adoption) -> str:
    """The name of an adoption's file."""
    return "-".join(part[:12] for part in _digests(adoption)) + ".json"


def write(root: Path, adoption: Adoption) -> Path:
    """Write an adoption to the store at ``root`` and return its path.

    Args:
        root: of the store.
        adoption: ``old`` and ``new``, digests of code; ``stack``, as in a record's telemetry; ``runs``, the retrained
            runs with the digests of both records and the `RunRecord.bits` that they share; ``commit`` and ``when``.
    """
    path = root / FOLDER / name(adoption)
    files.write_json(path, digest.seal({"format": FORMAT} | adoption))
    return path


def read(path: Path) -> Adoption:
    """An adoption, verified.

    Raises:
        UserError: it is absent, damaged, or of another format.
    """
    return check(path, files.read_json(path))


def check(path: Path, content: Any) -> Adoption:
    """Verify the content of an adoption's file and return it without its seal. The path must have its name.

    Raises:
        UserError: the content is damaged or of another format.
    """
    files.check_format(path, content, "adoption", FORMAT, "Adopt the runs again: rdp adopt.")
    adoption: Adoption = content
    try:
        valid = digest.unseal(adoption) is True and adoption.keys() >= _KEYS and path.name == name(adoption)
        valid = valid and bool(adoption["runs"]) and all(len(part) == _DIGITS for part in _digests(adoption))
    except (AttributeError, KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise UserError(f"{path}: damaged: not the adoption that its name states")
    return adoption


def _digests(adoption: Adoption) -> tuple[str, str, str]:
    return adoption["old"], adoption["new"], digest.of(adoption["stack"])


class Adoptions:
    """The adoptions of the store at ``root``. Damaged ones are ignored.

    Attributes:
        all: every undamaged adoption.
        damaged: a message about each damaged adoption.
    """

    def __init__(self, root: Path) -> None:
        self.all: list[Adoption] = []
        self.damaged: list[str] = []
        self._by_code: dict[tuple[str, str], list[Adoption]] = {}  # by code and stack
        for path in sorted((root / FOLDER).glob("*.json")):
            try:
                self.all.append(read(path))
            except UserError as error:
                self.damaged.append(str(error))
        for adoption in self.all:
            self._by_code.setdefault((adoption["old"], digest.of(adoption["stack"])), []).append(adoption)

    def lead(self, old: str, new: str, stack: str) -> bool:
        """Whether two digests of code are equal, or adoptions on a stack lead from the old to the new one."""
        return old == new or any(new == adoption["new"] for adoption in self.chain(old, stack))

    def chain(self, code: str, stack: str) -> list[Adoption]:
        """All adoptions that can be reached from a code on a stack."""
        codes, reached = [code], []
        for reachable in codes:  # grows meanwhile
            for adoption in self._by_code.get((reachable, stack), ()):
                reached.append(adoption)
                if adoption["new"] not in codes:
                    codes.append(adoption["new"])
        return reached

    def of_records(self, records: Iterable["RunRecord"]) -> list[Adoption]:
        """All adoptions that can be reached from the code of any of some records, sorted by name."""
        codes = {(record.identity.code, record.identity.stack) for record in records}
        adoptions = {name(adoption): adoption for code in codes for adoption in self.chain(*code)}
        return [adoptions[key] for key in sorted(adoptions)]
