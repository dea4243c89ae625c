"""A converted transformer under timm's functions, which read its blocks: as timm's own, or refused by name."""

import copy
from functools import partial

import pytest
import timm
import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.models.timm_transformer import TransformerStack
from tests.helpers.tiny import gaussian

PATHS = {
    "plain": ("plain", {}),
    "window": ("pnnh", {}),
    "sum": ("pnnh", {"variant": "sum"}),
    "concat pair": ("pnnh", {"variant": "concat", "sharing": "pair"}),
}
every_path = pytest.mark.parametrize(("path", "options"), PATHS.values(), ids=PATHS)
WIDER = PATHS["window"]
SIZES = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 3, "num_classes": 5}
X = gaussian(2, 3, 16, 16)


def transformer(path: str = "residual", options: dict | None = None, **arguments) -> VisionTransformer:
    torch.manual_seed(0)
    return rdp.set_path(VisionTransformer(**SIZES | arguments), path, **options or {})


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    model(X).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def states(model: VisionTransformer) -> list[torch.Tensor]:
    """What leaves the second sub-layer of each block in the forward pass, found by hooks."""
    found: list[torch.Tensor] = []
    stack = model.blocks
    places = stack.layers[1::2] if isinstance(stack, TransformerStack) else list(stack)
    hooks = [place.register_forward_hook(lambda module, inputs, z: found.append(z)) for place in places]
    model(X)
    for hook in hooks:
        hook.remove()
    return found


@every_path
class TestTimmsFunctions:
    @pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
    def test_checkpointing_changes_no_gradient(self, path, options, name):
        torch.manual_seed(0)
        model = timm.create_model(name, img_size=16, patch_size=4, embed_dim=24, depth=4, num_heads=3)
        rdp.set_path(model, path, **options)
        expected = gradients(model)
        calls = []
        model.patch_embed.register_forward_hook(lambda *_: calls.append("embedding"))
        first = model.blocks[0].norm1 if path == "plain" else model.blocks.layers[0].learner.norm
        first.register_forward_hook(lambda *_: calls.append("block"))
        model.set_grad_checkpointing()
        found = gradients(model)
        assert calls == ["embedding", "block", "block"]  # forward, and again in the backward pass
        torch.testing.assert_close(found, expected)
        model.set_grad_checkpointing(False)
        torch.testing.assert_close(gradients(model), expected, rtol=0, atol=0)

    def test_features_and_intermediates_are_those_of_the_forward_pass(self, path, options):
        model = transformer(path, options).eval()
        features, intermediates = model.forward_intermediates(X, output_fmt="NLC", return_prefix_tokens=True)
        assert torch.equal(features, model.forward_features(X))
        assert torch.equal(model.forward_head(features), model(X))
        expected = states(model)
        if path == "pnnh":
            expected[-1] = model.blocks.exit(expected[-1])
        found = [torch.cat([prefix, patches], 1) for patches, prefix in intermediates]
        assert len(found) == len(expected) == 4
        assert all(map(torch.equal, found, expected))

    def test_the_first_intermediates_need_no_later_block(self, path, options):
        model = transformer(path, options).eval()
        expected = model.forward_intermediates(X, [0, 1], intermediates_only=True)
        calls = []
        last = list(model.blocks.modules())[-1] if path == "plain" else model.blocks.layers[-1]
        last.register_forward_hook(lambda *_: calls.append(1))
        found = model.forward_intermediates(X, [0, 1], intermediates_only=True, stop_early=True)
        assert all(map(torch.equal, found, expected))
        assert not calls

    def test_a_pruned_model_has_the_same_first_blocks(self, path, options):
        model = transformer(path, options).eval()
        pruned = copy.deepcopy(model)
        assert pruned.prune_intermediate_layers([1], prune_norm=True) == [1]
        assert len(pruned.blocks) == 2
        expected = model.forward_intermediates(X, [1], intermediates_only=True)
        found = pruned.forward_intermediates(X, [1], intermediates_only=True)
        assert torch.equal(found[0], expected[0])
        whole = copy.deepcopy(model)
        whole.prune_intermediate_layers([3], prune_head=False)
        assert torch.equal(whole(X), model(X))

    def test_a_fused_copy_has_the_same_intermediates(self, path, options):
        model = transformer(path, options).eval()
        fused = rdp.fuse(model)
        expected = model.forward_intermediates(X, intermediates_only=True)
        torch.testing.assert_close(fused.forward_intermediates(X, intermediates_only=True), expected)
        assert not any(".coders." in name for name in fused.state_dict())

    def test_a_normalised_intermediate_is_timms_or_refused(self, path, options):
        model = transformer(path, options).eval()
        if (path, options) == WIDER:
            width = model.blocks.width
            with pytest.raises(UserError, match=rf"the final norm reads 24 channels, and there are {width} between"):
                model.forward_intermediates(X, norm=True)
            with pytest.raises(UserError, match="pass intermediates_only=True with stop_early=True"):
                model.forward_intermediates(X, [1], stop_early=True)
            assert model.forward_intermediates(X, [3], norm=True, intermediates_only=True)[0].shape[1] == 24
            return
        features, intermediates = model.forward_intermediates(X, norm=True, output_fmt="NLC")
        assert torch.equal(intermediates[-1], features[:, 1:])
        torch.testing.assert_close(intermediates[0], model.norm(states(model)[0])[:, 1:])


def test_a_mask_reaches_the_attention_of_a_plain_network():
    """By hand: the sub-layers of timm's own blocks in sequence, the attention with the mask."""
    own, model, mask = transformer(), transformer("plain"), gaussian(17, 17)
    z = own.norm_pre(own.patch_drop(own._pos_embed(own.patch_embed(X))))
    for block in own.blocks:
        z = block.mlp(block.norm2(block.attn(block.norm1(z), attn_mask=mask)))
    torch.testing.assert_close(model(X, attn_mask=mask), own.forward_head(own.norm(z)))
    assert not torch.allclose(model(X, attn_mask=mask), model(X))


@pytest.mark.parametrize("fused", [False, True])
def test_a_mask_is_refused_by_a_pnnh_network(fused):
    model = transformer("pnnh")
    with pytest.raises(UserError, match="a PNNH transformer takes no attn_mask"):
        (rdp.fuse(model) if fused else model)(X, attn_mask=torch.zeros(17, 17))


@pytest.mark.parametrize("index", [0, -1, slice(1, None), slice(None, None, 2)])
def test_a_part_that_is_no_beginning_is_refused(index):
    with pytest.raises(UserError, match=r"a PNNH transformer has no such part; its sub-layers are in blocks.layers"):
        transformer("pnnh").blocks[index]


class TestWhatIsKept:
    """Properties of the residual block that its new layers have too."""

    def test_the_activation_with_its_options(self):
        model = transformer("pnnh", act_layer=lambda: nn.GELU(approximate="tanh"))
        assert {module.approximate for module in model.modules() if isinstance(module, nn.GELU)} == {"tanh"}

    def test_missing_biases(self):
        model = transformer("pnnh", proj_bias=False, qkv_bias=False, norm_layer=partial(LayerNorm, bias=False))
        assert [name for name, _ in model.blocks.named_parameters() if name.endswith("bias")] == []
        with_biases = transformer("pnnh", {"variant": "sum"}).blocks.layers[0].learner
        assert {name for name, _ in with_biases.named_parameters() if name.endswith("bias")} == {
            *("norm.bias", "attn.qkv.bias", "attn.proj.bias")
        }
