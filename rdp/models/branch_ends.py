"""The children of a block whose outputs end its residual branches: droppath modules and registered names."""

from torch import nn

from rdp.errors import UserError

# A droppath module's class, and its attribute with the probability.
DROP_MODULES = {"DropPath": "drop_prob", "StochasticDepth": "p"}
_PREFIX = "drop_path"  # timm's name of a DropPath child, followed by a number if there are several
_registered: dict[str, tuple[str, ...]] = {
    "torchvision.models.resnet.BasicBlock": ("bn2",),
    "torchvision.models.resnet.Bottleneck": ("bn3",),
}


def register_block(block: type[nn.Module], *ends: str) -> None:
    """Register where the residual branches of a class of blocks end, so that a schedule can drop them.

    Args:
        block: the class; its subclasses are included.
        ends: names of the block's children. The output of each is the output of a branch, which ``forward`` adds to a
            shortcut: ``register_block(MyBlock, "norm2")`` for a block that returns ``relu(x + self.norm2(...))``.

    Raises:
        UserError: not a module class, or no name.

    >>> import rdp
    >>> from torch import nn
    >>> class Mixed(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.linear(self.norm(x))
    >>> rdp.register_block(Mixed, "linear")
    >>> rdp.ResidualDropPath(nn.Sequential(Mixed(), Mixed()), rate=0.5).units
    ['0', '1']
    """
    if not (isinstance(block, type) and issubclass(block, nn.Module)):
        raise UserError(f"register_block: expected a subclass of nn.Module, got {block!r}")
    if not ends or not all(isinstance(end, str) for end in ends):
        raise UserError(f"register_block({block.__name__}): name the children that end its branches")
    _registered[_qualified(block)] = ends


def _qualified(block: type) -> str:
    return f"{block.__module__}.{block.__qualname__}"


def branch_ends(block: nn.Module) -> list[str]:
    """The names of a block's own children, or empty places, that end residual branches; empty for most modules."""
    for base in type(block).__mro__:
        if (registered := _registered.get(_qualified(base))) is not None:
            if absent := [end for end in registered if not hasattr(block, end)]:
                raise UserError(
                    f"{type(block).__name__}: rdp.register_block names its child '{absent[0]}', which it does not have"
                )
            return list(registered)
    children = dict(block.named_children())
    ends = [name for name, child in children.items() if type(child).__name__ in DROP_MODULES]
    ends += [name for name, child in children.items() if name.startswith(_PREFIX) and type(child) is nn.Identity]
    # timm's ResNets hold None in place of a DropPath.
    ends += [name for name, value in vars(block).items() if name.startswith(_PREFIX) and value is None]
    return ends


def is_drop_module(block: nn.Module, end: str) -> bool:
    """Whether a branch end is a droppath module or its place, and not a layer of the branch."""
    return end.startswith(_PREFIX) or type(getattr(block, end)).__name__ in DROP_MODULES


def drop_probability(block: nn.Module, end: str) -> float:
    """The probability of the block's own droppath module; 0 without one."""
    child = getattr(block, end)
    return float(getattr(child, DROP_MODULES.get(type(child).__name__, ""), 0.0) or 0.0)
