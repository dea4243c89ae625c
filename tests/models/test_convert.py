"""timm's networks on other paths: by hand formula, by shares of parameters, and refusals."""

import copy
from functools import partial

import pytest
import timm
import torch
from timm.layers import AttentionRope, GluMlp, SwiGLU
from timm.models.resnet import BasicBlock, Bottleneck
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn

from rdp.errors import UserError
from rdp.methods.options import PnnhOptions
from rdp.models.convert import set_path
from rdp.models.paths import PnnhLayer, PnnhStack
from rdp.models.timm_plain import PlainSequence
from rdp.models.units import Units
from rdp.probes.layers import layer_outputs
from tests.helpers.tiny import gaussian

BARE_NORM = partial(nn.LayerNorm, elementwise_affine=False)
VARIANTS = ["concat", "window", "strict", "two_sided", "sum", "sum_outer", "sum_inner"]


def small(
    block: type[nn.Module], layers: tuple[int, ...] = (2, 2, 1, 3), zero_init_last: bool = False
) -> timm.models.resnet.ResNet:
    torch.manual_seed(0)
    sizes = {"num_classes": 5, "in_chans": 1, "channels": (8, 16, 8, 16), "zero_init_last": zero_init_last}
    return timm.models.resnet.ResNet(block, layers, **sizes).eval()


def transformer(**options: object) -> timm.models.vision_transformer.VisionTransformer:
    torch.manual_seed(0)
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 24, "depth": 3, "num_heads": 3}
    return timm.models.vision_transformer.VisionTransformer(**sizes | options, num_classes=5).eval()


def parameters_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class TestPlain:
    @pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
    def test_a_resnet_keeps_its_layers_and_loses_its_shortcuts(self, block):
        model = small(block)
        before, x = copy.deepcopy(model), gaussian(3, 1, 32, 32)
        assert set_path(model, "plain") is model
        kept = {key for key in before.state_dict() if ".downsample." not in key}
        assert model.state_dict().keys() == kept
        assert all(torch.equal(model.state_dict()[key], before.state_dict()[key]) for key in kept)
        z = before.maxpool(before.act1(before.bn1(before.conv1(x))))
        for stage in (before.layer1, before.layer2, before.layer3, before.layer4):
            for b in stage:
                z = b.bn2(b.conv2(b.act1(b.bn1(b.conv1(z)))))
                z = b.act2(z) if block is BasicBlock else b.act3(b.bn3(b.conv3(b.act2(z))))
        torch.testing.assert_close(model(x), before.fc(z.mean((2, 3))))
        assert len(Units(model)) == 0

    def test_a_transformer_keeps_its_layers_and_loses_its_shortcuts(self):
        model = transformer(init_values=0.5)
        before, x = copy.deepcopy(model), gaussian(3, 1, 8, 8)
        set_path(model, "plain")
        assert model.state_dict().keys() == before.state_dict().keys()
        z = before.patch_embed(x)
        z = torch.cat([before.cls_token.expand(3, -1, -1), z], 1) + before.pos_embed
        for block in before.blocks:
            z = block.ls2(block.mlp(block.norm2(block.ls1(block.attn(block.norm1(z))))))
        torch.testing.assert_close(model(x), before.head(before.norm(z)[:, 0]))
        assert len(Units(model)) == 0


