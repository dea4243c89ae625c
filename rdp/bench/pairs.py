"""What a drop and a recover iteration take of two vanilla steps, measured beside counted."""

from dataclasses import dataclass

import numpy as np
import torch

from rdp.bench.measuring import (
    CLASSES,
    SHAPE,
    WARM_UP,
    Benchmark,
    Comparison,
    Ratio,
    Setting,
    table,
    timed,
    trainer,
)
from rdp.methods import FULL, Iteration, method_class
from rdp.models import build
from rdp.models.units import Units
from rdp.training import cost

ARCHITECTURES = ("resnet56", "vit_tiny")


@dataclass(frozen=True)
class PairCost:
    """What pairs of drop and recover iterations take of two vanilla steps.

    Attributes:
        measured, counted: of the time, and of the operations of the masks that were timed.
        measured_over_counted: their quotient, pair by pair; the bar is on it.
        drop, recover: measured over counted of each iteration, of one vanilla step.
        vanilla_seconds: a vanilla step, the median.
    """

    architecture: str
    measured: Ratio
    counted: float
    measured_over_counted: Ratio
    drop: float
    recover: float
    vanilla_seconds: float


def rdp_pairs(architecture: str, setting: Setting) -> PairCost:
    """Time pairs of ResidualDroppath's iterations against two vanilla steps of the same network, in alternation.

    Each step is forward, backward and an SGD step on a resident mini-batch of 32 x 32 images.
    """
    arguments = {"path": "residual", "path_options": {}, "norm_gain": 1.0, "input_shape": SHAPE, "classes": CLASSES}
    device = setting.device
    network = build(architecture, **arguments, seed=0).to(device, memory_format=torch.channels_last).train()
    counted = cost.IterationCost(network, SHAPE)
    units = Units(network)
    method = method_class("residual_droppath")(rate=setting.rate)
    train = trainer(network, setting)

    def step(iteration: Iteration) -> float:
        def work() -> None:
            units.apply(iteration, device)
            train()

        return timed(work, device)

    times: list[tuple[float, float, float]] = []
    shares: list[tuple[float, float]] = []
    for pair in range(WARM_UP + setting.rounds):
        ours = [method.iteration(2 * pair + i, units=len(units), batch_size=setting.batch_size, seed=0) for i in (0, 1)]
        # The order alternates, so that a machine that slows down or speeds up favours neither.
        if pair % 2:
            drop, recover = step(ours[0]), step(ours[1])
            vanilla = step(FULL) + step(FULL)
        else:
            vanilla = step(FULL) + step(FULL)
            drop, recover = step(ours[0]), step(ours[1])
        times.append((vanilla, drop, recover))
        shares.append((counted(ours[0]) / counted(FULL), counted(ours[1]) / counted(FULL)))
    units.restore()
    vanilla, drop, recover = np.array(times[WARM_UP:]).T
    drop_share, recover_share = np.array(shares[WARM_UP:]).T
    measured, expected = (drop + recover) / vanilla, (drop_share + recover_share) / 2
    return PairCost(
        architecture=architecture,
        measured=Ratio.of(measured),
        counted=float(np.median(expected)),
        measured_over_counted=Ratio.of(measured / expected),
        drop=float(np.median(drop / (vanilla / 2) / drop_share)),
        recover=float(np.median(recover / (vanilla / 2) / recover_share)),
        vanilla_seconds=float(np.median(vanilla) / 2),
    )


def run(setting: Setting) -> Benchmark:
    """Measure `ARCHITECTURES`. The bar is on how well the count foretells the time, and on the time itself."""
    found = [rdp_pairs(architecture, setting) for architecture in ARCHITECTURES]
    title = "A drop and a recover iteration, of two vanilla steps"
    columns = ("architecture", "counted", "measured", "measured / counted", "drop", "recover", "vanilla step")
    shown = table(f"{title}: {setting}, rate {setting.rate}", *columns)
    for row in found:
        split = (f"{row.drop:.3f}", f"{row.recover:.3f}", f"{row.vanilla_seconds * 1e3:.1f} ms")
        counted = f"{row.counted:.3f}"
        shown.add_row(row.architecture, counted, str(row.measured), str(row.measured_over_counted), *split)
    within = 0.15 if setting.device.type == "cpu" else 0.1
    comparisons = []
    for row in found:
        comparisons.append(Comparison(f"{row.architecture}, of two vanilla steps", row.measured, most=1.0))
        bar = {"least": 1 - within, "most": 1 + within}
        comparisons.append(Comparison(f"{row.architecture}, measured / counted", row.measured_over_counted, **bar))
    return Benchmark(title, found, shown, comparisons)
