"""The measurement itself: what it says of a schedule that is right, and of one with a single fault."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import rdp
from tests.breadth.blocks import WIDTH, Simple
from tests.breadth.contract import measure
from tests.breadth.findings import Case

BLOCKS = 4


class DropPath(nn.Module):
    """A droppath module of somebody, which drops whole batches."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop_prob = rate

    def forward(self, x):
        return x * (torch.rand(()) >= self.drop_prob) if self.training else x


class Dropped(Simple):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.drop = DropPath(rate)

    def forward(self, x):
        return x + self.drop(self.f(x))


class Residual(nn.Module):
    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.blocks = nn.Sequential(*(Dropped(rate) for _ in range(BLOCKS)))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


class Handmade:
    """A schedule for `Residual` with one fault, or none."""

    fault = ""

    def __init__(self, model: Residual, method, *, take_over: bool) -> None:
        if self.fault == "refuses":
            raise rdp.UserError("no residual branch was found")
        if self.fault == "raises":
            raise ZeroDivisionError
        self.model, self.method = model, method
        self.blocks = list(model.blocks)
        if self.fault in {"leaves one out", "says what it leaves out"}:
            self.blocks.pop()
        if self.fault == "says what it leaves out":
            warnings.warn(f"no unit for blocks.{BLOCKS - 1}", stacklevel=2)
        self.units = [f"blocks.{i}" for i in range(len(self.blocks))]
        self.rates = [block.drop.drop_prob for block in self.blocks]
        for block in self.blocks if self.fault != "lets droppath run" else ():
            block.drop.drop_prob = 0.0
        if self.fault == "adds a buffer":
            model.register_buffer("gates", torch.zeros(1))

    @contextmanager
    def iteration(self, step):
        planned = self.method.iteration(step, None)
        count = len(self.blocks)
        active = np.ones(count, bool) if planned.active is None else planned.active
        scale = np.ones(count) if planned.scale is None or self.fault == "ignores the scale" else planned.scale
        trained = np.ones(count, bool) if planned.trained is None else planned.trained
        if self.fault == "drops another":
            active = np.roll(active, 1)
        if self.fault == "drops none":
            active = np.ones(count, bool)
        for block, factor in zip(self.blocks, np.where(active, scale, 0).tolist(), strict=True):
            if factor != 1:
                block.forward = lambda x, f=block.f, factor=factor: x + factor * f(x) if factor else x
        own = {id(p): i for i, block in enumerate(self.blocks) for p in self.owned(block)}
        rest = planned.rest_trained or self.fault == "trains the rest"
        for parameter in self.model.parameters():
            unit = own.get(id(parameter))
            parameter.requires_grad_(rest if unit is None else bool(trained[unit]))
        if self.fault == "fails in training":
            raise ZeroDivisionError
        yield planned
        for block in self.blocks:
            vars(block).pop("forward", None)
        self.model.requires_grad_(True)

    def owned(self, block):
        parameters = list(block.parameters())
        return parameters[self.fault == "forgets a parameter" :] if self.fault != "owns nothing" else []

    def __exit__(self, *_):
        for block, rate in zip(self.blocks, self.rates, strict=True):
            block.drop.drop_prob = rate if self.fault != "forgets droppath" else 0.0
        if self.fault == "leaves a hook":
            self.model.register_forward_hook(lambda *_: None)
        if self.fault == "changes weights":
            with torch.no_grad():
                self.model.head.weight.add_(1)


@pytest.fixture
def find(monkeypatch):
    """What is found on the network with a hand-made schedule of this fault."""

    def found(fault: str = "", rate: float = 0.3):
        monkeypatch.setattr(rdp, "Schedule", type("Faulty", (Handmade,), {"fault": fault}))
        return measure(Case("residual", lambda: Residual(rate), lambda: {"x": torch.randn(5, WIDTH)}))

    return found


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_right_schedule_is_correct(find, rate):
    finding = find(rate=rate)
    assert (finding.verdict, finding.reason) == ("correct", "")
    assert (finding.skips, finding.covered, finding.units) == (BLOCKS, BLOCKS, BLOCKS)


@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        ("lets droppath run", "wrong", "full iteration: outputs off"),
        ("drops another", "wrong", "dropped: outputs off"),
        ("drops none", "wrong", "dropped: outputs off"),
        ("ignores the scale", "wrong", "the others times 2: outputs off"),
        ("forgets a parameter", "wrong", "owns 3 parameters where that branch has 4: without ['blocks.0.f.0.weight']"),
        ("owns nothing", "wrong", "owns 0 parameters where that branch has 4"),
        ("trains the rest", "wrong", "without [], with ['head.bias'"),
        ("forgets droppath", "wrong", "after close(): blocks.0.drop.drop_prob"),
        ("leaves a hook", "wrong", "after close(): ._forward_hooks"),
        ("changes weights", "wrong", "after close(): outputs off"),
        ("adds a buffer", "wrong", "changes the names in state_dict"),
        ("leaves one out", "in part, unsaid", ""),
        ("says what it leaves out", "in part, said", ""),
        ("raises", "crash", "when the schedule is made: ZeroDivisionError"),
        ("fails in training", "crash", "in a recover iteration: ZeroDivisionError"),
        ("refuses", "refused", "no residual branch was found"),
    ],
)
def test_a_fault_is_found_and_named(find, fault, verdict, reason):
    finding = find(fault, rate=0.0 if verdict.startswith("in part") else 0.9)
    assert finding.verdict == verdict
    assert reason in finding.reason
    assert finding.skips == BLOCKS


def test_a_model_without_skips_is_told_from_one_with_skips(find):
    assert find("refuses").residual_refusal
