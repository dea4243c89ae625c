"""ResidualDroppath written once more, in plain torch and without this project's code, and sharpness-aware minimization.

Only the masks are taken from the schedule.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rdp
from tests.helpers.tiny import TINY, set_factors

VIT = TINY["vit"]
DEPTH, HEADS, PATCH = 3, 2, 4
RATE, LEARNING_RATE, MOMENTUM, DECAY = 0.3, 0.05, 0.9, 0.1
Weights = dict[str, torch.Tensor]


def attention(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = x.shape
    mixed = x @ w[f"{name}.qkv.weight"].T + w[f"{name}.qkv.bias"]
    q, k, v = mixed.view(batch, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
    weights = ((q @ k.transpose(-2, -1)) * (width // HEADS) ** -0.5).softmax(-1)
    read = (weights @ v).transpose(1, 2).reshape(batch, tokens, width)
    return read @ w[f"{name}.proj.weight"].T + w[f"{name}.proj.bias"]


def mlp(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    hidden = F.gelu(x @ w[f"{name}.fc1.weight"].T + w[f"{name}.fc1.bias"])
    return hidden @ w[f"{name}.fc2.weight"].T + w[f"{name}.fc2.bias"]


def norm(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def logits(w: Weights, images: torch.Tensor, factors: list[float]) -> torch.Tensor:
    """A vision transformer whose branches are multiplied by factors, and left out where they are 0."""
    x = F.conv2d(images, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    for number, factor in enumerate(factors):
        block = f"blocks.{number // 2}"
        if factor and number % 2 == 0:
            x = x + factor * attention(w, f"{block}.attn", norm(w, f"{block}.norm1", x))
        elif factor:
            x = x + factor * mlp(w, f"{block}.mlp", norm(w, f"{block}.norm2", x))
    return norm(w, "norm", x)[:, 0] @ w["head.weight"].T + w["head.bias"]


def unit(name: str) -> int | None:
    """The branch that a weight belongs to, or None."""
    parts = name.split(".")
    return 2 * int(parts[1]) + (parts[2] in {"norm2", "mlp"}) if parts[0] == "blocks" else None


class Independent:
    """ResidualDroppath with stochastic gradient descent, momentum and weight decay."""

    def __init__(self, weights: Weights, scaled: bool) -> None:
        self.scaled = scaled
        self.weights = {name: value.detach().clone() for name, value in weights.items()}
        self.momenta: Weights = {}

    def step(self, images: torch.Tensor, labels: torch.Tensor, dropped: set[int], *, recover: bool) -> float:
        rates = [RATE * number / (2 * DEPTH - 1) for number in range(2 * DEPTH)]  # linear in depth
        kept = [1 / (1 - rate) if self.scaled and not recover else 1.0 for rate in rates]
        factors = [0.0 if i in dropped and not recover else factor for i, factor in enumerate(kept)]
        trained = {
            name: value.requires_grad_()
            for name, value in self.weights.items()
            if (unit(name) in dropped if recover else unit(name) not in dropped)
        }
        loss = -logits(self.weights, images, factors).log_softmax(1).gather(1, labels[:, None]).mean()
        gradients = torch.autograd.grad(loss, list(trained.values()))
        for (name, value), gradient in zip(trained.items(), gradients, strict=True):
            update = gradient + DECAY * value.detach()
            self.momenta[name] = MOMENTUM * self.momenta[name] + update if name in self.momenta else update
            self.weights[name] = value.detach() - LEARNING_RATE * self.momenta[name]
        self.weights = {name: value.detach() for name, value in self.weights.items()}
        return loss.item()


# With scaling, the factors of the schedule are single precision: 1 / (1 - rate) up to 6e-8.
@pytest.mark.parametrize(("scaling", "bound"), [("keep", 7e-8), ("none", 1e-14)])
def test_it_is_an_independent_implementation_up_to_rounding(scaling, bound):
    network = VIT.build().double()
    independent = Independent(dict(network.named_parameters()), scaling == "keep")
    schedule = rdp.ResidualDropPath(network, RATE, scaling=scaling, seed=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    dropped: set[int] = set()
    for step in range(12):
        x, y = VIT.batch(seed=step)
        with schedule.iteration(step) as planned:
            loss = F.cross_entropy(network(x.double()), y)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 2 == 0:
            dropped = {i for i, active in enumerate(planned.active) if not active}
            assert dropped
        expected = independent.step(x.double(), y, dropped, recover=step % 2 == 1)
        assert loss.item() == pytest.approx(expected, rel=bound)
        for name, parameter in network.named_parameters():
            assert (parameter - independent.weights[name]).abs().max() < bound, name


def sharpness_aware_step(network: nn.Module, optimizer: torch.optim.Optimizer, x, y, rho: float = 0.05) -> None:
    """A step from the gradient at the worst point nearby (arXiv 2010.01412): two forward and backward passes."""
    F.cross_entropy(network(x), y).backward()
    climbing = [p for p in network.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in climbing]).norm()
    kept = [p.detach().clone() for p in climbing]
    with torch.no_grad():
        for parameter in climbing:
            parameter.add_(parameter.grad * rho / (norm + 1e-12))
    optimizer.zero_grad()
    F.cross_entropy(network(x), y).backward()
    with torch.no_grad():
        for parameter, value in zip(climbing, kept, strict=True):
            parameter.copy_(value)
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_sharpness_aware_minimization_is_that_of_cut_and_frozen_models(name):
    tiny = TINY[name]
    network = tiny.build()
    reference = tiny.by_hand(network)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.05, momentum=0.9) for n in (network, reference)]
    schedule = rdp.ResidualDropPath(network, 0.5, schedule="uniform", seed=1)
    for step in range(6):
        x, y = tiny.batch(seed=step)
        with schedule.iteration(step) as planned:
            sharpness_aware_step(network, optimizers[0], x, y)
        trained = {unit for unit, is_trained in zip(tiny.units, planned.trained, strict=True) if is_trained}
        if planned.rest_trained:
            trained.add(None)
        kept = 2.0 if planned.kind == "drop" else 1.0
        active = planned.active if planned.kind == "drop" else [True] * len(tiny.units)
        set_factors(reference, [kept * is_active for is_active in active])
        for key, parameter in reference.named_parameters():
            parameter.requires_grad_(tiny.owner(key) in trained)
        sharpness_aware_step(reference, optimizers[1], x, y)
        for one, other in zip(network.state_dict().values(), reference.state_dict().values(), strict=True):
            assert torch.equal(one, other)
