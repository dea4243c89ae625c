"""Layers: what each layer of a network hands on to the next, in every architecture and path.

A layer is a residual branch with its shortcut, a plain block (two in a transformer: attention and MLP), a PNNH layer,
or the layer that changes the width between PNNH layers. Stem and head are none.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.models import blocks
from rdp.models.convert import PlainSequence
from rdp.models.families.resnet import ConvNormRelu
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import PnnhLayer, SumOuterLayer
from rdp.models.units import Units


@torch.no_grad()
def visit_layers(
    network: nn.Module,
    x: torch.Tensor,
    look: Callable[[torch.Tensor], Any],
    *,
    training: bool = False,
    layers: Sequence[str] | None = None,
) -> None:
    """Call ``look`` with the output of each layer as the next one reads it, in the order of the forward pass.

    The network is left as it is.

    Args:
        network: any that `Units` takes, or a plain or PNNH one of this project.
        x: examples, shape (n, …).
        look: called with a tensor of shape (n, …), which the network may overwrite afterwards; nothing is kept, so a
            deep network's outputs need not all fit in memory.
        training: whether normalisation uses the statistics of ``x``, as in training.
        layers: the names of the modules whose outputs are meant, in place of those that are found.

    Raises:
        UserError: a block into which no gates can be put.
    """
    network = copied(network, batch_statistics=training)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        look(output)

    def join(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]) -> torch.Tensor:
        joined = shortcut + branch(*inputs)
        look(joined)
        return joined

    ends = _ends(network) if layers is None else [network.get_submodule(name) for name in layers]
    for block in Units(network, take_over=True).blocks if layers is None else ():
        branches = [] if isinstance(block, GatedBranch) else blocks.gate(block)
        if len(branches) > 1:
            for branch in branches:
                branch.gate.instead = join
        else:  # what the next layer reads may have passed a rectifier behind the sum
            ends.append(block)
    for module in ends:
        module.register_forward_hook(after)
    network(x)


def copied(network: nn.Module, *, batch_statistics: bool) -> nn.Module:
    """A copy in evaluation mode, to be measured in the network's place.

    Args:
        network: dropout and droppath of its own are off in the copy.
        batch_statistics: whether batch norms use the statistics of what they read, as in training. That moves the
            running ones, of the copy alone.
    """
    made = deepcopy(network).eval()
    for norm in made.modules():
        if isinstance(norm, _NormBase):
            norm.train(batch_statistics)
    return made


def layer_outputs(
    network: nn.Module, x: torch.Tensor, *, training: bool = False, layers: Sequence[str] | None = None
) -> list[torch.Tensor]:
    """The output of each layer as the next one reads it, (n, …) each; see `visit_layers`."""
    found: list[torch.Tensor] = []
    visit_layers(network, x, lambda output: found.append(output.clone()), training=training, layers=layers)
    return found


def unjoined_branches(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are those of the branches of a network without shortcuts, in no order.

    In a PNNH network a branch is a learner with what follows it: phi(norm(L x)); norm(L x) in ``sum_outer``, which
    applies phi to the sum; the whole layer in ``sum_inner``, where learner and coder are one. Else it is a plain
    layer or block, up to where its residual form would add the shortcut.
    """
    learners = [
        m.norm if isinstance(m, SumOuterLayer) else m.activation for m in network.modules() if isinstance(m, PnnhLayer)
    ]
    plain = [m.branch for m in network.modules() if isinstance(m, PlainBranch)]
    for sequence in (m for m in network.modules() if isinstance(m, PlainSequence)):
        for place, (name, _) in enumerate(sequence.named_children()):
            if name in sequence.ends:
                # timm's ResNets call a rectifier act…, and the shortcut is added in front of the last one.
                plain.append(sequence[place - name.startswith("act")])
    return learners or plain


def _ends(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are those of plain and PNNH layers."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, PlainSequence):
            found += [getattr(module, name) for name in module.ends]
        # A stem is a ConvNormRelu too, without a stride.
        elif isinstance(module, PlainBranch | PnnhLayer) or (isinstance(module, ConvNormRelu) and _halves(module)):
            found.append(module)
    return found


def _halves(layer: ConvNormRelu) -> bool:
    return layer.conv.stride[0] > 1
