"""Planted results that support, refute, or leave open every claim."""

from dataclasses import replace

import pytest

from rdp.claims import verdict_json
from tests.helpers.planting import World, load, plant

AS_CLAIMED = World(
    accuracy={"vanilla": 0.80, "residual_droppath": 0.85, "plain": 0.40, "pnnh": 0.801, "narrow": 0.70},
    parameters={"vanilla": 1000.0, "pnnh": 500.0, "narrow": 500.0},
    flops={"vanilla": 1000.0, "residual_droppath": 700.0},
    loss={"vanilla": 0.1, "plain": 0.95},
    redundancy={"vanilla": (0.8, 0.5), "residual_droppath": (0.6, 0.5)},
    lesion={"vanilla": -0.5, "residual_droppath": -0.1},
    reconstruction={"vanilla": 0.3, "plain": 0.0},
    survival={"vanilla": 0.01, "plain": -0.01},
    throughput=(1.2, 1.15, 1.25),
    spread=0.02,
)
CONTRARY = World(
    accuracy={"vanilla": 0.80, "residual_droppath": 0.75, "plain": 0.85, "pnnh": 0.70, "narrow": 0.75},
    parameters={"vanilla": 1000.0, "pnnh": 700.0, "narrow": 500.0},
    flops={"vanilla": 1000.0, "residual_droppath": 1100.0},
    loss={"vanilla": 0.1, "plain": 0.2},
    redundancy={"vanilla": (0.5, 0.8), "residual_droppath": (0.6, 0.5)},
    lesion={"vanilla": -0.1, "residual_droppath": -0.5},
    reconstruction={"vanilla": 0.3, "plain": 0.3},
    survival={"vanilla": 0.1, "plain": 0.1},
    throughput=(0.8, 0.75, 0.85),
    spread=0.02,
)
# The means are as claimed, or nearly, and the seeds tell nothing.
NOISY = replace(
    AS_CLAIMED,
    accuracy={"vanilla": 0.80, "residual_droppath": 0.80, "plain": 0.75, "pnnh": 0.80, "narrow": 0.80},
    flops={"vanilla": 1000.0, "residual_droppath": 1000.0},
    loss={"vanilla": 0.1, "plain": 0.5},
    redundancy={"vanilla": (0.5, 0.5), "residual_droppath": (0.5, 0.5)},
    lesion={"vanilla": -0.5, "residual_droppath": -0.5},
    reconstruction={"vanilla": 0.3, "plain": 0.2},
    survival={"vanilla": 0.01, "plain": 0.04},
    throughput=(1.0, 0.9, 1.1),
    spread=1.0,
)
WORLDS = {"supported": AS_CLAIMED, "refuted": CONTRARY, "inconclusive": NOISY}


@pytest.fixture(scope="session")
def decided(tmp_path_factory: pytest.TempPathFactory):
    """``claims.json`` of the study in each of the worlds, by the verdict that all claims should have there."""
    found = {}
    for word, world in WORLDS.items():
        folder = tmp_path_factory.mktemp(word)
        found[word] = verdict_json.write(plant(load(folder), folder, world))
    return found
