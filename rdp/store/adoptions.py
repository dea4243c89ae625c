"""Adoptions: which code may stand for which, since runs that it trained again came to the same bits.

::

    results/store/adopted/<old>-<new>-<stack>.json    the first digits of three digests

An adoption says: what this code made on this stack, that code would make too. It names the runs that showed it.
Nothing else is edited: a record says by which code it was made, for ever. What accepts records asks `Adoptions.lead`.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp.errors import UserError
from rdp.utils import digest, files

if TYPE_CHECKING:
    from rdp.store.record import RunRecord

FOLDER = "adopted"
FORMAT = 2
_NEEDED = frozenset({"old", "new", "stack", "runs", "commit", "when"})
_DIGITS = 64


def name(content: dict[str, Any]) -> str:
    """The name of an adoption's file."""
    return "-".join(part[:12] for part in _key(content)) + ".json"


def write(root: Path, content: dict[str, Any]) -> Path:
    """Keep an adoption in the store at ``root``.

    Args:
        root: of the store.
        content: ``old`` and ``new``, digests of code; ``stack``, what computed, as records tell it; ``runs``, those
            that were trained again, with the digests of both records and of all but the code, which both share;
            ``commit`` and ``when``.
    """
    path = root / FOLDER / name(content)
    files.write_json(path, digest.seal({"format": FORMAT} | content))
    return path


def read(path: Path) -> dict[str, Any]:
    """An adoption, verified.

    Raises:
        UserError: one line with the file and what is wrong.
    """
    content = files.read_json(path)
    return check(path, content)


def check(path: Path, content: Any) -> dict[str, Any]:
    """The same of a content that was read from a file of this name, wherever that lies."""
    files.check_format(path, content, "adoption", FORMAT, "Adopt the runs again: rdp adopt.")
    try:
        whole = digest.unseal(content) is True and content.keys() >= _NEEDED and path.name == name(content)
        whole = whole and bool(content["runs"]) and all(len(part) == _DIGITS for part in _key(content))
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"{path}: damaged: not the adoption that its name says")
    adoption: dict[str, Any] = content
    return adoption


def _key(content: dict[str, Any]) -> tuple[str, str, str]:
    return content["old"], content["new"], digest.of(content["stack"])


class Adoptions:
    """The adoptions of a store, read when first asked for. What is damaged is named, and not believed.

    Args:
        root: of the store.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def all(self) -> list[dict[str, Any]]:
        """Every whole adoption."""
        return self._found[0]

    @property
    def damaged(self) -> list[str]:
        """A line about each that is not."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[list[dict[str, Any]], list[str]]:
        found, damaged = [], []
        for path in sorted((self._root / FOLDER).glob("*.json")):
            try:
                found.append(read(path))
            except UserError as error:
                damaged.append(str(error))
        return found, damaged

    def lead(self, made: str, wanted: str, stack: str) -> bool:
        """Whether what one code made on a stack may stand for what another would make, by one adoption or several.

        Args:
            made, wanted: digests of code.
            stack: digest of the stack.
        """
        return made == wanted or any(wanted == found["new"] for found in self.behind(made, stack))

    def behind(self, made: str, stack: str) -> list[dict[str, Any]]:
        """The adoptions of what a code made on a stack, and of what that was adopted by, and so on."""
        edges: dict[str, list[dict[str, Any]]] = self._of_stack.get(stack, {})
        pending, seen, found = [made], {made}, []
        while pending:
            for adoption in edges.get(pending.pop(), ()):
                found.append(adoption)
                if adoption["new"] not in seen:
                    seen.add(adoption["new"])
                    pending.append(adoption["new"])
        return found

    def behind_any(self, records: Iterable["RunRecord"]) -> list[dict[str, Any]]:
        """Those of the code that made any of some records, each once."""
        made = {(record.identity.code, record.identity.stack) for record in records}
        found = {name(adoption): adoption for key in made for adoption in self.behind(*key)}
        return [found[key] for key in sorted(found)]

    @cached_property
    def _of_stack(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for adoption in self.all:
            edges = found.setdefault(digest.of(adoption["stack"]), {})
            edges.setdefault(adoption["old"], []).append(adoption)
        return found
