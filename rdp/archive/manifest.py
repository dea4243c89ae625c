"""The manifest of an archive."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Entry(_Model):
    """A file of an archive."""

    bytes: NonNegativeInt  # its size as stored
    sha256: str  # its checksum as stored
    content_bytes: NonNegativeInt  # its size after decompression


class Manifest(_Model):
    """The content of an archive. Its only times are those of the runs, so that packing again changes nothing."""

    format: int  # version of this format
    study: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_]{0,63}$")]
    title: str
    weights: bool  # whether weights are included
    runs: dict[str, int]  # number of runs by status; ``sweep`` counts the runs of sweeps
    cells: dict[str, list[int]]  # seeds of the runs in the archive, by cell
    missing: dict[str, list[int]]  # seeds of the study's other runs, by cell
    started: str | None  # when the first run began, in UTC
    ended: str | None  # when the last run ended, in UTC
    commits: list[str]  # commits at which the runs were trained
    machines: list[dict[str, Any]]  # kinds of machines that trained them: system, stack, versions and number of runs
    packed_on: dict[str, Any]  # machine, versions and commit that packed the archive
    files: dict[str, Entry] = {}  # every other file of the archive, by name
