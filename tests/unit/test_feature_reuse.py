"""Feature reuse: branches against hooks, lesions against networks cut by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rdp.models.gates import GatedBranch
from rdp.models.mlp import Layer, ResidualLayer
from rdp.models.paths import PnnhStack
from rdp.models.units import Units
from rdp.probes import Subject, available, probe
from rdp.probes.cka import minibatch_cka
from rdp.probes.feature_reuse import branch_outputs, measure
from tests.unit.tiny import gaussian

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
residual_networks = pytest.mark.parametrize("name", ["mlp8", "resnet20", "vit_micro"])


class Muted(nn.Module):
    """A branch that adds nothing."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x, **options):
        return 0 * self.branch(x, **options)


def layer() -> ResidualLayer:
    """Four wide, its branch not 0 anywhere."""
    made = ResidualLayer(Layer(4, 1.0))
    with torch.no_grad():
        made.branch.linear.weight.copy_(gaussian(4, 4))
        made.branch.norm.bias.fill_(5)
    return made


def state(network: nn.Module) -> list:
    """All that a probe could leave changed."""
    gates = [vars(m.gate).copy() for m in network.modules() if isinstance(m, GatedBranch)]
    modules = [(type(m), m.training, len(m._forward_hooks), getattr(m, "inplace", None)) for m in network.modules()]
    return [gates, modules, [p.requires_grad for p in network.parameters()], [p.grad for p in network.parameters()]]