class TestPnnh:
    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
    def test_a_resnets_stage_is_one_stack_behind_what_changes_the_shape(self, block, variant):
        model = set_path(small(block), "pnnh", variant=variant)
        stacks = [m for m in model.modules() if isinstance(m, PnnhStack)]
        # A basic block is two layers; a stage's first block changes the shape: its first layer, or all of it, is plain.
        layers = [3, 3, 1, 5] if block is BasicBlock else [1, 1, 0, 2]
        if block is BasicBlock and variant == "window":  # learners of two layers
            layers = [2, 2, 1, 3]
        assert [len(s.layers) for s in stacks] == [n for n in layers if n]
        assert sum(isinstance(m, PlainSequence) for m in model.modules()) == 4
        logits = model.train()(gaussian(3, 1, 32, 32))
        logits.square().sum().backward()
        assert logits.shape == (3, 5)
        assert all(p.grad is not None for p in model.parameters())

    @pytest.mark.parametrize("variant", ["concat", "sum"])
    def test_a_transformers_sub_layers_take_turns_each_kind_with_one_coder(self, variant):
        model = set_path(transformer(), "pnnh", variant=variant).train()
        stack = model.blocks
        assert [list(dict(found.learner.named_children())) for found in stack.layers] == [
            ["norm", "attn"],
            ["norm", "mlp"],
        ] * 3
        assert [[coder.uses for coder in coders] for coders in stack.coders] == [[3], [3]]
        calls = []
        for coders in stack.coders:
            coders[0].register_forward_hook(lambda module, *_: calls.append(module))
        logits = model(gaussian(3, 1, 8, 8))
        logits.square().sum().backward()
        assert len(calls) == 2
        assert all(p.grad is not None for p in model.parameters())

    @pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
    @pytest.mark.parametrize("variant", ["concat", "sum"])
    def test_attention_mlp_and_bottleneck_get_their_share_of_the_parameters(self, variant, share):
        """To the rounding of their inner widths, which is small at these widths; norms and biases apart."""

        def weights(module: nn.Module) -> int:
            return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))

        wide = timm.models.vision_transformer.VisionTransformer(embed_dim=384, depth=1, num_heads=6, img_size=32)
        attention, mlp = weights(wide.blocks[0].attn), weights(wide.blocks[0].mlp)
        found = set_path(wide, "pnnh", variant=variant, learner_width=share).blocks.layers
        assert weights(found[0].learner) == pytest.approx(share * attention, rel=0.02)
        assert weights(found[1].learner) == pytest.approx(share * mlp, rel=0.002)

        deep = timm.models.resnet.ResNet(Bottleneck, (2, 1, 1, 1), channels=(128, 8, 8, 8))
        bottleneck = weights(deep.layer1[1])
        stack = set_path(deep, "pnnh", variant=variant, learner_width=share).layer1[1]
        assert weights(stack.layers[0].learner) == pytest.approx(share * bottleneck, rel=0.02)

    @pytest.mark.parametrize("parameters", [0.3, 0.5, 1.0])
    @pytest.mark.parametrize("variant", ["concat", "window"])
    @pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny_patch16_224"])
    def test_stages_get_their_share_of_the_parameters_and_the_head_stays(self, name, variant, parameters):
        sizes = {"img_size": 32} if name.startswith("vit") else {}
        model = timm.create_model(name, num_classes=10, **sizes)
        residual, head = parameters_of(model), copy.deepcopy(model.get_classifier())
        stages = sum(parameters_of(m) for n, m in model.named_children() if n == "blocks" or n.startswith("layer"))
        stages -= sum(
            parameters_of(m.downsample) for m in model.modules() if getattr(m, "downsample", None) is not None
        )
        set_path(model, "pnnh", variant=variant, parameters=parameters)
        assert model.state_dict()["fc.weight" if hasattr(model, "fc") else "head.weight"].equal(head.weight)
        assert model.train()(gaussian(2, 3, 32, 32)).shape == (2, 10)
        grown = sum(parameters_of(m) for n, m in model.named_children() if n == "blocks" or n.startswith("layer"))
        assert grown / stages == pytest.approx(parameters, rel=0.05)
        assert parameters_of(model) < residual or parameters == 1

    def test_layers_of_one_shape_in_different_stages_start_with_different_weights(self):
        model = set_path(small(BasicBlock, (2, 2, 2, 2)), "pnnh", variant="concat")
        first, third = model.layer1[1].layers[0].learner.weight, model.layer3[1].layers[0].learner.weight
        assert first.shape == third.shape
        assert not torch.equal(first, third)

    @pytest.mark.parametrize("variant", ["concat", "window"])
    def test_the_gain_is_on_every_learners_last_norm(self, variant):
        for model in (small(BasicBlock), small(Bottleneck), transformer()):
            set_path(model, "pnnh", norm_gain=0.25, variant=variant)
            for found in (m for m in model.modules() if isinstance(m, PnnhLayer)):
                norms = [m for m in found.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
                assert norms[-1].weight.unique().tolist() == [0.25]

    def test_initial_weights_depend_only_on_the_seed(self):
        options = {"variant": "concat", "start": "orthogonal"}
        one, same, other = (
            set_path(small(BasicBlock), "pnnh", seed=seed, **options).state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(one[key], same[key]) for key in one)
        changed = {key for key in one if not torch.equal(one[key], other[key])}
        assert {key.rpartition(".")[2] for key in changed} == {"weight", "start"}

    def test_the_coder_of_concat_reaches_the_output_where_learners_are_off(self):
        """What the coder passes on, at its identity start, is the first half of what the stack read."""
        model = set_path(transformer(), "pnnh", variant="concat")
        x = gaussian(2, 5, 24)
        assert torch.equal(model.blocks(x)[..., :12], x[..., :12])


class TestResidual:
    def test_leaves_the_model_as_it_is(self):
        model = transformer()
        x = gaussian(2, 1, 8, 8)
        before = model(x)
        assert torch.equal(set_path(model, "residual")(x), before)


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "path", "options", "told"),
        [
            (transformer, "through", {}, "unknown path 'through'; valid: plain, pnnh, residual"),
            (lambda: nn.Linear(2, 2), "plain", {}, "Linear: no plain form is known"),
            (transformer, "pnnh", {"variant": "sum_outer"}, "so it has no sum_outer form; valid: concat, window, sum"),
            (transformer, "pnnh", {"variant": "product"}, "pnnh.variant: input should be"),
            (transformer, "pnnh", {"variant": "concat", "start": "he"}, "a random matrix is not orthogonal"),
            (
                lambda: small(BasicBlock),
                "pnnh",
                {"variant": "sum", "learner_width": 0.3},
                "a width of 8 cannot be split",
            ),
            (
                lambda: transformer(drop_path_rate=0.2),
                "plain",
                {},
                "does not support 'drop_path1'",
            ),
            (lambda: timm.create_model("seresnet18"), "plain", {}, "BasicBlock: its plain form does not support 'se'"),
            (lambda: timm.create_model("vit_tiny_patch16_224", block_fn=Stranger), "plain", {}, "Stranger: no plain"),
            (transformer, "plain", {"variant": "sum"}, "a plain network has no option 'variant'"),
            (transformer, "residual", {"foo": 3}, "a residual network has no option 'foo'"),
            (lambda: transformer(init_values=1e-5), "pnnh", {}, "only with no LayerScale"),
            (lambda: transformer(qk_norm=True), "pnnh", {}, "only with no norms inside"),
            (lambda: transformer(proj_drop_rate=0.1), "pnnh", {}, "only with no dropout"),
            (lambda: timm.create_model("resnet18", act_layer="silu"), "pnnh", {}, "only with ReLU"),
            (lambda: timm.create_model("resnet18", norm_layer="groupnorm"), "pnnh", {}, "only with BatchNorm2d"),
            (lambda: timm.create_model("resnet18", output_stride=8), "pnnh", {}, "of one group, undilated"),
            (lambda: timm.create_model("resnext50_32x4d"), "pnnh", {}, "of one group, undilated"),
            (lambda: transformer(attn_layer="diff"), "pnnh", {}, "timm's Attention and Mlp, not DiffAttention and Mlp"),
            (lambda: transformer(attn_layer=AttentionRope), "pnnh", {}, "not AttentionRope and Mlp"),
            (lambda: gated(transformer()), "pnnh", {}, "only with no gate"),
            (lambda: transformer(mlp_layer=SwiGLU), "pnnh", {}, "not Attention and SwiGLU"),
            (lambda: transformer(mlp_layer=GluMlp), "pnnh", {}, "not Attention and GluMlp"),
            (lambda: transformer(norm_layer="rmsnorm"), "pnnh", {}, "only with LayerNorm"),
            (lambda: transformer(norm_layer=BARE_NORM), "plain", {}, "only with a gain in 'norm1'"),
            (lambda: transformer(norm_layer=BARE_NORM), "pnnh", {}, "only with a gain in 'norm1'"),
            (lambda: transformer(norm_layer=nn.Identity), "plain", {}, "only with a gain in 'norm1'"),
            (lambda: transformer(block_fn=ParallelScalingBlock), "pnnh", {}, "ParallelScalingBlock: no plain form"),
            (lambda: transformer(depth=0), "pnnh", {}, "'blocks' has no blocks"),
            (lambda: small(BasicBlock, (2, 1, 0, 1)), "pnnh", {}, "'layer3' has no blocks"),
            (lambda: recurrent(small(BasicBlock)), "pnnh", {}, "'layer4' uses one block in several places"),
            (lambda: set_path(transformer(), "pnnh"), "plain", {}, "its path is not residual any more"),
            (lambda: set_path(small(BasicBlock), "plain"), "pnnh", {}, "its path is not residual any more"),
        ],
    )
    def test_what_has_no_such_form_is_named(self, make, path, options, told):
        with pytest.raises(UserError) as error:
            set_path(make(), path, **options)
        assert told in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["plain", "pnnh"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("vit_small_r26_s32_224", "'patch_embed.backbone.stages.0.blocks.0' (Bottleneck)"),
        ("vit_small_resnet26d_224", "'patch_embed.backbone.layer1.0' (Bottleneck)"),
        ("vit_base_patch16_siglip_224", "'attn_pool' (AttentionPoolLatent)"),
    ],
)
def test_a_model_that_is_residual_elsewhere_is_refused(name, place, path):
    with torch.device("meta"):
        model = timm.create_model(name)
        kinds = [type(module) for module in model.modules()]
        with pytest.raises(UserError) as error:
            set_path(model, path)
    assert str(error.value) == (
        f"VisionTransformer: {place} is residual, and no {path} form is known outside of blocks"
    )
    assert [type(module) for module in model.modules()] == kinds


