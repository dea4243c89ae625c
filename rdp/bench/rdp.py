"""Benchmark `rdp`: the cost of ResidualDroppath's iterations in vanilla steps, measured and counted."""

from dataclasses import dataclass

import numpy as np
import torch

from rdp.bench.measuring import CLASSES, SHAPE, WARM_UP, Benchmark, Comparison, Ratio, Setting, table, timed, trainer
from rdp.methods import FULL, Iteration, Training, method_class
from rdp.models import create_model
from rdp.models.units import Units
from rdp.training import cost

ARCHITECTURES = ("resnet56", "vit_tiny")


@dataclass(frozen=True)
class PairCost:
    """Cost of a drop and a recover iteration over that of two vanilla steps."""

    architecture: str
    measured: Ratio  # ratio of times
    counted: float  # ratio of the operations of the timed masks, the median
    measured_over_counted: Ratio  # their quotient pair by pair; the bar is on it
    drop: float  # measured over counted cost, as for the other kind of iteration
    recover: float
    vanilla_seconds: float  # median time of a vanilla step


def rdp_pairs(architecture: str, setting: Setting) -> PairCost:
    """Time pairs of ResidualDroppath's iterations against two vanilla steps of the same network, in alternation.

    Each step is forward, backward and an SGD step on a mini-batch of 32 x 32 images that stays on the device.
    """
    device = setting.device
    network = create_model(architecture, input_shape=SHAPE, classes=CLASSES)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    counted = cost.IterationCost(network, SHAPE)
    units = Units(network)
    method = method_class("residual_droppath").model_validate({"rate": setting.rate})
    training = Training(len(units), setting.batch_size, seed=0)
    train = trainer(network, setting)

    def step(iteration: Iteration) -> float:
        def work() -> None:
            units.apply(iteration, device)
            train()

        return timed(work, device)

    times: list[tuple[float, float, float]] = []
    shares: list[tuple[float, float]] = []
    for pair in range(WARM_UP + setting.rounds):
        ours = [method.iteration(2 * pair + i, training) for i in (0, 1)]
        # The order alternates, so that a change in the machine's speed favours neither.
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
    """Time `ARCHITECTURES`. The bars are on measured over counted cost, and on the measured cost."""
    costs = [rdp_pairs(architecture, setting) for architecture in ARCHITECTURES]
    title = "Cost of a drop and a recover iteration over two vanilla steps"
    columns = ("architecture", "counted", "measured", "measured / counted", "drop", "recover", "vanilla step")
    shown = table(f"{title}: {setting}, rate {setting.rate}", *columns)
    for row in costs:
        split = (f"{row.drop:.3f}", f"{row.recover:.3f}", f"{row.vanilla_seconds * 1e3:.1f} ms")
        counted = f"{row.counted:.3f}"
        shown.add_row(row.architecture, counted, str(row.measured), str(row.measured_over_counted), *split)
    tolerance = 0.15 if setting.device.type == "cpu" else 0.1
    comparisons = []
    for row in costs:
        comparisons.append(Comparison(f"{row.architecture}, over two vanilla steps", row.measured, most=1.0))
        bar = {"least": 1 - tolerance, "most": 1 + tolerance}
        comparisons.append(Comparison(f"{row.architecture}, measured / counted", row.measured_over_counted, **bar))
    return Benchmark(title, costs, shown, comparisons)
