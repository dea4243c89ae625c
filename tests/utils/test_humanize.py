"""Sizes and durations as text."""

import pytest

from rdp.utils import humanize


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (170_498_071, "170 MB"),
        (999_600, "1.0 MB"),
        (1.3e9, "1.3 GB"),
        (4e15, "4000 TB"),
    ],
)
def test_sizes(count, said):
    assert humanize.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (125, "2 min"),
        (5940, "99 min"),
        (6000, "1 h 40 min"),
        (7200, "2 h"),
        (4e5, "5 days"),
    ],
)
def test_durations(seconds, said):
    assert humanize.duration(seconds) == said
