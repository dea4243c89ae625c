"""Where things are: the study files and templates of the project, the results and data of the user."""

import os
import re
from pathlib import Path

from rdp.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]
# The checkout, or what a wheel holds of it (pyproject.toml: force-include).
ROOT = found if (found := _PACKAGE / "project").is_dir() else _PACKAGE.parent
_ROOM = Path("-" * 100, "-" * 100)  # as long as any name below a directory of ours


def results(stated: str | None = None) -> Path:
    """The results directory: as ``stated``, or ``RDP_RESULTS``, by default ``results/`` in the working directory."""
    return _directory(stated or os.environ.get("RDP_RESULTS") or "results")


def datasets() -> Path:
    """The directory of downloaded datasets: ``RDP_DATA``, by default ``data/`` in the working directory."""
    return _directory(os.environ.get("RDP_DATA") or "data")


def named(name: str) -> Path:
    """A path that came from outside; `UserError` for one with signs that no name of a file should hold."""
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
        raise UserError(f"{name}: a path without control characters is needed")
    return Path(name)


def _directory(name: str) -> Path:
    path = named(name)
    try:
        (path / _ROOM).exists()
    except OSError as error:  # too long, or of somebody else
        raise UserError(f"{path}: cannot be used ({error.strerror})") from None
    return path


def studies() -> dict[str, Path]:
    """Study files by name: the project's own, and those in the working directory, which come first."""
    return _configured("studies")


def declarations() -> dict[str, Path]:
    """Files that declare datasets, by name: the project's own, and those in the working directory, which come first."""
    return _configured("datasets")


def _configured(kind: str) -> dict[str, Path]:
    folders = (ROOT / "config" / kind, Path("config") / kind)
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def archives() -> dict[str, Path]:
    """Archives of recorded results by study: those in the working directory, and the project's other ones."""
    folders = (ROOT / "results" / "recorded", Path("results") / "recorded")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.tar"))}


def claims() -> Path:
    """The file of claims: the working directory's own, or the project's."""
    own = Path("config") / "claims.yaml"
    if os.path.lexists(own) and not own.is_file():
        raise UserError(f"{own}: no file; what lies there would take the place of the project's claims")
    return own if own.is_file() else ROOT / "config" / "claims.yaml"


def templates() -> Path:
    """The directory of report templates."""
    return ROOT / "report"


def snakefile() -> Path:
    """The workflow."""
    return ROOT / "Snakefile"
