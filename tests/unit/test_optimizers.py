"""This project's optimizers beside torch's: the same bits, whatever is trained when."""

import pytest
import torch
from torch import nn

from rdp.optimizers import SGD, AdamW, Group, Optimizer

RATES = (0.1, 0.2, 0.05, 0.07, 0.01, 0.02)
DECAY, FACTOR = 0.03, 0.25


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    return layers.to(dtype, memory_format=torch.channels_last)


def backward(net: nn.Module, step: int, *, halves: bool) -> None:
    """Gradients of every parameter, or in odd steps of the convolution and norm alone, in even ones of the head."""
    dtype = next(net.parameters()).dtype
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(step)).to(dtype)
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(not halves or (i < 4) == bool(step % 2))
    net(x).square().mean().backward()


def split(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(net.parameters())
    return [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]


def ours(net: nn.Module, how: SGD | AdamW) -> Optimizer:
    kernels, rest = split(net)
    return Optimizer(how, [Group(kernels, 1.0, DECAY), Group(rest, FACTOR, 0.0)])


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", [SGD(0.9), SGD(0.0), AdamW()], ids=repr)
def test_it_is_torchs_to_the_last_bit(how, dtype, halves):
    mine, theirs = network(dtype), network(dtype)
    optimizer = ours(mine, how)
    kernels, rest = split(theirs)
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    if isinstance(how, SGD):
        reference = torch.optim.SGD(groups, lr=1.0, momentum=how.momentum, fused=True)
        if how.momentum:  # torch's fused step takes no mixture of parameters that have it and that never trained
            for parameter in theirs.parameters():
                reference.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    else:
        reference = torch.optim.AdamW(groups, lr=1.0, fused=True)
    for step, rate in enumerate(RATES):
        backward(mine, step, halves=halves)
        backward(theirs, step, halves=halves)
        optimizer.step(rate)
        for group, factor in zip(reference.param_groups, (1.0, FACTOR), strict=True):
            group["lr"] = rate * factor
        reference.step()
        reference.zero_grad()
    assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("how", [SGD, AdamW])
@pytest.mark.parametrize("halves", [False, True])
def test_a_state_that_was_kept_goes_on_to_the_same_bits(how, halves):
    make = (lambda: SGD(0.9)) if how is SGD else AdamW
    straight, first, second = network(), network(), network()
    one, two, three = ours(straight, make()), ours(first, make()), ours(second, make())
    for step, rate in enumerate(RATES):
        backward(straight, step, halves=halves)
        one.step(rate)
    for step, rate in enumerate(RATES):
        if step == 3:
            second.load_state_dict(first.state_dict())
            # A file keeps no layout.
            three.restore({name: tensor.clone().contiguous() for name, tensor in two.state().items()})
        net, optimizer = (first, two) if step < 3 else (second, three)
        backward(net, step, halves=halves)
        optimizer.step(rate)
    assert all(map(torch.equal, straight.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("how", [SGD(0.9), AdamW()], ids=repr)
def test_what_has_no_gradient_stays_and_has_no_state(how):
    net = network()
    head = list(net.parameters())[4:]
    before = [parameter.detach().clone() for parameter in head]
    optimizer = ours(net, how)
    backward(net, 1, halves=True)
    optimizer.step(0.1)
    assert all(map(torch.equal, before, head))
    assert set(how.state) == set(list(net.parameters())[:4])
    assert all(parameter.grad is None for parameter in net.parameters())
