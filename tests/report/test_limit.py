"""The figure of docs/benchmarks.md shows the recorded result of `rdp bench limit`.

After a new measurement, or an intended change, draw it again: RDP_RENEW_IMAGES=1 pytest tests/report/test_limit.py
"""

import copy
import io
import os
import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rdp.bench.engine import ARCHITECTURES
from rdp.bench.operations import KINDS, OTHER
from rdp.bench.peaks import PRECISIONS
from rdp.report import style
from rdp.report.plots import limit
from rdp.utils import paths, sealed

FIGURE = paths.ROOT / "docs" / "assets" / "limit.svg"
_NUMBER = re.compile(r"-?\d+\.?\d*")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    (path,) = (paths.ROOT / "results" / "recorded" / "bench").glob("*/limit.json")
    return sealed.read_json(path, "bench", "run: rdp bench limit")


def svg(result: dict[str, Any]) -> str:
    style.use()
    drawing, file = limit.draw(result), io.StringIO()
    drawing.figure.savefig(file, format="svg", metadata={"Date": None})
    plt.close(drawing.figure)
    return file.getvalue()


def test_the_figure_is_drawn_from_the_recorded_result(recorded: dict[str, Any]) -> None:
    drawn = svg(recorded)
    if os.environ.get("RDP_RENEW_IMAGES"):
        FIGURE.write_text(drawn, encoding="utf-8")
    kept = FIGURE.read_text(encoding="utf-8")
    assert _NUMBER.sub("", drawn) == _NUMBER.sub("", kept)
    numbers = [np.array(_NUMBER.findall(text), dtype=float) for text in (drawn, kept)]
    np.testing.assert_allclose(*numbers, atol=0.1)  # of a point; the last digits differ between processors


def test_another_result_gives_another_figure(recorded: dict[str, Any]) -> None:
    other = copy.deepcopy(recorded)
    other["rows"][0]["kinds"][0]["share"]["median"] *= 0.9
    assert svg(other) != svg(recorded)


def test_every_kind_of_every_step_is_drawn_with_its_share(recorded: dict[str, Any]) -> None:
    style.use()
    drawing = limit.draw(recorded)
    data = drawing.data.set_index(["architecture", "precision", "kind"]).sort_index()
    steps = [(architecture, precision) for architecture in ARCHITECTURES for precision in PRECISIONS]
    assert set(data.index) == {(*step, kind) for step in steps for kind in (*KINDS, OTHER)}
    for row in recorded["rows"]:
        own = data.loc[row["architecture"], row["precision"]]
        assert own["time"].sum() == pytest.approx(1)
        for kind in row["kinds"]:
            assert own.loc[kind["kind"], "share"] == (kind["share"]["median"] if kind["share"] else 0)
    titles = [axis.get_title() for axis in drawing.figure.axes]
    assert titles == [
        f"{row['architecture']}, {row['precision']}: {100 * row['share']['median']:.0f} %"
        for precision in PRECISIONS
        for row in recorded["rows"]
        if row["precision"] == precision
    ]
    plt.close(drawing.figure)


def test_recorded_shares_and_least_times_follow_from_the_recorded_counts(recorded: dict[str, Any]) -> None:
    for row in recorded["rows"]:
        kinds, rates = row["kinds"], row["peaks"]["flops"]
        assert 0 < row["share"]["median"] < 1
        for kind in kinds:
            assert kind["compute_seconds"] == pytest.approx(kind["flops"] / rates[row["precision"]])
            if kind["share"]:
                least = max(kind["compute_seconds"], kind["memory_seconds"])
                # torch counts products with padding, which convolutions can skip: 16 % of them at 8 x 8.
                assert 0 < kind["share"]["median"] < (1.19 if kind["kind"] == "convolution" else 1)
                assert kind["share"]["median"] == pytest.approx(least / kind["seconds"], rel=0.2)
