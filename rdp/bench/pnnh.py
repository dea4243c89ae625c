"""Benchmark `pnnh`: training and inference throughput of each path over the residual network's."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from rdp.bench.measuring import CLASSES, SHAPE, Benchmark, Comparison, Ratio, Setting, alternate, images, table, trainer
from rdp.models import create_model
from rdp.models.fusion import fuse
from rdp.training import cost

ARCHITECTURES = ("resnet56", "vit_tiny")
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual": ("residual", {}),
    "plain": ("plain", {}),
    "pnnh window": ("pnnh", {"variant": "window"}),
    "pnnh concat": ("pnnh", {"variant": "concat"}),
    "pnnh sum": ("pnnh", {"variant": "sum"}),
}
FORMS = ("whole", "folded", "joined")
_JOINED = 2.0  # growth of operations up to which `rdp.models.fusion.fuse` joins products


@dataclass(frozen=True)
class PathSpeed:
    """Speed of one network of an architecture."""

    architecture: str
    network: str  # a key of `NETWORKS`
    parameters: int
    forward_flops: int
    training: Ratio  # training throughput over the residual network's
    inference: Ratio  # throughput of evaluation over the residual network's, neither of them fused
    folded: Ratio  # throughput of evaluation after `rdp.models.fusion.fuse` over that before
    joined: Ratio  # as ``folded``, with products joined even if that costs more operations
    seconds: float  # median time of a training step


def path_speeds(architecture: str, setting: Setting) -> list[PathSpeed]:
    """Time a training step and a forward pass of each of `NETWORKS` in alternation, on 32 x 32 images."""
    device, rounds = setting.device, setting.rounds
    networks: dict[str, nn.Module] = {}
    for name, (path, options) in NETWORKS.items():
        network = create_model(architecture, path=path, norm_gain=0.5, input_shape=SHAPE, classes=CLASSES, **options)
        networks[name] = network.to(device).to(memory_format=torch.channels_last).train()
    training = alternate({name: trainer(network, setting) for name, network in networks.items()}, rounds, device)
    forms = {
        (name, form): module
        for name, network in networks.items()
        for form, module in zip(FORMS, (network.eval(), fuse(network), fuse(network, growth=_JOINED)), strict=True)
    }
    x, _ = images(setting)
    half = setting.precision == "bfloat16"
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        work = {key: partial(module, x) for key, module in forms.items()}
        inference = alternate(work, rounds, device)
    return [
        PathSpeed(
            architecture=architecture,
            network=name,
            parameters=cost.count_parameters(network),
            forward_flops=cost.IterationCost(network, SHAPE).forward_full,
            training=Ratio.of(training["residual"] / training[name]),
            inference=Ratio.of(inference["residual", "whole"] / inference[name, "whole"]),
            folded=Ratio.of(inference[name, "whole"] / inference[name, "folded"]),
            joined=Ratio.of(inference[name, "whole"] / inference[name, "joined"]),
            seconds=float(np.median(training[name])),
        )
        for name, network in networks.items()
    ]


def run(setting: Setting) -> Benchmark:
    """Time `ARCHITECTURES`. There is no bar on the ratios, only on their precision: 3 %."""
    speeds = [row for architecture in ARCHITECTURES for row in path_speeds(architecture, setting)]
    columns = ("architecture", "network", "parameters", "MFLOP", "training / residual", "step")
    more = ("inference / residual", "folded / not", "joined / not")
    caption = "pnnh sum, with its orthogonal coder, is a residual network in rotated coordinates"
    title = "Training throughput of a path over the residual network's"
    shown = table(f"{title}: {setting}", *columns, *more, caption=caption)
    for row in speeds:
        sizes = (f"{row.parameters:,}", f"{row.forward_flops / 1e6:.1f}")
        ratios = (str(row.training), f"{row.seconds * 1e3:.1f} ms", str(row.inference))
        shown.add_row(row.architecture, row.network, *sizes, *ratios, str(row.folded), str(row.joined))
    others = (row for row in speeds if row.network != "residual")
    comparisons = [Comparison(f"{row.architecture}, {row.network}", row.training) for row in others]
    return Benchmark(title, speeds, shown, comparisons)
