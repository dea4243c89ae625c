"""The manifest of an archive."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Entry(_Model):
    """A file of an archive.

    Attributes:
        bytes: its size as stored.
        sha256: its checksum as stored.
        content_bytes: its size after decompression.
    """

    bytes: NonNegativeInt
    sha256: str
    content_bytes: NonNegativeInt


class Manifest(_Model):
    """What an archive says of its content. Its only times are those of the runs, so that packing again changes nothing.

    Attributes:
        format: version of this format.
        study: name of the study.
        title: title of the study.
        weights: whether weights are included.
        runs: number of runs by status; ``sweep`` counts the runs of sweeps.
        cells: seeds of the runs in the archive, by cell.
        missing: seeds of the study's other runs, by cell.
        started: when the first run began, in UTC.
        ended: when the last run ended, in UTC.
        commits: commits at which the runs were trained.
        machines: kinds of machines that trained them: system, stack, versions and number of runs.
        packed_on: machine, versions and commit that packed the archive.
        files: every other file of the archive, by name.
    """

    format: int
    study: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_]{0,63}$")]
    title: str
    weights: bool
    runs: dict[str, int]
    cells: dict[str, list[int]]
    missing: dict[str, list[int]]
    started: str | None
    ended: str | None
    commits: list[str]
    machines: list[dict[str, Any]]
    packed_on: dict[str, Any]
    files: dict[str, Entry] = {}