def test_a_stem_of_convolutions_without_shortcuts_is_kept():
    """timm's smallest hybrids have no residual blocks in their stem."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_r_s16_p8_224", img_size=64, depth=2, num_classes=5)
    stem, x = copy.deepcopy(model.patch_embed), gaussian(2, 3, 64, 64)
    assert len(Units(set_path(model, "plain"))) == 0
    assert torch.equal(model.eval().patch_embed(x), stem.eval()(x))
    assert model(x).shape == (2, 5)


def gated(model: nn.Module) -> nn.Module:
    """A transformer whose attention has gates."""
    for block in model.blocks:
        block.attn.gate = nn.Linear(24, 24)
    return model


def recurrent(model: nn.Module) -> nn.Module:
    """A network whose last stage is one block, used three times."""
    model.layer4 = nn.Sequential(*[model.layer4[0], *[model.layer4[1]] * 3])
    return model


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_in_several_places_runs_as_often_in_the_plain_form(block):
    model, x = recurrent(small(block)), gaussian(3, 1, 32, 32)
    written_out = small(block, (2, 2, 1, 4))
    written_out.load_state_dict(model.state_dict())
    parameters = parameters_of(model)
    shortcuts = sum(parameters_of(m) for name, m in model.named_modules() if name.endswith("downsample"))
    assert len(set_path(model, "plain").layer4) == 4
    assert parameters_of(model) == parameters - shortcuts
    torch.testing.assert_close(model(x), set_path(written_out, "plain")(x))


@pytest.mark.parametrize(("path", "options"), [("plain", {}), ("pnnh", {}), ("pnnh", {"variant": "sum"})])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_an_activation_in_several_places_counts_in_each(block, path, options):
    """One object for all activations, as torchvision has it in a block."""
    own, shared, x = small(block), small(block), gaussian(3, 1, 32, 32)
    act = nn.ReLU(inplace=True)
    for module in shared.modules():
        for name in [name for name, _ in module.named_children() if name.startswith("act")]:
            setattr(module, name, act)
    expected = set_path(own, path, **options)(x)
    assert torch.equal(set_path(shared, path, **options)(x), expected)
    assert len(layer_outputs(shared, x)) == len(layer_outputs(own, x))
    torch.testing.assert_close(layer_outputs(shared, x), layer_outputs(own, x), rtol=0, atol=0)


@pytest.mark.parametrize("path", ["plain", "pnnh"])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_timms_own_start_of_zero_gains_does_not_leave_a_dead_network(block, path):
    """Without its shortcut, a block whose last norm has gain 0 puts out 0, and its rectifier hands no gradient on."""
    model = set_path(small(block, zero_init_last=True), path).train()
    logits = model(gaussian(8, 1, 64, 64))
    assert logits.std(0).min() > 1e-3
    logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("path", ["plain", "pnnh"])
def test_the_gain_is_on_plain_blocks_too(path):
    model = set_path(small(Bottleneck), path, norm_gain=0.25)
    assert model.layer1[0].bn3.weight.unique().tolist() == [0.25]
    assert set_path(transformer(), "plain", norm_gain=0.25).blocks[0].norm2.weight.unique().tolist() == [0.25]


def test_a_refused_model_is_unchanged():
    model = small(BasicBlock)
    model.layer4[0].se = nn.Linear(1, 1)
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(UserError, match="its plain form does not support 'se'"):
        set_path(model, "plain", norm_gain=0.3)
    assert [type(module) for module in model.modules()] == kinds
    assert model.layer1[0].bn2.weight.unique().tolist() == [1.0]


def test_new_layers_have_the_models_own_precision():
    model = set_path(small(BasicBlock).double(), "pnnh")
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(gaussian(2, 1, 32, 32).double()).dtype == torch.float64


class Stranger(timm.models.vision_transformer.Block):
    """A block of somebody's own."""


def test_the_options_of_a_study_are_those_of_the_library():
    from rdp.methods.schedules.pnnh import Pnnh

    assert set(Pnnh().path_options()) == set(PnnhOptions.model_fields)
