"""Estimates of a run's operations and disk space from its network's arguments, without building the network.

They are within a factor of two of the counts of `rdp.training.cost`, and need no torch.
"""

import math
from typing import NamedTuple

from rdp import data, models
from rdp.spec import RunSpec

# Overhead of a layer in one step, expressed in operations; on a GPU it is mostly kernel launches.
_LAYER_STEP = {"cpu": 1e6, "cuda": 2.5e10}
_EVALUATION_BATCH = 500
_UNKNOWN = 1e9  # operations of a network whose arguments state no width
_RECORD_BYTES = 4e3, 4e2  # of a record, and of each epoch or tensor in it


class _Stage(NamedTuple):
    """Equal layers: their total number of weights, and the number of positions at which each weight is used."""

    weights: float
    places: float


def operations(spec: RunSpec, device: str = "cpu") -> float:
    """Estimated floating-point operations of a run, including evaluation and the overhead of calls."""
    info, recipe = data.info(spec.dataset), spec.recipe
    forward = forward_operations(spec.architecture, info.shape)
    steps = nominal_steps(spec)
    validated = math.ceil(recipe.epochs / recipe.validate_every) * info.sizes["validation"]
    evaluated = validated + (0 if spec.sweep else info.sizes["test"])
    calls = 3 * steps + evaluated / _EVALUATION_BATCH
    depth = max(models.architecture(spec.architecture).depth, 1)
    return forward * (3 * steps * recipe.batch_size + evaluated) + _LAYER_STEP[device] / 3 * depth * calls


def nominal_steps(spec: RunSpec) -> int:
    """Optimizer steps of a run whose budget is in steps."""
    recipe = spec.recipe
    size = recipe.train_size or data.info(spec.dataset).sizes["train"]
    return recipe.epochs * (size // recipe.batch_size)


def forward_operations(architecture: str, shape: tuple[int, ...]) -> float:
    """Floating-point operations of a network's forward pass on one example."""
    stages = _stages(architecture, shape)
    if stages is None:
        return _UNKNOWN
    attention = 0.0
    arguments = models.architecture(architecture).arguments
    if "patch" in arguments:  # products of queries, keys and values have no weights
        attention = 4 * arguments["depth"] * arguments["width"] * _tokens(arguments["patch"], shape) ** 2
    return sum(2 * stage.weights * stage.places for stage in stages) + attention


def parameters(architecture: str, shape: tuple[int, ...]) -> float:
    """Number of parameters of a network for examples of this shape."""
    stages = _stages(architecture, shape)
    return _UNKNOWN / 100 if stages is None else sum(stage.weights for stage in stages)


def run_bytes(spec: RunSpec) -> float:
    """Disk space of a finished run in bytes: its record and, unless it belongs to a sweep, weights and predictions."""
    base, each = _RECORD_BYTES
    depth = max(models.architecture(spec.architecture).depth, 1)
    record = base + each * (spec.recipe.epochs + depth)
    if spec.sweep:
        return record
    info = data.info(spec.dataset)
    return record + 4 * parameters(spec.architecture, info.shape) + 2 * info.sizes["test"]


def checkpoint_bytes(spec: RunSpec) -> float:
    """Disk space of the checkpoints of a run in training, in bytes: two are kept while a third is written."""
    recipe = spec.recipe
    copies = 1 + (2 if recipe.optimizer == "adamw" else recipe.momentum > 0) + (recipe.ema is not None)
    return 3 * copies * 4 * parameters(spec.architecture, data.info(spec.dataset).shape)


def data_bytes(dataset: str) -> float:
    """Disk space of a prepared dataset in bytes: its examples or, if they are streamed, its index."""
    info = data.info(dataset)
    if data.streamed(dataset):
        return 120 * sum(info.sizes.values())
    return sum(info.sizes.values()) * (math.prod(info.shape) * (1 if info.kind == "image" else 4) + 8)


def _tokens(patch: int, shape: tuple[int, ...]) -> float:
    return math.prod(shape[1:]) / patch**2 + 1


def _stages(architecture: str, shape: tuple[int, ...]) -> list[_Stage] | None:
    """The layers of a network; None if its arguments do not state them."""
    arguments = models.architecture(architecture).arguments
    pixels: float = math.prod(shape[1:]) if len(shape) == 3 else 1
    if "widths" in arguments:
        layers = arguments.get("layers") or [arguments["blocks"]] * len(arguments["widths"])
        kernels = 17 if arguments.get("block") == "Bottleneck" else 18  # weights of a block, in widths squared
        if "layers" in arguments:
            pixels /= 16  # strides of the stem
        stages = zip(layers, arguments["widths"], strict=True)
        return [_Stage(kernels * n * w * w, max(pixels / 4**i, 1)) for i, (n, w) in enumerate(stages)]
    width, depth = arguments.get("width"), arguments.get("depth")
    if not width or not depth:
        return None
    if "patch" not in arguments:
        return [_Stage(depth * width**2, 1)]
    weights = depth * (4 + 2 * arguments.get("mlp_ratio", 4)) * width**2
    return [_Stage(weights, _tokens(arguments["patch"], shape))]
