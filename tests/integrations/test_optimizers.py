"""Optimizers of torch and timm: what an iteration freezes keeps its value, and all else moves."""

import pytest
import timm.optim
import torch
from timm.optim import create_optimizer_v2
from torch import nn
from torch.nn import functional as F

import rdp
from tests.helpers.tiny import TINY

VIT = TINY["vit"]
STEPS = 10
# torch's Muon takes matrices only, SparseAdam sparse gradients only, and LBFGS is refused by Schedule.attach.
TORCH = [
    *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "RAdam", "RMSprop"),
    *("Rprop", "SGD"),
]
WRAPPED = ["lookahead_adamw", "lookahead_sgd"]
# These need a GPU.
NAMES = [name for name in timm.optim.list_optimizers() if not name.startswith(("bnb", "fused"))]


def make(name: str, network: nn.Module) -> torch.optim.Optimizer:
    if name in TORCH:
        parameters = [p for p in network.parameters() if name != "Muon" or p.ndim == 2]
        return getattr(torch.optim, name)(parameters, lr=0.01)
    return create_optimizer_v2(network, opt=name, lr=0.01, weight_decay=0.1, momentum=0.9)


def test_there_are_as_many_as_said():
    assert len([*TORCH, *WRAPPED, *NAMES]) >= 84


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph=True")
@pytest.mark.parametrize("name", [*TORCH, *WRAPPED, *NAMES])
def test_frozen_weights_keep_their_values_and_others_move(name):
    network = VIT.build()
    for block in network.blocks:
        block.attn.fused_attn = False  # which has no second derivative, as AdaHessian needs
    optimizer, schedule = make(name, network), rdp.ResidualDropPath(network, 0.5)
    managed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    names = {key for key, p in network.named_parameters() if id(p) in managed}
    times = dict.fromkeys(names, 0)  # that a parameter moved
    for step in range(STEPS):
        x, y = VIT.batch(seed=step)
        before = {key: p.detach().clone() for key, p in network.named_parameters()}
        with schedule.iteration(step):
            trained = {key for key, p in network.named_parameters() if p.requires_grad}
            F.cross_entropy(network(x), y).backward(create_graph=name == "adahessian")
        optimizer.step()
        network.zero_grad()
        moved = {key for key, p in network.named_parameters() if not torch.equal(p, before[key])}
        assert moved <= trained & names
        for key in moved:
            times[key] += 1
    # Each is trained in every second step. ADOPT moves nothing at a parameter's first gradient, and cautious optimizers
    # leave out elements whose gradients have changed sign.
    assert min(times.values()) >= STEPS // 2 - 2
    assert max(times.values()) <= STEPS // 2
