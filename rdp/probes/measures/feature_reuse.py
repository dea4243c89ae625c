"""Feature reuse: the similarity of a network's branches, and the accuracy without them.

Figure 1 of arXiv 2411.09475 shows a residual model that produces similar features through many layers. Similarity is
unbiased linear CKA. Its reference is the same layers of an independently trained network. A permutation of the examples
is not a useful reference, because any two layers of one network are more similar than that.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rdp.methods import Iteration
from rdp.models.units import Units
from rdp.probes import Subject
from rdp.probes.channels import channel_axes
from rdp.probes.cka import minibatch_cka
from rdp.probes.layers import branches_without_shortcut, evaluation_copy

MEASURES = "residual branches, plain blocks and PNNH learners, or the outputs of the modules that layers=[...] names"
COLUMNS = ("quantity", "layer", "other", "value")
APART = 2  # least distance in the redundancy: a branch reads its neighbour's output almost unchanged
LESIONS = 12  # points of the curve of deleted last units


@dataclass(frozen=True)
class BranchOutput:
    """One branch's output, shape (n, …), and its norm relative to the shortcut's, shape (n,): nan for 0, None without
    one. ``channel_axis`` is that of an image's channels.
    """

    output: torch.Tensor
    relative_norm: torch.Tensor | None = None
    channel_axis: int = 1


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Similarity of a network's branches, their norm relative to the stream, and the accuracy without them.

    Returns:
        One row per number; no rows for a network without branches. ``layer`` and ``other`` count branches from 1 in
        the order of the forward pass, and are 0 where they do not apply. The ``quantity`` with its ``value`` is one of

        ``cka``                     of the outputs of branches ``layer`` < ``other``, at most 1, see `rdp.probes.cka`;
                                    nan if one does not depend on the example.
        ``redundancy``              mean of ``cka`` over branches at least two apart; nan if there are none.
        ``cka_independent``         of branch ``layer``, and branch ``other`` of the subject's other network.
        ``redundancy_independent``  mean of ``cka_independent`` over branches at least two apart.
        ``branch_to_stream``        norm of the branch's output over that of its shortcut, mean over examples.
        ``lesion``                  accuracy (a fraction) in evaluation mode without unit ``layer``.
        ``lesion_last``             accuracy without the last ``layer`` units, from 0 (the intact network) to all.

        Only residual networks have the last three, only trained ones the lesions, and only subjects with another
        network the independent quantities.

    Raises:
        UserError: a block that cannot get gates.
        ValueError: fewer than 4 examples.
    """
    branches = branch_outputs(subject.network, subject.x, subject.layers)
    if not branches:
        return []
    features = _features(branches)
    cka = minibatch_cka(features, features)
    rows = [_row("cka", int(i) + 1, int(j) + 1, cka[i, j]) for i, j in zip(*np.triu_indices(len(cka), 1), strict=True)]
    rows.append(_row("redundancy", 0, 0, _redundancy(cka)))
    if subject.other is not None:
        across = minibatch_cka(features, _features(branch_outputs(subject.other, subject.x, subject.layers)))
        rows += [_row("cka_independent", i + 1, j + 1, value) for (i, j), value in np.ndenumerate(across)]
        rows.append(_row("redundancy_independent", 0, 0, _redundancy(across)))
    for i, branch in enumerate(branches):
        if branch.relative_norm is not None:
            rows.append(_row("branch_to_stream", i + 1, 0, branch.relative_norm.nanmean()))
    return rows + (_lesions(subject) if subject.trained else [])


@torch.no_grad()
def branch_outputs(network: nn.Module, x: torch.Tensor, layers: Sequence[str] | None = None) -> list[BranchOutput]:
    """The outputs of a network's branches, in the order of its forward pass; empty if it has none.

    Branches are those of residual units, or else `branches_without_shortcut`, or the modules named by ``layers``.
    Normalisation uses the statistics of ``x``, as in training, because an untrained network has no running statistics.
    """
    outputs: list[BranchOutput] = []

    def record(output: torch.Tensor, shortcut: torch.Tensor | None) -> None:
        if shortcut is None:
            outputs.append(BranchOutput(output.clone()))  # a rectifier after it may overwrite it
            return
        norm, stream = _norms(output), _norms(shortcut)
        outputs.append(BranchOutput(output, torch.where(stream == 0, torch.nan, norm / stream)))

    measured = evaluation_copy(network, batch_statistics=True)
    attach = partial(_attach, layers=layers)
    attach(measured, record)
    measured(x)
    if not any(branch.output.dim() == 4 for branch in outputs):  # no images, whose pooling needs to know
        return outputs
    axes = channel_axes(network, x, attach)
    return [replace(branch, channel_axis=axis) for branch, axis in zip(outputs, axes, strict=True)]


def _attach(network: nn.Module, see: Callable[..., None], layers: Sequence[str] | None) -> None:
    """Make a network call ``see`` with the output of each branch, and its shortcut or None."""

    def join(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]) -> torch.Tensor:
        output = branch(*inputs)
        see(output, shortcut)
        return shortcut + output

    if layers is None:
        units = Units(network, take_over=True)
        for gate in [gate for gates in units.gates for gate in gates]:
            gate.override = join
        modules = [] if len(units) else branches_without_shortcut(network)
    else:
        modules = [network.get_submodule(name) for name in layers]
    for module in dict.fromkeys(modules):  # a block may have several places
        module.register_forward_hook(lambda module, inputs, output: see(output, None))


def _norms(z: torch.Tensor) -> torch.Tensor:
    """The Euclidean norm of each example, shape (n,)."""
    norms: torch.Tensor = torch.linalg.vector_norm(z.flatten(1).double(), dim=1)
    return norms


def _features(branches: list[BranchOutput]) -> list[torch.Tensor]:
    """One vector per example and branch, images pooled to the smallest resolution; shape (n, features) each."""
    outputs = [branch.output.float() for branch in branches]
    moved = [z.movedim(b.channel_axis, 1) if z.dim() == 4 else z for z, b in zip(outputs, branches, strict=True)]
    sides = [z.shape[2:] for z in moved if z.dim() == 4]
    common = tuple(min(side) for side in zip(*sides, strict=True))
    return [(F.adaptive_avg_pool2d(z, common) if z.dim() == 4 else z).flatten(1) for z in moved]


def _redundancy(cka: np.ndarray) -> float:
    """The mean similarity of branches at least `APART` apart, nan values left out; nan if there are none."""
    i, j = np.indices(cka.shape)
    apart = cka[(abs(i - j) >= APART) & ~np.isnan(cka)]
    return float(apart.mean()) if apart.size else np.nan


def _lesions(subject: Subject) -> list[dict[str, Any]]:
    """Accuracy without each unit, and without the last units; empty for a network without units."""
    network = deepcopy(subject.network).eval()
    units = Units(network, take_over=True)
    count = len(units)

    def accuracy(active: np.ndarray) -> float:
        units.apply(Iteration("lesion", active=active))
        return float((network(subject.x).argmax(1) == subject.y).double().mean())

    if not count:
        return []
    indices = np.arange(count)
    numbers = np.unique(np.linspace(0, count, LESIONS).round().astype(int))
    rows = [_row("lesion", i + 1, 0, accuracy(indices != i)) for i in range(count)]
    return rows + [_row("lesion_last", int(k), 0, accuracy(indices < count - k)) for k in numbers]


def _row(quantity: str, layer: int, other: int, value: Any) -> dict[str, Any]:
    return {"quantity": quantity, "layer": int(layer), "other": int(other), "value": float(value)}
