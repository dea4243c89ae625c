"""torch.compile of the blocks with residual branches, each compiled once for each of its forms."""

from collections.abc import Callable
from typing import Any

from torch import nn

from rdp.models import blocks
from rdp.models.gates import Gate
from rdp.models.units import Units


def compile_blocks(units: Units, **options: Any) -> None:
    """Compile each block with units in place at its first call, with the options of torch.compile.

    A block whose branches are all dropped runs uncompiled: if nothing is computed in a call, torch compiles no later
    call of the same code either, and so no other form of any block.
    """
    for block in units.blocks:
        block.compile(**options)
        assert block._compiled_call_impl is not None
        block._compiled_call_impl = _choose(
            block, [branch.gate for branch in blocks.branches_of(block)], block._compiled_call_impl
        )


def restore_blocks(units: Units) -> None:
    """Undo `compile_blocks`."""
    for block in units.blocks:
        block._compiled_call_impl = None


def _choose(block: nn.Module, gates: list[Gate], compiled: Callable[..., Any]) -> Callable[..., Any]:
    uncompiled: Callable[..., Any] = block._call_impl

    def call(*args: Any, **kwargs: Any) -> Any:
        return (compiled if any(gate.active for gate in gates) else uncompiled)(*args, **kwargs)

    return call
