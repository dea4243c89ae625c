"""The probes on models of other people, and on any by the names of its modules."""

import copy

import pandas as pd
import pytest
import torch
from torch import nn

import rdp
from rdp import probes
from rdp.errors import UserError
from rdp.models import branch_ends
from rdp.probes.measures.dissipating_inputs import participation_ratio
from tests.helpers.tiny import TINY, UserBlock, gaussian


def snapshot(model: nn.Module) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("kind", TINY)
def test_any_residual_model_is_measured_and_unchanged(kind, monkeypatch):
    monkeypatch.setitem(branch_ends._registered, f"{UserBlock.__module__}.UserBlock", ("last",))
    model = TINY[kind].build()
    before, classes = snapshot(model), [type(m) for m in model.modules()]
    x, y = TINY[kind].batch(6)
    reuse = pd.DataFrame(rdp.probe("feature_reuse", model, x, y))
    left = pd.DataFrame(rdp.probe("dissipating_inputs", model, x))
    alive = pd.DataFrame(rdp.probe("surviving_neurons", model, x))
    units = len(TINY[kind].units)
    assert (reuse["quantity"] == "lesion").sum() == units
    assert (reuse["quantity"] == "branch_to_stream").sum() == units
    assert left["layer"].max() == units
    assert alive["positive"].between(0, 1).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [type(m) for m in model.modules()] == classes


def test_the_accuracy_without_no_unit_is_the_models():
    model, (x, y) = TINY["vit"].build().eval(), TINY["vit"].batch(32)
    rows = pd.DataFrame(rdp.probe("feature_reuse", model, x, y)).set_index(["quantity", "layer"])["value"]
    assert rows["lesion_last", 0] == (model(x).argmax(1) == y).double().mean().item()


def test_without_labels_there_are_no_accuracies():
    model, (x, _) = TINY["vit"].build(), TINY["vit"].batch(8)
    assert {row["quantity"] for row in rdp.probe("feature_reuse", model, x)} == {
        "cka",
        "redundancy",
        "branch_to_stream",
    }


def test_another_model_gives_the_independent_similarity():
    model, (x, _) = TINY["vit"].build(), TINY["vit"].batch(8)
    rows = rdp.probe("feature_reuse", model, x, other=model)
    values = {(r["quantity"], r["layer"], r["other"]): r["value"] for r in rows}
    assert values["cka_independent", 1, 2] == pytest.approx(values["cka", 1, 2])
    assert values["cka_independent", 3, 3] == pytest.approx(1)


class Noisy(nn.Module):
    """A convolutional network without shortcuts, with dropout and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.act, self.second, self.head = nn.Tanh(), nn.Conv2d(6, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = self.second(self.drop(self.act(self.norm(self.first(x)))))
        return self.head(x.mean((2, 3)))


class TestNamedModules:
    def test_layers_are_the_outputs_of_the_modules(self):
        model, x = Noisy(), gaussian(12, 3, 8, 8)
        rows = pd.DataFrame(rdp.probe("dissipating_inputs", model, x, layers=["norm", "second"]))
        data = rows[(rows["source"] == "data") & (rows["quantity"] == "rank")].set_index("layer")["value"]
        assert list(data.index) == [0, 1, 2]
        normed = nn.functional.batch_norm(model.first(x), None, None, model.norm.weight, model.norm.bias, training=True)
        assert data[1] == pytest.approx(participation_ratio(normed.detach().flatten(1).double()), rel=1e-4)

    def test_rectifiers_are_the_inputs_of_the_modules(self):
        model, x = Noisy(), gaussian(12, 3, 8, 8)
        row = rdp.probe("surviving_neurons", model, x, layers=["norm"])[0]
        read = model.first(x)
        assert row["positive"] == (read > 0).double().mean().item()
        assert row["mean"] == pytest.approx(read.double().mean().item())

    def test_branches_are_the_outputs_of_the_modules(self):
        rows = rdp.probe("feature_reuse", Noisy(), gaussian(12, 3, 8, 8), layers=["first", "second"])
        assert [row["quantity"] for row in rows] == ["cka", "redundancy"]

    def test_dropout_is_off_so_that_twice_is_the_same(self):
        model, x = Noisy().train(), gaussian(12, 3, 8, 8)
        first, second = (rdp.probe("dissipating_inputs", model, x, layers=["drop", "second"]) for _ in range(2))
        assert first == second
        assert model.training

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(UserError, match="Noisy has no module 'third'"):
            rdp.probe("dissipating_inputs", Noisy(), gaussian(12, 3, 8, 8), layers=["third"])


@pytest.mark.parametrize("name", probes.available())
def test_a_model_with_nothing_to_measure_is_refused(name):
    with pytest.raises(UserError, match=f"probe {name}: found nothing to measure in Noisy; it measures \\w"):
        rdp.probe(name, Noisy(), gaussian(8, 3, 8, 8))


def test_too_few_examples_and_labels_of_another_shape_are_refused():
    model = TINY["vit"].build()
    with pytest.raises(UserError, match="needs at least 4 examples, got 3"):
        rdp.probe("surviving_neurons", model, gaussian(3, 3, 16, 16))
    with pytest.raises(UserError, match=r"expected labels of shape \(8,\), got \(8, 5\)"):
        rdp.probe("feature_reuse", model, gaussian(8, 3, 16, 16), torch.zeros(8, 5))


def test_a_model_in_training_with_a_schedule_is_measured_like_a_bare_one():
    model, (x, y) = TINY["vit"].build(), TINY["vit"].batch(8)
    expected = rdp.probe("feature_reuse", copy.deepcopy(model), x, y)
    with rdp.ResidualDropPath(model, rate=0.3):
        assert rdp.probe("feature_reuse", model, x, y) == expected
        assert rdp.probe("feature_reuse", nn.DataParallel(model), x, y) == expected


def test_channels_are_the_last_dimension_behind_a_linear_layer():
    """ConvNeXt's own pre-activations are (n, height, width, channels)."""
    model, x = TINY["convnext"].build(), gaussian(4, 3, 32, 32)
    block = model.stages[0].blocks[0]
    with torch.no_grad():
        block.mlp.fc1.weight[0], block.mlp.fc1.bias[0] = 0, -1  # of this channel none survives
    row = rdp.probe("surviving_neurons", model, x)[0]
    assert row["dead"] == 1 / len(block.mlp.fc1.bias)


def test_droppath_of_the_models_own_is_off():
    model, (x, _) = TINY["vit"].build(drop_path_rate=0.9), TINY["vit"].batch(8)
    model.train()
    first, second = (rdp.probe("surviving_neurons", model, x) for _ in range(2))
    assert first == second
