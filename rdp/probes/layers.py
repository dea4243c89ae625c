"""The output of each layer of a network, for every architecture and path, and noise as an input to compare with.

A layer is a residual branch with its shortcut, a plain block (two in a transformer: attention and MLP), a PNNH layer,
or the layer that changes the width between PNNH layers. Stem and head are not layers.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rdp.models import blocks
from rdp.models.families.resnet import ConvNormRelu
from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.paths import PnnhLayer
from rdp.models.timm_plain import PlainSequence
from rdp.models.units import Units
from rdp.utils import rng


@torch.no_grad()
def visit_layers(
    network: nn.Module,
    x: torch.Tensor,
    visit: Callable[[torch.Tensor], Any],
    *,
    training: bool = False,
    layers: Sequence[str] | None = None,
) -> None:
    """Call ``visit`` with each layer's output, as the next layer reads it, in the order of the forward pass.

    Outputs, of shape (n, …), are not stored, so those of a deep network need not fit in memory together. The network
    may overwrite them after the call. With ``training``, norms use the statistics of ``x``. ``layers`` names the
    modules to visit, instead of those that are found.
    """
    network = evaluation_copy(network, batch_statistics=training)

    def visit_output(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        visit(output)

    def visit_sum(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]) -> torch.Tensor:
        joined = shortcut + branch(*inputs)
        visit(joined)
        return joined

    modules = _plain_layers(network) if layers is None else [network.get_submodule(name) for name in layers]
    for block in Units(network, take_over=True).blocks if layers is None else ():
        branches = [] if isinstance(block, GatedBranch) else blocks.gate(block)
        if len(branches) > 1:
            for branch in branches:
                branch.gate.override = visit_sum
        else:  # a rectifier may follow the sum before the next layer reads it
            modules.append(block)
    for module in dict.fromkeys(modules):  # a block may have several places
        module.register_forward_hook(visit_output)
    network(x)


def evaluation_copy(network: nn.Module, *, batch_statistics: bool) -> nn.Module:
    """A copy in evaluation mode, without dropout and droppath.

    With ``batch_statistics``, its batch norms use the statistics of their input, as in training.
    """
    network = deepcopy(network).eval()
    for norm in network.modules():
        if isinstance(norm, _NormBase):
            norm.train(batch_statistics)
    return network


def layer_outputs(
    network: nn.Module, x: torch.Tensor, *, training: bool = False, layers: Sequence[str] | None = None
) -> list[torch.Tensor]:
    """The output of each layer as the next layer reads it, of shape (n, …) each; see `visit_layers`."""
    outputs: list[torch.Tensor] = []
    visit_layers(network, x, lambda output: outputs.append(output.clone()), training=training, layers=layers)
    return outputs


def branches_without_shortcut(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are the branch outputs of a network without shortcuts, in no particular order.

    In a PNNH network a branch is a learner with norm and phi; without phi in ``sum_outer``, which applies it to the
    sum; the whole layer in ``sum_inner``. Otherwise it is a plain layer or block, up to the place where its residual
    form adds the shortcut.
    """
    learners = [
        m.norm if m.variant == "sum_outer" else m.activation for m in network.modules() if isinstance(m, PnnhLayer)
    ]
    plain = [m.branch for m in network.modules() if isinstance(m, PlainBranch)]
    for sequence in (m for m in network.modules() if isinstance(m, PlainSequence)):
        for index, name in enumerate(sequence._modules):
            if name in sequence.ends:
                # A rectifier of timm's ResNets is called act…, and the shortcut is added before the last one.
                plain.append(sequence[index - name.startswith("act")])
    return learners or plain


def _plain_layers(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are those of plain and PNNH layers."""
    layers: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, PlainSequence):
            layers += [module.get_submodule(name) for name in module.ends]
        elif isinstance(module, PlainBranch | PnnhLayer) or _is_downsampling(module):
            layers.append(module)
    return layers


def _is_downsampling(module: nn.Module) -> bool:
    """Whether a module is a down-sampling layer between PNNH layers; a stem is a ConvNormRelu without stride."""
    return isinstance(module, ConvNormRelu) and module.conv.stride[0] > 1


def data_and_noise(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The examples, ``data``, and as many examples of ``noise``, both of shape (n, …)."""
    return {"data": x, "noise": noise_like(x)}


def noise_like(x: torch.Tensor) -> torch.Tensor:
    """Independent Gaussian noise for each pixel, with its mean and variance over the examples ``x``.

    Integers are indices, such as tokens: the values at each position are permuted over the examples, so positions are
    independent and every value occurs as often as before. The noise is a function of ``x`` only, so every network gets
    the same.
    """
    if not x.is_floating_point():
        numbers = np.broadcast_to(np.arange(len(x)).reshape(-1, *[1] * (x.dim() - 1)), x.shape)
        order = rng.generator(0, "probe/noise").permuted(numbers, axis=0)
        return x.gather(0, torch.from_numpy(order).to(x.device))
    noise = torch.from_numpy(rng.generator(0, "probe/noise").standard_normal(x.shape)).to(x.device)
    examples = x.double()  # in float32 a constant pixel could have a variance above 0
    return (examples.mean(0) + examples.std(0, correction=0) * noise).to(x.dtype)
