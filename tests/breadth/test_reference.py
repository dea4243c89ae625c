"""The reference itself, on blocks that are written down once more without their branches."""

import copy

import pytest
import torch
from torch import nn

from tests.breadth import blocks
from tests.breadth.blocks import WIDTH, Block
from tests.breadth.reference import Reference, loss, run

KINDS = [kind for kind in vars(blocks).values() if isinstance(kind, type) and issubclass(kind, Block) and kind.owners]
BRANCHES = [(kind, branch) for kind in KINDS for branch in kind.owners]
every_branch = pytest.mark.parametrize(("kind", "branch"), BRANCHES, ids=lambda v: getattr(v, "__name__", v))


class Network(nn.Module):
    """A block between two layers."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(WIDTH, WIDTH), block, nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


class Cut(Network):
    """The same network with the hand-written block."""

    out: set[str]

    def forward(self, x):
        return self.head(self.block.cut(self.stem(x), self.out))


def network(kind: type[Block]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return Network(kind()), {"x": torch.randn(6, WIDTH)}


def by_hand(model: nn.Module, *out: str) -> nn.Module:
    cut = copy.deepcopy(model)
    cut.__class__, cut.out = Cut, set(out)
    return cut


def owned(model: nn.Module, branch: str) -> set[str]:
    starts = tuple(f"block.{start}" for start in model.block.owners[branch])
    return {name for name, _ in model.named_parameters() if name.startswith(starts)}


def found(reference: Reference, model: nn.Module, branch: str):
    """The one addition whose branch owns these parameters."""
    every = [*reference.skips, *reference.joins]
    skips = [s for s in every if s.owned == owned(model, branch) and s.call is None]
    assert len(skips) == 1
    return skips[0]


def assert_same(result, expected) -> None:
    torch.testing.assert_close(result.outputs, expected.outputs)
    assert result.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        assert (result.gradients[name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(result.gradients[name], gradient, msg=lambda m, name=name: f"{name}: {m}")


@every_branch
class TestBranch:
    def test_without_it_outputs_and_gradients_are_those_of_the_block_written_without_it(self, kind, branch):
        model, inputs = network(kind)
        expected = run(by_hand(model, branch), inputs)
        reference = Reference(model, inputs)
        result = reference.run({found(reference, model, branch): 0.0})
        assert_same(result, expected)
        assert not torch.allclose(result.outputs[0], run(model, inputs).outputs[0])

    def test_it_owns_the_parameters_whose_gradient_vanishes_without_it(self, kind, branch):
        model, inputs = network(kind)
        skip = found(Reference(model, inputs), model, branch)
        full, without = run(model, inputs).gradients, run(by_hand(model, branch), inputs).gradients
        assert skip.owned == skip.inside == {n for n in full if full[n] is not None and without[n] is None}

    def test_it_is_an_identity_skip_unless_its_shortcut_has_weights(self, kind, branch):
        model, inputs = network(kind)
        reference = Reference(model, inputs)
        skip = found(reference, model, branch)
        assert skip.identity == (kind is not blocks.Projected)
        assert (skip in reference.skips) == skip.identity


@pytest.mark.parametrize("kind", KINDS)
class TestModel:
    def test_the_skips_are_those_of_the_block_and_no_others(self, kind):
        model, inputs = network(kind)
        names = {frozenset(owned(model, branch)) for branch in kind.owners} if kind is not blocks.Projected else set()
        assert {s.owned for s in Reference(model, inputs).skips} == names

    def test_watching_changes_nothing(self, kind):
        model, inputs = network(kind)
        before = run(copy.deepcopy(model), inputs)
        reference = Reference(model, inputs)
        for result in (reference.run(), run(model, inputs)):
            assert_same(result, before)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", [blocks.Simple, blocks.Scaled, blocks.PostNorm, blocks.SharedInPlaceReLU])
def test_a_factor_multiplies_the_branch(kind):
    model, inputs = network(kind)
    reference = Reference(model, inputs)
    scaled = copy.deepcopy(model)
    last = [m for m in scaled.block.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(3)
    result = reference.run({reference.skips[0]: 3.0})
    torch.testing.assert_close(result.outputs, run(scaled, inputs).outputs)


def test_a_branch_of_a_block_that_is_called_twice_can_be_cut_out_of_one_call():
    model, inputs = network(blocks.CalledTwice)
    reference = Reference(model, inputs)
    first, second = (next(s for s in reference.joins if s.call == number) for number in (0, 1))
    inner, x = model.block.inner, model.stem(inputs["x"])
    for skip, y in ((first, inner(torch.tanh(x))), (second, torch.tanh(inner(x)))):
        torch.testing.assert_close(reference.run({skip: 0.0}).outputs[0], model.head(y).detach())
        assert skip.owned == set()


def test_sums_of_a_plain_block_are_no_identity_skips():
    model, inputs = network(blocks.Plain)
    assert Reference(model, inputs).skips == []


def test_what_only_a_branch_reads_from_elsewhere_lies_outside_it():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(WIDTH, WIDTH)

        def forward(self, x, other):
            return x + self.f(x) * other

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.reads = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), Reads()

        def forward(self, x):
            return self.reads(self.one(x), self.two(x))

    (skip,) = Reference(Whole(), {"x": torch.randn(3, WIDTH)}).skips
    assert skip.owned == {"two.weight", "two.bias", "reads.f.weight", "reads.f.bias"}
    assert skip.inside == {"reads.f.weight", "reads.f.bias"}


def test_the_loss_is_not_constant_behind_a_normalisation():
    outputs = [nn.functional.layer_norm(torch.randn(4, WIDTH), (WIDTH,)) for _ in range(2)]
    assert abs(float(loss(outputs[:1]) - loss(outputs[1:]))) > 1e-3
