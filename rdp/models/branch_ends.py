"""Where residual branches end, as a block's class or its children declare it: droppath modules, registered names."""

from torch import nn

from rdp.errors import UserError
from rdp.models.droppath import PREFIX, is_droppath

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
    ends = [name for name, child in block._modules.items() if child is not None and _is_place(name, child)]
    # timm's ResNets hold None in place of a DropPath.
    ends += [name for name, value in vars(block).items() if name.startswith(PREFIX) and value is None]
    return ends


def is_drop_module(block: nn.Module, end: str) -> bool:
    """Whether a branch end is a droppath module or its place, and not a layer of the branch."""
    child = getattr(block, end)
    return child is None or _is_place(end, child)


def _is_place(name: str, child: nn.Module) -> bool:
    return is_droppath(name, child) or (name.startswith(PREFIX) and type(child) is nn.Identity)
