"""The parameter groups of this project's training, for other loops."""

import re
from collections.abc import Iterator
from typing import Any

from timm.models import group_parameters
from torch import nn

from rdp.errors import UserError
from rdp.models.weights import unwrap
from rdp.training.optimizers import parameter_groups

# Parts of the names that torchvision, transformers and timm give to tables of positions, and to learned tokens.
_POSITION = re.compile(r"(^|_)(pos|posemb|pos_?embed|positions?|positional|relative|wpe)(_|$)|attention_bias")
_TOKEN = re.compile(r"(^|_)tokens?(_|$)")
_CLASS = re.compile(r"(^|_)(cls|class)_emb")  # a parameter; an embedding of this name has a row for each class
_VOCABULARY = re.compile(r"(^|_)embed\w*_tokens?|(^|_)tokens?_(\w+_)?embed")  # which decays, as other weights do


def param_groups(
    model: nn.Module, lr: float, weight_decay: float, *, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """The parameter groups with which this project trains a model, for an optimizer of torch or timm.

    A trained coder of a PNNH network has a learning rate divided by the number of layers that use it, and no weight
    decay, unless its options say otherwise. In any model, weight decay applies to parameters of two or more dimensions,
    but not to a transformer's positions and tokens. In a module with timm's method ``no_weight_decay``, these are what
    the method lists. In others, they are parameters and embeddings that are called so, as in torchvision and
    transformers: ``pos_embedding``, ``relative_position_bias_table``, ``class_token``, ``mask_token`` and the like.
    Embeddings of words and of token types decay.

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
    kept = {id(parameter) for parameter in _positions_and_tokens(network)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for group in parameter_groups(network, weight_decay, scales):
        for parameter in group.parameters:
            decay = 0.0 if id(parameter) in kept else group.weight_decay
            groups.setdefault((lr * group.learning_rate_factor, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def _positions_and_tokens(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters and embeddings that are called positions or tokens, where no ``no_weight_decay`` lists them."""
    listed: list[str] = []  # the starts of the names in modules with a list, which comes before their children
    for path, module in network.named_modules():
        if callable(getattr(module, "no_weight_decay", None)):
            listed.append(f"{path}." if path else "")
        if any(f"{path}.".startswith(start) for start in listed):
            continue
        if isinstance(module, nn.Embedding):
            parent, own = ["", *path.split(".")][-2:]
            is_kept = bool(_POSITION.search(parent)) or _is_kept(own)
            yield from module.parameters(recurse=False) if is_kept else ()
        else:
            own_parameters = module.named_parameters(recurse=False)
            yield from (parameter for name, parameter in own_parameters if _is_kept(name) or _CLASS.search(name))


def _is_kept(name: str) -> bool:
    return bool(_POSITION.search(name) or (_TOKEN.search(name) and not _VOCABULARY.search(name)))
