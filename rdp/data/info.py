"""What is known of a dataset before it is read."""

from dataclasses import dataclass
from typing import Literal

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset's facts.

    Attributes:
        kind: ``image`` (uint8, channels x height x width) or ``vector`` (float32 features).
        shape: of one example.
        classes: number of classes.
        sizes: examples in each of train, validation and test.
        origin: where the data come from, with a citation.
        licence: the terms, as far as the origin states them.
        get: how to get it, in words, where ``rdp data fetch`` cannot.
        download_bytes: what a download takes; 0 where there is none, or nobody knows.
    """

    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    classes: int
    sizes: dict[str, int]
    origin: str
    licence: str
    get: str = ""
    download_bytes: int = 0

    @property
    def chance(self) -> float:
        """The accuracy of guessing, 1 / classes."""
        return 1 / self.classes
