"""Lesions: accuracy without units is that of networks cut by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.models.units import Units
from rdp.probes import Subject
from rdp.probes.measures.feature_reuse import measure
from tests.helpers.reuse import values

residual_networks = pytest.mark.parametrize("name", ["mlp8", "resnet20", "vit_micro"])


class Muted(nn.Module):
    """A branch that adds nothing."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x, **options):
        return 0 * self.branch(x, **options)


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return (network.eval()(x).argmax(1) == y).double().mean().item()


class TestLesions:
    @staticmethod
    def without(network: nn.Module, units: list[int]) -> nn.Module:
        """A copy in which those branches add nothing."""
        network = copy.deepcopy(network)
        if hasattr(network, "blocks"):
            places = [(block, part) for block in network.blocks for part in ("attn", "mlp")]
        else:
            places = [(module, "branch") for module in network.modules() if hasattr(module, "branch")]
        for owner, part in (places[i] for i in units):
            setattr(owner, part, Muted(getattr(owner, part)))
        return network

    @residual_networks
    def test_are_of_the_network_without_the_branch(self, name, subject):
        measured = subject(name)
        found = values(measure(measured), "lesion")
        count = len(Units(copy.deepcopy(measured.network)))
        expected = {
            (i + 1, 0): accuracy(self.without(measured.network, [i]), measured.x, measured.y) for i in range(count)
        }
        assert found == expected
        assert len(set(found.values())) > 2

    @residual_networks
    def test_of_the_last_units_are_of_the_network_without_those(self, name, subject):
        measured = subject(name)
        found = values(measure(measured), "lesion_last")
        count = len(Units(copy.deepcopy(measured.network)))
        assert len(found) == min(count + 1, 12)
        for (k, other), value in found.items():
            assert other == 0
            cut = self.without(measured.network, list(range(count - k, count)))
            assert value == accuracy(cut, measured.x, measured.y)
        assert found[0, 0] == accuracy(measured.network, measured.x, measured.y)
        assert found[0, 0] > 0.5 > found[count, 0]

    @pytest.mark.parametrize(("name", "body"), [("mlp8", "2"), ("vit_micro", "blocks")])
    def test_of_all_units_is_of_stem_and_head(self, name, body, subject):
        measured = subject(name)
        found = values(measure(measured), "lesion_last")
        reference = copy.deepcopy(measured.network)
        setattr(reference, body, nn.Sequential())
        assert found[max(found)] == accuracy(reference, measured.x, measured.y)

    def test_of_all_units_of_a_resnet_is_of_its_thinned_stem(self, subject):
        measured = subject("resnet20")
        stem, head = measured.network[0], measured.network[-1]
        with torch.no_grad():
            pooled = stem(measured.x)[:, :, ::4, ::4].mean((2, 3))
            logits = F.pad(pooled, (0, 48)) @ head.weight.T + head.bias
        expected = (logits.argmax(1) == measured.y).double().mean().item()
        assert values(measure(measured), "lesion_last")[9, 0] == expected

    def test_of_many_units_are_spread_evenly(self, subject):
        found = [k for k, _ in values(measure(subject("mlp32", size=8)), "lesion_last")]
        assert len(found) == 12
        assert (found[0], found[-1]) == (0, 32)
        assert set(np.diff(found)) <= {2, 3}

    def test_are_in_evaluation_mode(self, subject):
        measured = subject("resnet20")
        one = Subject(measured.network, measured.x[:4], measured.y[:4])
        assert values(measure(one), "lesion_last")[0, 0] == accuracy(measured.network, one.x, one.y)
