"""Layer decay and feature_info of converted networks: as those of the residual network, block by block."""

import copy
import pickle

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.models._features import FeatureGetterNet, FeatureListNet
from timm.optim import param_groups_layer_decay
from torch import nn

import rdp
from tests.helpers.tiny import gaussian

OPTIONS = [{}, {"variant": "sum"}, {"variant": "concat", "sharing": "pair"}, {"variant": "concat", "sharing": "none"}]
ids = [" ".join(map(str, options.values())) or "window" for options in OPTIONS]


def scales(model: nn.Module) -> dict[str, float]:
    """timm's factor of the learning rate of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}


def transformer(name: str = "vit_tiny_patch16_224") -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, img_size=32, depth=4, embed_dim=48, num_heads=3, num_classes=5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
class TestLayerDecayOfATransformer:
    def test_it_is_the_same_in_the_plain_form(self, name):
        assert scales(rdp.set_path(transformer(name), "plain")) == scales(transformer(name))

    @pytest.mark.parametrize("options", OPTIONS, ids=ids)
    def test_a_sub_layer_has_the_factor_of_its_block(self, name, options):
        own, found = scales(transformer(name)), scales(rdp.set_path(transformer(name), "pnnh", **options))
        for parameter, factor in found.items():
            if parameter.startswith("blocks.layers."):
                assert factor == own[f"blocks.{int(parameter.split('.')[2]) // 2}.norm1.weight"], parameter
            elif not parameter.startswith("blocks."):
                assert factor == own[parameter], parameter
        assert len({*found.values()}) == len({*own.values()}) == 6  # embedding, 4 blocks, head

    def test_a_coder_has_that_of_its_first_block_and_what_changes_the_width_that_of_its_end(self, name):
        pairs = scales(rdp.set_path(transformer(name), "pnnh", variant="concat", sharing="pair"))
        assert [pairs[f"blocks.coders.{kind}.{i}.skew"] for kind in (0, 1) for i in (0, 1)] == [0.5**4, 0.5**2] * 2
        wider = scales(rdp.set_path(transformer(name), "pnnh"))
        assert (wider["blocks.entry.weight"], wider["blocks.exit.weight"]) == (0.5**4, 0.5)


class TestLayerDecayOfAResNet:
    @pytest.mark.parametrize("options", [*OPTIONS, {"learner": "one"}], ids=[*ids, "one"])
    @pytest.mark.parametrize("name", ["resnet18", "resnet26"])
    def test_every_layer_has_the_factor_of_its_block(self, name, options):
        expected = scales(timm.create_model(name))
        model = rdp.set_path(timm.create_model(name), "pnnh", **options)
        found = scales(model)
        for stage in range(1, 5):
            factors = {factor for parameter, factor in found.items() if parameter.startswith(f"layer{stage}.")}
            assert factors == {expected[f"layer{stage}.{block}.conv1.weight"] for block in (0, 1)}
        assert found["conv1.weight"] == expected["conv1.weight"]
        assert found["fc.weight"] == 1

    def test_the_layers_of_a_stage_by_hand(self):
        """resnet18 with learners of one layer: two for each block, and the first of a stage is plain."""
        model = rdp.set_path(timm.create_model("resnet18"), "pnnh", learner="one")
        assert model.layer2[1].replaced == [0, 1, 1]
        assert rdp.set_path(timm.create_model("resnet18"), "pnnh").layer2[1].replaced == [0, 1]
        assert rdp.set_path(timm.create_model("resnet18"), "pnnh", variant="sum").layer1[0].replaced == [0, 0, 1, 1]
        assert rdp.set_path(timm.create_model("resnet50"), "pnnh").layer3[1].replaced == [1, 2, 3, 4, 5]

    def test_coarse_groups_are_stages(self):
        own, model = timm.create_model("resnet18"), rdp.set_path(timm.create_model("resnet18"), "pnnh")
        coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
        expected = group_parameters(own, own.group_matcher(coarse=True), reverse=True)
        assert {coarse[name] for name in coarse if name.startswith("layer3.")} == {expected["layer3.0.conv1.weight"]}
        assert coarse["fc.weight"] == expected["fc.weight"]


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_and_a_pickled_model_have_the_same_groups(copy_of):
    model = rdp.set_path(transformer(), "pnnh")
    assert scales(copy_of(model)) == scales(model)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=ids[:2])
class TestFeatureInfo:
    def test_it_lists_the_widths_of_a_transformers_features(self, options):
        model, x = rdp.set_path(transformer(), "pnnh", **options).eval(), gaussian(2, 3, 32, 32)
        features = model.forward_intermediates(x, intermediates_only=True)
        assert [z.shape[1] for z in features] == [info["num_chs"] for info in model.feature_info]
        found = FeatureGetterNet(model, out_indices=(1, 3))
        assert found.feature_info.channels() == [z.shape[1] for z in found(x)]

    def test_its_modules_put_out_these_features(self, options):
        model, x, seen = rdp.set_path(transformer(), "pnnh", **options).eval(), gaussian(2, 3, 32, 32), []
        for info in model.feature_info:
            model.get_submodule(info["module"]).register_forward_hook(lambda module, inputs, z: seen.append(z))
        model(x)
        found = [z[:, 1:] for z in seen]
        torch.testing.assert_close(found, model.forward_intermediates(x, intermediates_only=True, output_fmt="NLC"))

    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    def test_it_lists_the_widths_of_a_resnets_stages(self, name, options):
        model, x = rdp.set_path(timm.create_model(name), "pnnh", **options).eval(), gaussian(1, 3, 32, 32)
        found = FeatureListNet(copy.deepcopy(model), out_indices=(0, 1, 2, 3, 4))
        with torch.no_grad():
            assert found.feature_info.channels() == [z.shape[1] for z in found(x)]
            features = model.forward_intermediates(x, intermediates_only=True)
        assert [z.shape[1] for z in features] == [info["num_chs"] for info in model.feature_info]
