"""Networks of this project by name, for training loops of your own."""

from typing import get_args

from torch import nn

from rdp import models
from rdp.errors import UserError, choices
from rdp.methods import Path


def list_models() -> list[str]:
    """The names that `create_model` accepts, sorted.

    >>> import rdp
    >>> {"mlp32", "resnet56", "resnet50", "vit_tiny"} <= set(rdp.list_models())
    True
    """
    return sorted(models.architectures())


def create_model(
    name: str,
    *,
    path: str = "residual",
    input_shape: tuple[int, ...] = (3, 32, 32),
    classes: int = 10,
    norm_gain: float = 1.0,
    seed: int = 0,
    **options: object,
) -> nn.Module:
    """Create a network of this project: residual, plain or PNNH (arXiv 2402.08645).

    An initial weight depends on ``seed`` and on its parameter's name and shape only, so networks of different paths
    start alike where names and shapes agree.

    Args:
        name: one of `list_models`.
        path: how a block combines its input and output: ``residual``, ``plain`` or ``pnnh``.
        input_shape: of one example: (channels, height, width) in pixels, or (features,) for an ``mlp``.
        classes: number of logits.
        norm_gain: initial gain of the norm that ends each branch or learner; in a transformer, of the norm in front
            of it.
        seed: of the initial weights.
        **options: of ``pnnh``, as in `set_path`.

    Returns:
        A network from (n, *input_shape) to logits, (n, classes); on the CPU, in training mode.

    Raises:
        UserError: an unknown name, path or option, or one that the network or the input shape does not support.

    >>> import rdp, torch
    >>> model = rdp.create_model("resnet20", path="pnnh", input_shape=(3, 16, 16))
    >>> model(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """
    if path not in get_args(Path):
        raise UserError(f"unknown path '{path}'; {choices(path, get_args(Path))}")
    if options and path != "pnnh":
        raise UserError(f"a {path} network has no option '{next(iter(options))}'; the options are those of pnnh")
    return models.build(
        name,
        path=path,
        path_options=options,
        norm_gain=norm_gain,
        input_shape=tuple(input_shape),
        classes=classes,
        seed=seed,
    )
