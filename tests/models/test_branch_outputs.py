"""The outputs of a network's branches: those that hooks see, in every path."""

import copy

import pytest
import torch
from torch import nn

from rdp.models.paths import PnnhStack
from rdp.probes import Subject
from rdp.probes.measures.feature_reuse import branch_outputs, measure
from tests.helpers.tiny import gaussian


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
                assert branch.relative_norm is None
                continue
            if getattr(block.shortcut, "stride", 1) == 2:
                shortcut = shortcut[:, :, ::2, ::2]
            expected = output.flatten(1).norm(dim=1) / shortcut.flatten(1).norm(dim=1)
            torch.testing.assert_close(branch.relative_norm, expected.double())

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
                torch.testing.assert_close(branch.relative_norm, expected.double())

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
                assert branch.relative_norm is None
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
            assert branch.relative_norm is None

    def test_are_none_without_branches(self):
        network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        x = gaussian(8, 2)
        assert branch_outputs(network, x) == []
        assert measure(Subject(network, x, torch.zeros(8, dtype=torch.long), network)) == []