def warmed_up(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """With running statistics that are not those of ``x``, in evaluation mode."""
    with torch.no_grad():
        for scale in (0.7, 1.5, 1.1):
            network.train()(scale * x + 0.2)
    return network.eval()


def hooked(network: nn.Module, modules: list[nn.Module], x: torch.Tensor) -> tuple[list, list]:
    """The first inputs and the outputs of modules of a network, in the order of its forward pass in training mode."""
    inputs, outputs = [], []

    def look(module, given, output):
        inputs.append(given[0].clone())
        outputs.append(output.clone())

    for module in modules:
        module.register_forward_hook(look)
    with torch.no_grad():
        network.train()(x)
    return inputs, outputs


def values(rows: list[dict], quantity: str) -> dict[tuple[int, int], float]:
    return {(row["layer"], row["other"]): row["value"] for row in rows if row["quantity"] == quantity}


def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return (network.eval()(x).argmax(1) == y).double().mean().item()


@pytest.fixture
def subject(make_network, make_batch):
    """A network that has seen examples, with labels that are its own answers for about half of them."""

    def make(name: str, path: str = "residual", size: int = 64, **options) -> Subject:
        x, y = make_batch(name, size)
        network = warmed_up(make_network(name, path, **options), x)
        with torch.no_grad():
            y = torch.where(torch.arange(size) % 2 == 0, network(x).argmax(1), y)
        return Subject(network, x, y)

    return make


class TestBranchOutputs:
    @pytest.mark.parametrize(("name", "last"), [("mlp8", "branch.relu"), ("resnet20", "branch.norm2")])
    @pytest.mark.parametrize("path", ["residual", "plain"])
    def test_are_those_of_the_branches(self, name, path, last, make_network, make_batch):
        x = make_batch(name)[0]
        network = make_network(name, path)
        found = branch_outputs(network, x)
        blocks = [m for m in network.modules() if hasattr(m, "branch")]
        inputs, _ = hooked(copied := copy.deepcopy(network), [m for m in copied.modules() if hasattr(m, "branch")], x)
        _, outputs = hooked(network, [block.get_submodule(last) for block in blocks], x)
        assert len(found) == len(outputs) == (8 if name == "mlp8" else 9)
        for branch, block, shortcut, output in zip(found, blocks, inputs, outputs, strict=True):
            assert torch.equal(branch.output, output)
            if path == "plain":
                assert branch.share is None
                continue
            if getattr(block, "stride", 1) == 2:
                shortcut = shortcut[:, :, ::2, ::2]
            expected = output.flatten(1).norm(dim=1) / shortcut.flatten(1).norm(dim=1)
            torch.testing.assert_close(branch.share, expected.double())

    def test_are_those_of_a_transformers_attention_and_mlp(self, make_network, make_batch):
        x = make_batch("vit_micro")[0]
        network = make_network("vit_micro")
        found = branch_outputs(network, x)
        inputs, blocks = hooked(copied := copy.deepcopy(network), list(copied.blocks), x)
        _, outputs = hooked(network, [part for block in network.blocks for part in (block.attn, block.mlp)], x)
        assert len(found) == len(outputs) == 12
        for branch, output in zip(found, outputs, strict=True):
            torch.testing.assert_close(branch.output, output)
        for i, (shortcut, end) in enumerate(zip(inputs, blocks, strict=True)):
            middle = shortcut + outputs[2 * i]
            torch.testing.assert_close(middle + outputs[2 * i + 1], end)
            for branch, stream in zip(found[2 * i : 2 * i + 2], (shortcut, middle), strict=True):
                expected = branch.output.flatten(1).norm(dim=1) / stream.flatten(1).norm(dim=1)
                torch.testing.assert_close(branch.share, expected.double())

    def test_are_those_of_the_plain_forms_of_timms_blocks(self, make_network, make_batch):
        for name, ends in (("resnet18", ("bn2",)), ("vit_micro", ("attn", "mlp"))):
            x = make_batch(name)[0]
            network = make_network(name, "plain")
            found = branch_outputs(network, x)
            modules = [module for place, module in network.named_modules() if place.endswith(ends)]
            _, outputs = hooked(network, modules, x)
            # As many as in the residual form, whose sum a ResNet's last rectifier follows.
            assert len(found) == len(outputs) == len(branch_outputs(make_network(name), x))
            for branch, output in zip(found, outputs, strict=True):
                assert torch.equal(branch.output, output)
                assert branch.share is None
            if name == "resnet18":
                assert all((branch.output < 0).any() for branch in found)

    @pytest.mark.parametrize(
        ("name", "variant", "count"),
        [
            *[("mlp8", variant, 8) for variant in ("concat", "sum", "sum_outer")],
            *[("resnet20", variant, 6 + 5 + 5) for variant in ("concat", "sum", "sum_outer")],
            ("resnet18", "concat", 4 + 3 + 3 + 3),
            *[("vit_micro", variant, 12) for variant in ("concat", "sum")],
        ],
    )
    def test_are_those_of_pnnh_learners(self, name, variant, count, make_network, make_batch):
        x = make_batch(name)[0]
        network = make_network(name, "pnnh", variant=variant)
        stacks = [m for m in network.modules() if isinstance(m, PnnhStack)]
        with torch.no_grad():
            for coder in (coder for stack in stacks for coders in stack.coders for coder in coders):
                coder.skew.copy_(0.3 * gaussian(*coder.skew.shape) / len(coder.skew) ** 0.5)
        found = branch_outputs(network, x)
        inputs, outputs = hooked(network, [layer for stack in stacks for layer in stack.layers], x)
        codes = []
        for stack in stacks:
            kinds = [coders() for coders in stack.coders]
            codes += [kinds[i % len(kinds)][0].detach() for i in range(len(stack.layers))]
        assert len(found) == len(outputs) == count
        for branch, code, before, after in zip(found, codes, inputs, outputs, strict=True):
            channels = 2 if before.dim() == 3 else 1
            coded = torch.tensordot(before, code, ([channels], [1])).movedim(-1, channels)
            if variant == "sum_outer":
                torch.testing.assert_close((branch.output + coded).relu(), after, atol=1e-4, rtol=1e-4)
                assert (branch.output < 0).any()
            else:
                _, learned = after.tensor_split([len(code) * (variant == "concat")], dim=channels)
                added = coded if variant == "sum" else 0
                torch.testing.assert_close(branch.output + added, learned, atol=1e-4, rtol=1e-4)
            assert branch.share is None

    def test_are_none_without_branches(self):
        network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        x = gaussian(8, 2)
        assert branch_outputs(network, x) == []
        assert measure(Subject(network, x, torch.zeros(8, dtype=torch.long), network)) == []


class TestMeasure:
    def test_is_a_probe_by_name(self):
        assert "feature_reuse" in available()
        assert probe("feature_reuse").measure is measure

    @every_network
    @pytest.mark.parametrize("training", [False, True])
    def test_leaves_the_networks_alone(self, name, path, options, training, subject, make_network):
        measured = subject(name, path, size=8, **options)
        network, other = measured.network.train(training), make_network(name, path, seed=1, **options)
        next(network.parameters()).requires_grad_(False)
        copies = copy.deepcopy([network.state_dict(), other.state_dict()])
        before = [state(network), state(other)]
        measure(Subject(network, measured.x, measured.y, other))
        assert [state(network), state(other)] == before
        for module, kept in zip((network, other), copies, strict=True):
            assert all(torch.equal(kept[key], value) for key, value in module.state_dict().items())

    @residual_networks
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
