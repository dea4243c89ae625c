"""Feature reuse: whether the branches of a network repeat each other, and what is lost without them.

Figure 1 of arXiv 2411.09475 shows a residual model that produces similar features through many layers. Similarity
here is unbiased linear CKA; its reference is the same layers of an independently trained network. A permutation of
the examples would be none: against it any two layers of one network are similar.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rdp.methods.iteration import Iteration
from rdp.models.units import Units
from rdp.probes import Subject
from rdp.probes.cka import minibatch_cka
from rdp.probes.layers import copied, unjoined_branches

MEASURES = "residual branches, plain blocks and PNNH learners, or the outputs of the modules that layers=[...] names"
COLUMNS = ("quantity", "layer", "other", "value")
APART = 2  # neighbours are left out of the redundancy: each reads the other's output all but unchanged
LESIONS = 12  # at most so many numbers of last units are deleted


@dataclass(frozen=True)
class BranchOutput:
    """What one branch adds to a network for some examples.

    Attributes:
        output: of the branch, shape (n, …).
        share: its norm over the shortcut's, example by example, shape (n,); nan where the shortcut is 0. None in
            a network without shortcuts.
    """

    output: torch.Tensor
    share: torch.Tensor | None = None


@torch.no_grad()
def measure(subject: Subject) -> list[dict[str, Any]]:
    """Similarity of a network's branches, their size beside the stream, and the accuracy without them.

    Returns:
        One mapping a number: ``quantity``, ``layer`` (of the forward pass, from 1), ``other`` and ``value``; layer
        and other are 0 where they say nothing. None for a network without branches. The quantities:

        ``cka``                     of the outputs of the branches ``layer`` < ``other``, at most 1, see
                                    `rdp.probes.cka`; nan where one does not depend on the example.
        ``redundancy``              the mean of ``cka`` over branches at least two apart; nan if there are none.
        ``cka_independent``         of branch ``layer`` and branch ``other`` of the subject's other network.
        ``redundancy_independent``  the mean of that over branches at least two apart.
        ``branch_to_stream``        the norm of the branch's output over that of its shortcut, mean over examples.
        ``lesion``                  accuracy (a share) in evaluation mode without the unit ``layer``.
        ``lesion_last``             accuracy without the last ``layer`` units: from 0 (the intact network) to all.

        The last three are of residual networks only, the lesions of trained ones, and the independent quantities of
        subjects with another network.

    Raises:
        UserError: a block into which no gates can be put.
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
        if branch.share is not None:
            known = branch.share[~branch.share.isnan()]
            rows.append(_row("branch_to_stream", i + 1, 0, known.mean()))
    return rows + (_lesions(subject) if subject.trained else [])


@torch.no_grad()
def branch_outputs(network: nn.Module, x: torch.Tensor, layers: Sequence[str] | None = None) -> list[BranchOutput]:
    """The outputs of a network's branches, in the order of its forward pass.

    A branch is that of a residual unit, else one of `unjoined_branches`. Normalisation uses the statistics of
    ``x``, as in training: an untrained network has no running ones. The network is left as it is.

    Args:
        network: any that `Units` takes, or a plain or PNNH one of this project.
        x: examples, shape (n, …).
        layers: the names of the modules whose outputs are meant, in place of those that are found.

    Returns:
        Nothing for a network without branches.

    Raises:
        UserError: a block into which no gates can be put.
    """
    found: list[BranchOutput] = []

    def join(shortcut: torch.Tensor, branch: Callable[..., torch.Tensor], inputs: tuple[Any, ...]) -> torch.Tensor:
        output = branch(*inputs)
        size, stream = _norms(output), _norms(shortcut)
        found.append(BranchOutput(output, torch.where(stream == 0, torch.nan, size / stream)))
        return shortcut + output

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        found.append(BranchOutput(output.clone()))  # a rectifier behind it may overwrite it

    network = copied(network, batch_statistics=True)
    if layers is None:
        units = Units(network, take_over=True)
        for gate in [gate for gates in units.gates for gate in gates]:
            gate.instead = join
        ends = [] if len(units) else unjoined_branches(network)
    else:
        ends = [network.get_submodule(name) for name in layers]
    for module in ends:
        module.register_forward_hook(keep)
    network(x)
    return found


def _norms(z: torch.Tensor) -> torch.Tensor:
    """The Euclidean norm of each example's part of ``z``, shape (n,)."""
    norms: torch.Tensor = torch.linalg.vector_norm(z.flatten(1).double(), dim=1)
    return norms


def _features(branches: list[BranchOutput]) -> list[torch.Tensor]:
    """One vector an example and branch, images pooled to the smallest resolution among them: (n, features) each."""
    sides = [branch.output.shape[2:] for branch in branches if branch.output.dim() == 4]
    common = tuple(min(side) for side in zip(*sides, strict=True))
    outputs = [branch.output.float() for branch in branches]
    return [(F.adaptive_avg_pool2d(z, common) if z.dim() == 4 else z).flatten(1) for z in outputs]


def _redundancy(cka: np.ndarray) -> float:
    """The mean similarity of branches at least `APART` apart, of those that have one; nan if there are none."""
    i, j = np.indices(cka.shape)
    apart = cka[(abs(i - j) >= APART) & ~np.isnan(cka)]
    return float(apart.mean()) if apart.size else np.nan


def _lesions(subject: Subject) -> list[dict[str, Any]]:
    """Accuracy without each unit, and without the last ones; nothing for a network without units."""
    network = deepcopy(subject.network).eval()
    units = Units(network, take_over=True)
    count = len(units)

    def accuracy(active: np.ndarray) -> float:
        units.apply(Iteration("lesion", active=active))
        return float((network(subject.x).argmax(1) == subject.y).double().mean())

    if not count:
        return []
    places = np.arange(count)
    numbers = np.unique(np.linspace(0, count, LESIONS).round().astype(int))
    rows = [_row("lesion", i + 1, 0, accuracy(places != i)) for i in range(count)]
    return rows + [_row("lesion_last", int(k), 0, accuracy(places < count - k)) for k in numbers]


def _row(quantity: str, layer: int, other: int, value: Any) -> dict[str, Any]:
    return {"quantity": quantity, "layer": int(layer), "other": int(other), "value": float(value)}
