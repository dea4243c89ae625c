"""What a training step and a forward pass take on each path, beside the residual network's."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table
from torch import nn

from rdp import cost, files
from rdp.bench import CLASSES, SHAPE, Ratio, Setting, alternate, images, trainer
from rdp.models import build, fuse

ARCHITECTURES = ("resnet56", "vit_tiny")
NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "residual": ("residual", {}),
    "plain": ("plain", {}),
    "pnnh concat": ("pnnh", {"variant": "concat"}),
    "pnnh sum": ("pnnh", {"variant": "sum"}),
}
_JOINED = 2.0  # the growth at which `rdp.models.fuse` joins products that it otherwise leaves apart


@dataclass(frozen=True)
class PathSpeed:
    """One network beside the residual one of the same architecture.

    Attributes:
        parameters, forward_flops: counted.
        training: training throughput, as a multiple of the residual network's.
        inference: throughput of evaluation, as a multiple of the residual network's; neither is folded.
        folded: throughput of evaluation after `rdp.models.fuse`, as a multiple of what it was before.
        joined: the same, with products joined that cost more operations together.
        seconds: a training step, the median.
    """

    architecture: str
    network: str
    parameters: int
    forward_flops: int
    training: Ratio
    inference: Ratio
    folded: Ratio
    joined: Ratio
    seconds: float


def path_speeds(architecture: str, *, batch_size: int, rounds: int, device: torch.device) -> list[PathSpeed]:
    """Time a training step and a forward pass of each of `NETWORKS`, in alternation, on 32 x 32 images."""
    x, y = images(batch_size, device)
    shared = {"norm_gain": 0.5, "input_shape": SHAPE, "classes": CLASSES, "seed": 0}
    networks: dict[str, nn.Module] = {}
    for name, (path, options) in NETWORKS.items():
        built = build(architecture, path=path, path_options=options, **shared)
        networks[name] = built.to(device, memory_format=torch.channels_last).train()
    training = alternate({name: trainer(network, x, y) for name, network in networks.items()}, rounds, device)
    forms = {
        (name, form): made
        for name, network in networks.items()
        for form, made in (
            ("whole", network.eval()),
            ("folded", fuse(network)),
            ("joined", fuse(network, growth=_JOINED)),
        )
    }
    with torch.inference_mode():
        work = {key: (lambda made=made: made(x)) for key, made in forms.items()}
        inference = alternate(work, rounds, device)
    return [
        PathSpeed(
            architecture=architecture,
            network=name,
            parameters=cost.parameters(network),
            forward_flops=cost.IterationCost(network, SHAPE).forward_full,
            training=Ratio.of(training["residual"] / training[name]),
            inference=Ratio.of(inference["residual", "whole"] / inference[name, "whole"]),
            folded=Ratio.of(inference[name, "whole"] / inference[name, "folded"]),
            joined=Ratio.of(inference[name, "whole"] / inference[name, "joined"]),
            seconds=float(np.median(training[name])),
        )
        for name, network in networks.items()
    ]


def run(*, batch_size: int, rounds: int, threads: int, device: str, results: Path) -> tuple[Table, Path]:
    """Measure `ARCHITECTURES`; return a table for the terminal, and where the figures are: ``bench/pnnh.json``."""
    setting = Setting.of(device, threads)
    found = [
        row
        for architecture in ARCHITECTURES
        for row in path_speeds(architecture, batch_size=batch_size, rounds=rounds, device=setting.device)
    ]
    path = results / "bench" / "pnnh.json"
    files.write_json(
        path, setting.facts | {"batch_size": batch_size, "rounds": rounds, "networks": [asdict(row) for row in found]}
    )
    title = f"Throughput by path: {setting}, batch {batch_size}, {rounds} rounds"
    columns = ("architecture", "network", "parameters", "MFLOP", "training / residual", "step")
    more = ("inference / residual", "folded / not", "joined / not")
    table = Table(*columns, *more, title=title, title_justify="left")
    for row in found:
        sizes = (f"{row.parameters:,}", f"{row.forward_flops / 1e6:.1f}")
        speeds = (str(row.training), f"{row.seconds * 1e3:.1f} ms", str(row.inference))
        table.add_row(row.architecture, row.network, *sizes, *speeds, str(row.folded), str(row.joined))
    table.caption = "pnnh sum, with its orthogonal coder, is a residual network in rotated coordinates"
    return table, path
