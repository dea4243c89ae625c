"""Errors that a user can resolve: invalid input, and an orderly stop."""

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MAX_LENGTH = 2000  # characters of a message


class UserError(Exception):
    """Invalid input. The message is one line that names what is wrong and where.

    The command line prints the message without a traceback and exits with status 2. Messages quote input, so
    unprintable characters (line ends, changes of writing direction) are escaped, and long messages lose their middle.
    """

    def __init__(self, message: str) -> None:
        line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
        half = _MAX_LENGTH // 2
        super().__init__(line if len(line) <= _MAX_LENGTH else f"{line[:half]} … {line[-half:]}")


class Terminated(Exception):
    """The job received SIGTERM and has written its checkpoint."""


@contextmanager
def os_errors(path: Path, problem: str = "cannot be read") -> Iterator[None]:
    """Turn an `OSError` in the block into a `UserError` about a path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {problem} ({error.strerror or error})") from None


def choices(name: object, valid: Iterable[str]) -> str:
    """Return the valid names for a message about an invalid one, after the closest match."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{hint}valid: {', '.join(valid) or 'none'}"


def _check_package() -> None:
    """Refuse to run if another project's ``rdp`` replaced the ``__init__.py`` of this one; warn if it was replaced.

    The distribution ``rdp`` on PyPI (Ramer-Douglas-Peucker) installs into the same folder. All other modules of this
    project survive, so the first one that is imported can explain the state of the installation.
    """
    package = sys.modules["rdp"]
    place = getattr(package, "__file__", None) or package.__path__
    remedy = "run: pip uninstall rdp; pip install --force-reinstall --no-deps residual-droppath"
    if "ResidualDropPath" not in getattr(package, "__all__", ()):
        problem = "another package named 'rdp' was installed over residual-droppath, or uninstalled from its folder"
        raise ImportError(f"{place}: {problem}; {remedy}")
    if other := next(Path(package.__path__[0]).parent.glob("rdp-*-info"), None):
        problem = f"residual-droppath was installed over another package named 'rdp' ({other.name})"
        effect = "that one cannot be imported, and removing it damages this one; keep one of them in this environment"
        warnings.warn(f"{place}: {problem}; {effect}; to keep this one, {remedy}", stacklevel=2)


_check_package()
