"""The benchmark `limit`: shares follow from what was counted and timed. No test asserts a speed."""

import numpy as np
import pytest

from rdp.bench import limit
from rdp.bench.engine import make_run
from rdp.bench.measuring import Ratio
from rdp.bench.operations import KINDS, OTHER, Operation
from rdp.bench.peaks import MemoryPeak, Peaks
from rdp.utils import sealed
from tests.bench.conditions import setting

PEAKS = Peaks({"float32": 100.0, "bfloat16": 200.0}, (MemoryPeak(10, 50.0), MemoryPeak(1000, 10.0)))
DONE = [
    Operation("aten::convolution", "convolution", "float32", 400, 60, 60),
    Operation("aten::convolution", "convolution", "bfloat16", 400, 30, 2000),
    Operation("aten::relu_", "elementwise", "float32", 0, 100, 50),
    Operation("aten::index", "other", "float32", 0, 0, 0),
]


def test_a_kind_bound_by_arithmetic_has_the_time_of_its_arithmetic_as_limit() -> None:
    row = limit.kind_limit("convolution", DONE, np.array([12.0, 8.0, 24.0]), PEAKS)
    assert (row.flops, row.moved) == (800, 90)
    assert row.compute_seconds == 400 / 100 + 400 / 200
    assert row.memory_seconds == pytest.approx(60 / 50 + 30 / 10)
    assert row.least == 6
    assert row.share is not None
    assert row.share.median == 0.5
    assert (row.share.low, row.share.high) == (0.25, 0.75)


def test_a_kind_bound_by_memory_has_the_time_of_its_bytes_as_limit() -> None:
    row = limit.kind_limit("elementwise", DONE, np.array([4.0, 4.0]), PEAKS)
    assert (row.compute_seconds, row.memory_seconds, row.least) == (0, 2, 2)
    assert row.share == Ratio(0.5, 0.5, 0.5)


def test_a_kind_that_the_step_lacks_has_no_share() -> None:
    row = limit.kind_limit("norm", DONE, np.zeros(3), PEAKS)
    assert (row.flops, row.moved, row.seconds, row.share) == (0, 0, 0, None)


def test_the_rest_of_a_step_has_time_and_no_limit() -> None:
    profiled = [{"convolution": 12.0, "elementwise": 4.0}] * 3
    step = limit._step_limit("resnet20", "float32", PEAKS, DONE, profiled, np.array([20.0, 20.0, 20.0]))
    assert [kind.kind for kind in step.kinds] == [*KINDS, OTHER]
    assert (step.kinds[-1].seconds, step.kinds[-1].share) == (4.0, None)
    assert step.share.median == pytest.approx((6 + 2) / 20)
    assert sum(kind.seconds for kind in step.kinds) == step.step_seconds == 20


@pytest.mark.parametrize("architecture", ["resnet20", "vit_tiny"])
def test_a_profile_times_every_kind_that_was_counted_and_no_call_twice(architecture: str) -> None:
    profiled = limit.Profile(make_run(architecture, setting()))
    profiled()
    seconds = profiled.steps[0]
    counted = {operation.kind for operation in profiled.operations}
    assert set(KINDS) <= set(seconds) == counted
    assert all(value > 0 for value in seconds.values())
    assert len(profiled.steps) == 1


@pytest.mark.slow
def test_the_benchmark_writes_kinds_and_highest_rates(tmp_path) -> None:
    conditions = setting(smoke=True)
    result = limit.run(conditions)
    content = sealed.read_json(result.save("limit", conditions, tmp_path), "bench", "")
    assert len(content["rows"]) == len(content["comparisons"]) == result.table.row_count == 6
    for row in content["rows"]:
        assert [kind["kind"] for kind in row["kinds"]] == [*KINDS, OTHER]
        assert row["peaks"]["flops"]["bfloat16"] > 0
        assert sum(kind["seconds"] for kind in row["kinds"]) > 0
