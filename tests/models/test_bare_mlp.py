"""Networks without normalisation compute what the closed forms of `rdp.claims.theory` speak of."""

import pytest
import torch
from torch import nn

from rdp.models.gates import GatedBranch, PlainBranch
from rdp.models.units import Units
from tests.helpers.tiny import gaussian

DEPTH, WIDTH = 8, 256


def test_plain_and_residual_ones_start_with_the_same_weights(make_network):
    residual, plain = (make_network("bare32", path, seed=3).state_dict() for path in ("residual", "plain"))
    assert residual.keys() == plain.keys()
    assert all(torch.equal(residual[key], plain[key]) for key in residual)


@pytest.mark.parametrize(
    ("path", "options"),
    [("plain", {}), ("residual", {}), ("pnnh", {"variant": "concat"}), ("pnnh", {"variant": "sum"})],
)
def test_they_have_no_norm_and_no_bias_between_stem_and_head(path, options, make_network):
    network = make_network("bare8", path, **options)
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in network.modules())
    assert {name for name, _ in network.named_parameters() if name.endswith("bias")} == {"1.bias", "3.bias"}


@pytest.mark.parametrize("path", ["plain", "residual"])
def test_they_compute_the_formula(path, make_network):
    network = make_network("bare8", path, input_shape=(1, 3, 3))
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    assert [tuple(weight.shape) for weight in weights] == [(WIDTH, 9), *[(WIDTH, WIDTH)] * DEPTH, (10, WIDTH)]
    images = gaussian(5, 1, 3, 3)
    x = images.flatten(1) @ weights[0].T
    for weight in weights[1:-1]:
        x = (x @ weight.T + (x if path == "residual" else 0)).clamp(min=0)
    torch.testing.assert_close(network(images), x @ weights[-1].T)


@pytest.mark.parametrize("variant", ["concat", "sum"])
def test_pnnh_ones_compute_theirs_from_the_identity(variant, make_network):
    body = make_network("bare8", "pnnh", variant=variant)[2]
    start = x = gaussian(5, WIDTH)
    for layer in body.layers:
        learnt = layer.learner(x).clamp(min=0)
        x = x + learnt if variant == "sum" else torch.cat([start[:, : WIDTH // 2], learnt], dim=1)
    torch.testing.assert_close(body(start), x)


def test_every_residual_layer_is_a_unit_to_drop(make_network):
    network = make_network("bare8")
    units = Units(network)
    assert len(units) == DEPTH
    assert all(len(group.parameters) == 1 for group in units.groups[:-1])
    x = gaussian(4, WIDTH)
    layer = network[2][3]
    units.gates[3][0].active = False
    assert isinstance(layer, GatedBranch)
    assert torch.equal(layer(x), x.relu())
    plain = make_network("bare8", "plain")
    assert len(Units(plain)) == 0
    assert all(isinstance(layer, PlainBranch) for layer in plain[2])
