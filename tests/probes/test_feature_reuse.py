"""Feature reuse: which branches are compared, and with what."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rdp
from rdp.models.families.mlp import Layer
from rdp.models.gates import GatedBranch
from rdp.models.units import Units
from rdp.probes import Subject, available, probe_module
from rdp.probes.cka import minibatch_cka
from rdp.probes.measures.feature_reuse import branch_outputs, measure
from tests.helpers.reuse import values
from tests.helpers.tiny import gaussian

NETWORKS = [
    ("mlp8", "residual", {}),
    ("resnet20", "residual", {}),
    ("vit_micro", "residual", {}),
    ("mlp8", "plain", {}),
    ("resnet20", "plain", {}),
    ("vit_micro", "plain", {}),
    ("mlp8", "pnnh", {"variant": "concat"}),
    ("resnet20", "pnnh", {"variant": "sum"}),
    ("vit_micro", "pnnh", {"variant": "concat"}),
]
every_network = pytest.mark.parametrize(
    ("name", "path", "options"), NETWORKS, ids=[" ".join([n, p, *o.values()]) for n, p, o in NETWORKS]
)
small_networks = pytest.mark.parametrize(
    ("name", "path", "options"),
    [("mlp8", "residual", {}), ("resnet20", "plain", {}), ("mlp8", "pnnh", {"variant": "sum"})],
)


def layer() -> GatedBranch:
    """Four wide, its branch not 0 anywhere."""
    made = GatedBranch(Layer(4, 1.0))
    with torch.no_grad():
        made.branch.linear.weight.copy_(gaussian(4, 4))
        made.branch.norm.bias.fill_(5)
    return made


def state(network: nn.Module) -> list:
    """All that a probe could leave changed."""
    gates = [vars(m.gate).copy() for m in network.modules() if isinstance(m, GatedBranch)]
    modules = [(type(m), m.training, len(m._forward_hooks), getattr(m, "inplace", None)) for m in network.modules()]
    return [gates, modules, [p.requires_grad for p in network.parameters()], [p.grad for p in network.parameters()]]


class TestMeasure:
    def test_is_a_probe_by_name(self):
        assert "feature_reuse" in available()
        assert probe_module("feature_reuse").measure is measure

    @every_network
    @pytest.mark.parametrize("training", [False, True])
    def test_keeps_the_network_unchanged(self, name, path, options, training, subject, make_network):
        measured = subject(name, path, size=8, **options)
        network, other = measured.network.train(training), make_network(name, path, seed=1, **options)
        next(network.parameters()).requires_grad_(False)
        copies = copy.deepcopy([network.state_dict(), other.state_dict()])
        before = [state(network), state(other)]
        measure(Subject(network, measured.x, measured.y, other))
        assert [state(network), state(other)] == before
        for module, kept in zip((network, other), copies, strict=True):
            assert all(torch.equal(kept[key], value) for key, value in module.state_dict().items())

    @pytest.mark.parametrize("name", ["mlp8", "resnet20", "vit_micro"])
    def test_measures_the_whole_network_whatever_its_gates_are_set_to(self, name, subject):
        measured = subject(name, size=8)
        expected = measure(measured)
        gates = [gate for gates in Units(measured.network).gates for gate in gates]
        for gate in gates:
            gate.active = False
        assert measure(measured) == expected
        assert not any(gate.active for gate in gates)

    def test_pools_images_to_the_smallest_resolution(self, subject):
        measured = subject("resnet20")
        pooled = [
            F.avg_pool2d(branch.output, branch.output.shape[-1] // 2).flatten(1)
            for branch in branch_outputs(measured.network, measured.x)
        ]
        expected = minibatch_cka(pooled, pooled)
        found = values(measure(measured), "cka")
        assert set(found) == {(i, j) for i in range(1, 10) for j in range(i + 1, 10)}
        for (i, j), value in found.items():
            assert value == pytest.approx(expected[i - 1, j - 1], rel=1e-6)

    def test_compares_tokens_place_by_place(self, subject):
        measured = subject("vit_micro")
        first, second = (b.output.flatten(1) for b in branch_outputs(measured.network, measured.x)[1:3])
        assert first.shape == (64, 16 * 48)
        found = values(measure(measured), "cka")[2, 3]
        assert found == pytest.approx(minibatch_cka([first], [second])[0, 0], rel=1e-6)

    @small_networks
    def test_redundancy_is_the_mean_over_branches_apart(self, name, path, options, subject):
        rows = measure(subject(name, path, size=16, **options))
        apart = [value for (i, j), value in values(rows, "cka").items() if j - i >= 2]
        assert values(rows, "redundancy")[0, 0] == pytest.approx(np.mean(apart), rel=1e-9)

    def test_redundancy_is_unknown_without_branches_apart(self):
        layers = [layer() for _ in range(2)]
        x, y = gaussian(16, 4), torch.zeros(16, dtype=torch.long)
        rows = measure(Subject(nn.Sequential(*layers), x, y, nn.Sequential(*layers)))
        assert np.isnan(values(rows, "redundancy")[0, 0])
        assert np.isnan(values(rows, "redundancy_independent")[0, 0])

    def test_redundancy_leaves_out_branches_that_say_nothing(self, make_network, make_batch):
        network = make_network("mlp8")
        network[2][2].branch.norm.weight.data.zero_()
        x, y = make_batch("mlp8", 64)
        rows = measure(Subject(network, x, y))
        found = values(rows, "cka")
        assert {pair for pair, value in found.items() if np.isnan(value)} == {pair for pair in found if 3 in pair}
        apart = [value for (i, j), value in found.items() if j - i >= 2 and 3 not in (i, j)]
        assert values(rows, "redundancy")[0, 0] == pytest.approx(np.mean(apart), rel=1e-9)
        assert values(rows, "branch_to_stream")[3, 0] == 0

    def test_redundancy_is_unknown_where_all_branches_start_at_0(self, make_network, make_batch):
        rows = measure(Subject(make_network("mlp8", norm_gain=0.0), *make_batch("mlp8")))
        assert np.isnan(list(values(rows, "cka").values())).all()
        assert np.isnan(values(rows, "redundancy")[0, 0])

    @small_networks
    def test_compares_with_an_independent_network_where_there_is_one(self, name, path, options, subject, make_network):
        alone = subject(name, path, size=16, **options)
        both = Subject(alone.network, alone.x, alone.y, make_network(name, path, seed=1, **options))
        extra = {"cka_independent", "redundancy_independent"}
        rows, more = measure(alone), measure(both)
        assert not extra & {row["quantity"] for row in rows}
        assert [row for row in more if row["quantity"] not in extra] == rows
        found = values(more, "cka_independent")
        count = max(i for i, _ in found)
        assert set(found) == {(i + 1, j + 1) for i, j in np.ndindex(count, count)}
        apart = [value for (i, j), value in found.items() if abs(i - j) >= 2]
        assert values(more, "redundancy_independent")[0, 0] == pytest.approx(np.mean(apart), rel=1e-9)

    def test_layer_is_of_the_network_and_other_of_the_other_network(self, make_network, make_batch):
        x, y = make_batch("mlp8", 64)
        network, other = make_network("mlp8"), make_network("mlp8", seed=1)
        outputs = [[b.output for b in branch_outputs(n, x)] for n in (network, other)]
        found = values(measure(Subject(network, x, y, other)), "cka_independent")
        assert found[2, 7] == pytest.approx(minibatch_cka([outputs[0][1]], [outputs[1][6]])[0, 0], rel=1e-6)
        assert found[2, 7] != pytest.approx(found[7, 2], rel=1e-3)

    @pytest.mark.parametrize("name", ["mlp8", "resnet20"])
    def test_the_network_itself_is_no_independent_one(self, name, subject):
        alone = subject(name)
        rows = measure(Subject(alone.network, alone.x, alone.y, alone.network))
        found, within = values(rows, "cka_independent"), values(rows, "cka")
        assert all(found[i, i] == pytest.approx(1, abs=1e-9) for i, _ in found)
        assert all(found[pair] == pytest.approx(value, abs=1e-9) for pair, value in within.items())

    def test_similarity_does_not_read_running_statistics(self, subject, make_network):
        measured = subject("resnet20")
        fresh = Subject(make_network("resnet20"), measured.x, measured.y)
        similar = {"cka", "redundancy", "branch_to_stream"}
        assert [r for r in measure(fresh) if r["quantity"] in similar] == [
            r for r in measure(measured) if r["quantity"] in similar
        ]

    def test_branch_to_stream_is_the_mean_over_examples_with_a_stream(self):
        network = nn.Sequential(layer())
        x = gaussian(32, 4)
        x[::4] = 0
        rows = measure(Subject(network, x, torch.zeros(32, dtype=torch.long)))
        with torch.no_grad():
            ratio = network[0].branch.train()(x).norm(dim=1) / x.norm(dim=1)
        assert torch.equal(ratio.isinf(), torch.arange(32) % 4 == 0)
        expected = ratio[x.any(1)].mean().item()
        assert values(rows, "branch_to_stream") == {(1, 0): pytest.approx(expected, rel=1e-6)}

    def test_branch_to_stream_is_unknown_without_a_stream(self):
        rows = measure(Subject(nn.Sequential(layer()), torch.zeros(8, 4), torch.zeros(8, dtype=torch.long)))
        assert np.isnan(values(rows, "branch_to_stream")[1, 0])

    @every_network
    def test_streams_and_lesions_are_of_residual_networks_only(self, name, path, options, subject):
        rows = measure(subject(name, path, size=8, **options))
        assert all(set(row) == {"quantity", "layer", "other", "value"} for row in rows)
        assert all(type(row["layer"]) is type(row["other"]) is int and type(row["value"]) is float for row in rows)
        found = {row["quantity"] for row in rows}
        residual = {"branch_to_stream", "lesion", "lesion_last"} if path == "residual" else set()
        assert found == {"cka", "redundancy"} | residual

    def test_reads_tokens(self):
        torch.manual_seed(0)
        body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        network, tokens = nn.Sequential(nn.Embedding(10, 8), body), torch.arange(40).reshape(8, 5) % 10
        with torch.no_grad():
            embedded = network[0](tokens)
        assert rdp.probe("feature_reuse", network, tokens) == rdp.probe("feature_reuse", body, embedded)
