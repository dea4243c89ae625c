"""Highest rates: what probes compute, and which of their durations count."""

import numpy as np
import pytest
import torch

from rdp.bench import peaks as module
from rdp.bench.peaks import PRECISIONS, MemoryPeak, Peaks, Probe, peaks, probes

CPU = torch.device("cpu")


def nothing() -> None:
    pass


def test_the_shortest_of_all_rounds_and_probes_counts() -> None:
    timed = [
        (Probe("float32", 100, 10, nothing), np.array([2.0, 1.0, 4.0])),
        (Probe("float32", 1000, 90, nothing), np.array([8.0, 5.0, 9.0])),
        (Probe("bfloat16", 100, 10, nothing), np.array([0.5, 1.0, 1.0])),
        (Probe("memory", 30, 64, nothing), np.array([1.0, 3.0, 1.0])),
        (Probe("memory", 80, 64, nothing), np.array([2.0, 2.0, 2.0])),
        (Probe("memory", 50, 16, nothing), np.array([1.0, 1.0, 0.5])),
    ]
    found = peaks(timed)
    assert found.flops == {"float32": 200.0, "bfloat16": 200.0}
    assert found.memory == (MemoryPeak(16, 100.0), MemoryPeak(64, 40.0))


@pytest.mark.parametrize(
    ("working_set", "rate"), [(1, 90.0), (10, 90.0), (39, 90.0), (40, 50.0), (200, 50.0), (10**9, 50.0)]
)
def test_a_working_set_has_the_highest_rate_of_the_next_smaller_size_and_all_larger(
    working_set: int, rate: float
) -> None:
    sizes = (MemoryPeak(10, 90.0), MemoryPeak(40, 20.0), MemoryPeak(160, 50.0))
    assert Peaks({}, sizes).byte_rate(working_set) == rate


def test_probes_are_of_both_precisions_and_of_memory() -> None:
    found = probes(CPU, smoke=True)
    assert {probe.quantity for probe in found} == {*PRECISIONS, "memory"}
    for probe in found:
        probe.work()
        assert probe.amount >= probe.working_set > 0


def test_a_product_of_matrices_counts_two_operations_a_multiply_add() -> None:
    product = next(probe for probe in probes(CPU, smoke=True) if probe.quantity == "bfloat16")
    side = module._SMOKE_SIDES[0]
    assert product.amount == 2 * side**3
    out = product.work.keywords["out"]
    product.work()
    assert out.dtype == torch.bfloat16
    assert (out == side).all()


def test_probes_of_memory_move_the_bytes_that_they_state() -> None:
    found = module._memory(1000, 5000, CPU)
    assert [(probe.amount, probe.working_set) for probe in found] == [(5000, 1000), (5000, 1000), (6000, 1000)]
    changed = found[2].work.args[0].__self__
    found[2].work()
    assert (changed == -1).all()  # three times
    assert changed.numel() * changed.element_size() == 1000
