"""Operations of a step: kinds, floating-point operations and bytes equal closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.bench.engine import make_run
from rdp.bench.measuring import stepper
from rdp.bench.operations import KINDS, Operation, operations
from rdp.spec import Recipe
from rdp.training.optimizers import make_optimizer
from tests.bench.conditions import setting

BATCH, SIZE = 2, 4  # images, bytes of a number


def of_a_step(architecture: str, precision: str = "float32") -> list[Operation]:
    step = stepper(make_run(architecture, setting(batch_size=BATCH, precision=precision)), 1)
    step()  # makes the optimizer's state
    return operations(step)


def flops(done: list[Operation], kind: str) -> int:
    return sum(operation.flops for operation in done if operation.kind == kind)


@pytest.mark.parametrize(("architecture", "blocks"), [("resnet20", 3), ("resnet56", 9)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_those_of_a_resnet_step_are_its_closed_form(architecture: str, blocks: int, precision: str) -> None:
    done = of_a_step(architecture, precision)
    first = 3 * 16 * 9 * 32**2
    stages = [(16, 16, 32), (16, 32, 16), (32, 64, 8)]
    forward = first + sum(
        9 * side**2 * (before * width + (2 * blocks - 1) * width**2) for before, width, side in stages
    )
    # Forward, gradients of weights and of inputs, but for the images' gradient; a multiply-add is two operations.
    assert flops(done, "convolution") == 2 * BATCH * (3 * forward - first)
    assert flops(done, "matmul") == 2 * BATCH * 3 * 64 * 10
    assert {one.precision for one in done if one.flops} == {precision}
    assert sum(one.name == "aten::convolution" for one in done) == 6 * blocks + 1


def test_those_of_a_transformer_step_are_its_closed_form() -> None:
    done = of_a_step("vit_tiny")
    width, depth, tokens = 192, 12, 64
    patches = tokens * 4 * 4 * 3 * width
    linear = depth * 12 * tokens * width**2  # query, key, value and output, and an MLP four times as wide
    scores = depth * tokens**2 * width  # as many multiply-adds as the weighted sum of the values
    attention = (2 + 5) * scores  # the backward pass computes the scores again
    assert flops(done, "convolution") == 2 * BATCH * 2 * patches
    assert flops(done, "matmul") == 2 * BATCH * (3 * linear + attention + 3 * width * 10)


def test_each_kind_occurs_in_a_step() -> None:
    assert set(KINDS) <= {operation.kind for operation in of_a_step("resnet20")}
    assert {operation.kind for operation in of_a_step("vit_tiny") if "layer_norm" in operation.name} == {"norm"}


X, Y = torch.ones(8, 100), torch.ones(8, 100)
WHOLE = X.numel() * SIZE


@pytest.mark.parametrize(
    ("work", "kind", "moved", "working_set"),
    [
        (lambda: F.relu(X), "elementwise", 2 * WHOLE, 2 * WHOLE),
        (lambda: F.relu_(X), "elementwise", 2 * WHOLE, WHOLE),
        (lambda: X + Y, "elementwise", 3 * WHOLE, 3 * WHOLE),
        (lambda: X[:, :1].expand(8, 100) + Y, "elementwise", 3 * WHOLE, 3 * WHOLE),
        (lambda: torch.ones(100).expand(8, 100) + Y, "elementwise", 2 * WHOLE + 400, 2 * WHOLE + 400),
        (lambda: X.to(torch.bfloat16), "elementwise", WHOLE + WHOLE // 2, WHOLE + WHOLE // 2),
        (lambda: X @ torch.ones(100, 10), "matmul", WHOLE + 4000 + 320, WHOLE + 4000 + 320),
        (lambda: F.layer_norm(X, (100,)), "norm", 2 * WHOLE + 64, 2 * WHOLE + 64),  # and mean and deviation of a row
    ],
)
def test_bytes_are_those_of_what_is_read_and_written(work, kind: str, moved: int, working_set: int) -> None:
    found = [operation for operation in operations(work) if operation.kind != "other"]
    assert [(one.kind, one.moved, one.working_set) for one in found] == [(kind, moved, working_set)]


@pytest.mark.parametrize(("name", "read", "written"), [("sgd", 3, 2), ("adamw", 4, 3)])
def test_an_optimizer_writes_parameters_and_state_but_not_gradients(name: str, read: int, written: int) -> None:
    network = nn.Linear(100, 100, bias=False)
    optimizer = make_optimizer(network, Recipe(optimizer=name))
    for _ in range(2):
        network.weight.grad = torch.ones_like(network.weight)
        done = operations(lambda: optimizer.step(0.1))
    (fused,) = [operation for operation in done if "fused" in operation.name]
    size = network.weight.numel() * SIZE
    assert fused.kind == "optimizer"
    assert 0 <= fused.moved - (read + written) * size < 64  # AdamW counts its steps too
    assert fused.working_set - read * size < 64


def test_views_and_allocation_move_nothing() -> None:
    done = operations(lambda: torch.empty(10, 10).view(100)[:50].reshape(5, 10).t())
    assert done
    assert {(operation.kind, operation.moved, operation.flops) for operation in done} == {("other", 0, 0)}
