"""Where things are: the study files and templates of the project, the results and data of the user."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def results() -> Path:
    """The results directory: ``RDP_RESULTS``, by default ``results/`` in the working directory."""
    return Path(os.environ.get("RDP_RESULTS") or "results")


def datasets() -> Path:
    """The directory of downloaded datasets: ``RDP_DATA``, by default ``data/`` in the working directory."""
    return Path(os.environ.get("RDP_DATA") or "data")


def studies() -> dict[str, Path]:
    """Study files by name: the project's own, and those in the working directory, which come first."""
    folders = (ROOT / "config" / "studies", Path("config") / "studies")
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}


def claims() -> Path:
    """The file of claims: the working directory's own, or the project's."""
    own = Path("config") / "claims.yaml"
    return own if own.is_file() else ROOT / "config" / "claims.yaml"


def templates() -> Path:
    """The directory of report templates."""
    return ROOT / "report"
