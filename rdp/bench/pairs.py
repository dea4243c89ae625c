"""What a drop and a recover iteration take of two vanilla steps, measured beside counted."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from rdp import cost, files
from rdp.bench import CLASSES, SHAPE, WARM_UP, Ratio, Setting, images, timed, trainer
from rdp.errors import UserError
from rdp.methods import FULL, Iteration, method_class
from rdp.models import build
from rdp.models.units import Units

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
    batch_size: int
    pairs: int
    measured: Ratio
    counted: float
    measured_over_counted: Ratio
    drop: float
    recover: float
    vanilla_seconds: float


def rdp_pairs(architecture: str, *, rate: float, batch_size: int, pairs: int, device: torch.device) -> PairCost:
    """Time pairs of ResidualDroppath's iterations against two vanilla steps of the same network, in alternation.

    Each step is forward, backward and an SGD step on a resident mini-batch of 32 x 32 images.
    """
    arguments = {"path": "residual", "path_options": {}, "norm_gain": 1.0, "input_shape": SHAPE, "classes": CLASSES}
    network = build(architecture, **arguments, seed=0).to(device, memory_format=torch.channels_last).train()
    counted = cost.IterationCost(network, SHAPE)
    units = Units(network)
    method = method_class("residual_droppath")(rate=rate)
    train = trainer(network, *images(batch_size, device))

    def step(iteration: Iteration) -> float:
        def work() -> None:
            units.apply(iteration, device)
            train()

        return timed(work, device)

    times: list[tuple[float, float, float]] = []
    shares: list[tuple[float, float]] = []
    for pair in range(WARM_UP + pairs):
        ours = [method.iteration(2 * pair + i, units=len(units), batch_size=batch_size, seed=0) for i in (0, 1)]
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
        batch_size=batch_size,
        pairs=pairs,
        measured=Ratio.of(measured),
        counted=float(np.median(expected)),
        measured_over_counted=Ratio.of(measured / expected),
        drop=float(np.median(drop / (vanilla / 2) / drop_share)),
        recover=float(np.median(recover / (vanilla / 2) / recover_share)),
        vanilla_seconds=float(np.median(vanilla) / 2),
    )


def run(*, rate: float, batch_size: int, pairs: int, threads: int, device: str, results: Path) -> tuple[Table, Path]:
    """Measure `ARCHITECTURES`; return a table for the terminal, and where the figures are: ``bench/rdp.json``."""
    if not 0 < rate < 1:
        raise UserError(f"bench: a rate in (0, 1) is needed, found {rate}")
    setting = Setting.of(device, threads)
    found = [rdp_pairs(a, rate=rate, batch_size=batch_size, pairs=pairs, device=setting.device) for a in ARCHITECTURES]
    path = results / "bench" / "rdp.json"
    files.write_json(path, setting.facts | {"rate": rate, "pairs": [asdict(row) for row in found]})
    title = f"A drop and a recover iteration, of two vanilla steps: {setting}, rate {rate}"
    columns = ("architecture", "batch", "pairs", "counted", "measured", "measured / counted", "drop", "recover")
    table = Table(*columns, "vanilla step", title=title, title_justify="left")
    for row in found:
        cells = (str(row.batch_size), str(row.pairs), f"{row.counted:.3f}", str(row.measured))
        split = (f"{row.drop:.3f}", f"{row.recover:.3f}", f"{row.vanilla_seconds * 1e3:.1f} ms")
        table.add_row(row.architecture, *cells, str(row.measured_over_counted), *split)
    return table, path
