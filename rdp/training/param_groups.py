"""The parameter groups of this project's training, for other loops."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from rdp.errors import UserError
from rdp.models.weights import unwrap
from rdp.training.optimizers import parameter_groups


def param_groups(
    model: nn.Module, lr: float, weight_decay: float, *, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """The parameter groups with which this project trains a model, for an optimizer of torch or timm.

    A trained coder of a PNNH network has a learning rate divided by the number of layers that use it, and no weight
    decay, unless its options say otherwise. In any model, weight decay applies to parameters of two or more dimensions,
    but not to those that the model's method ``no_weight_decay`` lists, such as a transformer's positions.

    Args:
        model: any model; call `set_path`, ``fully_shard`` and the like first, because they make new parameters.
        lr: the learning rate of all parameters but the coders'.
        weight_decay: of the parameters that decay.
        layer_decay: timm's factor of the learning rate from each layer to the one before it; by default none. Layers
            are those of the model's ``group_matcher``. A coder belongs to the first layer that uses it.

    Returns:
        Groups with ``params``, ``lr`` and ``weight_decay``. Each parameter is in one of them, also if it is frozen.

    Raises:
        UserError: something else than a module, or ``layer_decay`` for a model without ``group_matcher``.

    >>> import rdp, timm, torch
    >>> model = rdp.set_path(timm.create_model("test_vit"), "pnnh", variant="sum")  # 6 blocks share a coder
    >>> optimizer = torch.optim.AdamW(rdp.param_groups(model, lr=0.06, weight_decay=0.05))
    >>> [(round(group["lr"], 3), group["weight_decay"]) for group in optimizer.param_groups]
    [(0.06, 0.0), (0.06, 0.05), (0.01, 0.0)]
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"param_groups: expected a model, got a value of type {type(model).__name__}")
    network = unwrap(model)
    scales: dict[str, float] = {}
    if layer_decay is not None:
        if not hasattr(network, "group_matcher"):
            raise UserError(f"param_groups: layer_decay needs a group_matcher, and {type(network).__name__} has none")
        matcher: Any = network.group_matcher
        layers = group_parameters(network, matcher(coarse=False), reverse=True)
        last = max(layers.values())
        scales = {name: layer_decay ** (last - layer) for name, layer in layers.items()}
    return [
        {"params": group.parameters, "lr": lr * group.learning_rate_factor, "weight_decay": group.weight_decay}
        for group in parameter_groups(network, weight_decay, scales)
    ]
