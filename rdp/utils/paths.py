"""Paths of the project's files (studies, templates) and of the user's results and data."""

import os
import re
from pathlib import Path

from rdp.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
_BUNDLED = _PACKAGE / "project"  # the project's files in a wheel (pyproject.toml: force-include)
ROOT = _BUNDLED if _BUNDLED.is_dir() else _PACKAGE.parent
_LONGEST = Path("-" * 100, "-" * 100)  # as long as any path within a results directory


def results(argument: str | None = None) -> Path:
    """The results directory: the argument, ``RDP_RESULTS`` or ``results/`` in the working directory."""
    return _directory(argument or os.environ.get("RDP_RESULTS") or "results")


def datasets() -> Path:
    """The directory of downloaded datasets: ``RDP_DATA`` or ``data/`` in the working directory."""
    return _directory(os.environ.get("RDP_DATA") or "data")


def parse(name: str) -> Path:
    """The path of a name given by the user.

    Raises:
        UserError: it contains control characters.
    """
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise UserError(f"{name}: a path must not contain control characters")
    return Path(name)


def _directory(name: str) -> Path:
    path = parse(name)
    try:
        (path / _LONGEST).exists()
    except OSError as error:  # too long, or no permission
        raise UserError(f"{path}: cannot be used ({error.strerror})") from None
    return path


def studies() -> dict[str, Path]:
    """Study files by name. A file in the working directory replaces the project's file of the same name."""
    return _configured("studies")


def declarations() -> dict[str, Path]:
    """Files that declare datasets, by name; those in the working directory replace the project's."""
    return _configured("datasets")


def _configured(kind: str) -> dict[str, Path]:
    folders = (ROOT / "config" / kind, Path("config") / kind)
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def archives() -> dict[str, Path]:
    """Archives of recorded results by study: those in the working directory, and the project's other ones."""
    folders = (ROOT / "results" / "recorded", Path("results") / "recorded")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.tar"))}


def claims() -> Path:
    """The claims file of the working directory, or else of the project."""
    own = Path("config") / "claims.yaml"
    if os.path.lexists(own) and not own.is_file():
        raise UserError(f"{own}: not a file, but it would replace the project's claims; remove it")
    return own if own.is_file() else ROOT / "config" / "claims.yaml"


def templates() -> Path:
    """The directory of report templates."""
    return ROOT / "report"


def snakefile() -> Path:
    """The workflow."""
    return ROOT / "Snakefile"
