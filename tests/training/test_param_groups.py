"""Parameter groups for other loops: those of this project's trainer, whatever made the parameters anew."""

import copy

import pytest
import timm
import torch
import torchvision
import transformers
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import rdp
from rdp.errors import UserError
from rdp.spec import Recipe
from rdp.training.optimizers import make_optimizer, parameter_groups
from tests.helpers.tiny import gaussian


def deep_copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def assigned(model: nn.Module) -> nn.Module:
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    return model


def sharded(model: nn.Module) -> nn.Module:
    return fully_shard(model, mesh=init_device_mesh("cpu", (1,)))


def described(model: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
    """The learning rate and weight decay of each parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == len(names) == sum(len(group["params"]) for group in groups)
    return found


def transformer(path: str = "residual", **options) -> nn.Module:
    """timm's own, with a class token and positions."""
    return rdp.set_path(timm.create_model("test_vit", img_size=32, num_classes=10), path, **options)


def from_config(name: str, **options) -> nn.Module:
    """A small model of transformers."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes | options))


# Models without a method no_weight_decay, and the names of their positions and tokens.
OTHERS = {
    "torchvision ViT": (
        lambda: torchvision.models.VisionTransformer(16, 4, 1, 2, 8, 16),
        "class_token encoder.pos_embedding",
    ),
    "torchvision Swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 8, [2], [2], [2, 2]),
        "features.1.0.attn.relative_position_bias_table features.1.1.attn.relative_position_bias_table",
    ),
    "ViT": (lambda: from_config("ViT"), "embeddings.cls_token embeddings.position_embeddings"),
    "DeiT": (
        lambda: from_config("DeiT"),
        "embeddings.cls_token embeddings.distillation_token embeddings.position_embeddings",
    ),
    "BERT": (lambda: from_config("Bert"), "embeddings.position_embeddings.weight"),  # words and token types decay
    "GPT-2": (lambda: transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2)), "wpe.weight"),
    "T5": (
        lambda: transformers.T5Model(transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)),
        " ".join(
            f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for part in ("encoder", "decoder")
        ),
    ),
    "Llama": (lambda: from_config("Llama", num_key_value_heads=2), ""),  # with embed_tokens
    "ResNet": (lambda: timm.create_model("test_resnet"), ""),
}


class TestParamGroups:
    @pytest.fixture
    def _alone(self, tmp_path):
        """A process group of this process alone."""
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
        yield
        distributed.destroy_process_group()

    @pytest.mark.usefixtures("_alone")
    @pytest.mark.parametrize("renew", [deep_copy, assigned, sharded])
    @pytest.mark.parametrize("constraint", ["orthogonal", "spectral"])
    def test_a_coder_keeps_its_rate_and_mark_whatever_makes_its_parameters_anew(self, renew, constraint):
        model = renew(transformer("pnnh", variant="sum", constraint=constraint))
        found = described(model, rdp.param_groups(model, 6e-3, 0.05))
        coders = {name for name in found if ".coders." in name}
        assert len(coders) == 2  # of attention and MLP, each used by 6 layers
        assert all(found[name] == (6e-3 / 6, 0) for name in coders)
        assert all(rate == 6e-3 for name, (rate, _) in found.items() if name not in coders)
        (group,) = [group for group in make_optimizer(model, Recipe()).groups if group.learning_rate_factor != 1]
        assert (group.learning_rate_factor, group.weight_decay) == (1 / 6, 0)
        optimizer = torch.optim.AdamW(rdp.param_groups(model, 6e-3, 0.05))
        model(gaussian(2, 3, 32, 32)).square().mean().backward()
        optimizer.step()

    def test_a_transformers_positions_and_tokens_do_not_decay_as_timm_says(self):
        found = described(model := transformer(), rdp.param_groups(model, 1.0, 0.05))
        decaying = {name for name, (_, decay) in found.items() if decay}
        assert decaying == {name for name, p in model.named_parameters() if p.dim() > 1} - {"cls_token", "pos_embed"}
        assert {*found.values()} == {(1.0, 0.05), (1.0, 0.0)}

    @pytest.mark.parametrize("name", OTHERS)
    def test_positions_and_tokens_do_not_decay_where_no_method_lists_them(self, name):
        build, kept = OTHERS[name]
        with torch.device("meta"):
            model = build()
        found = described(model, rdp.param_groups(model, 1.0, 0.05))
        decaying = {name for name, (_, decay) in found.items() if decay}
        assert {name for name, p in model.named_parameters() if p.dim() > 1} - decaying == set(kept.split())

    def test_a_list_of_timms_counts_for_its_module_and_names_count_outside(self):
        class Extended(nn.Module):
            def __init__(self):
                super().__init__()
                self.cls_token, self.body = nn.Parameter(torch.zeros(1, 1, 8)), timm.create_model("test_vit")
                self.body.mask_token = nn.Parameter(torch.zeros(1, 1, 8))  # which timm's list does not name

        model = Extended()
        found = described(model, rdp.param_groups(model, 1.0, 0.05))
        expected = {"cls_token": 0.0, "body.cls_token": 0.0, "body.pos_embed": 0.0, "body.mask_token": 0.05}
        assert {name: found[name][1] for name in expected} == expected

    @pytest.mark.parametrize("path", ["residual", "plain", "pnnh"])
    @pytest.mark.parametrize("name", ["mlp8", "resnet20", "vit_micro"])
    def test_own_networks_have_the_groups_of_the_trainer(self, name, path, make_network):
        network = make_network(name, path)
        expected = [(g.parameters, g.learning_rate_factor, g.weight_decay) for g in parameter_groups(network, 0.05)]
        found = [(g["params"], g["lr"], g["weight_decay"]) for g in rdp.param_groups(network, 1.0, 0.05)]
        assert [[*map(id, group)] for group, *_ in found] == [[*map(id, group)] for group, *_ in expected]
        assert [rest for _, *rest in found] == [rest for _, *rest in expected]

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("mlp8", {"variant": "concat"}),
            ("resnet20", {"variant": "sum", "sharing": "pair"}),
            ("resnet20", {"variant": "sum", "learning_rate_factor": 0.3, "decay": True}),
            ("vit_micro", {"variant": "sum", "constraint": "none"}),
        ],
    )
    def test_a_foreign_loop_trains_as_this_projects_own(self, name, options, make_network, make_batch):
        mine, theirs = (make_network(name, "pnnh", **options) for _ in range(2))
        optimizer = make_optimizer(mine, Recipe(optimizer="adamw", weight_decay=0.03))
        reference = torch.optim.AdamW(rdp.param_groups(theirs, 0.01, 0.03), fused=True)
        assert {group["lr"] for group in reference.param_groups} > {0.01}
        for step in range(3):
            x, y = make_batch(name, seed=step)
            for net in (mine, theirs):
                F.cross_entropy(net(x), y).backward()
            optimizer.step(0.01)
            reference.step()
            reference.zero_grad()
        assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))

    def test_timms_optimizers_and_schedulers_keep_the_groups(self):
        model = transformer("pnnh", variant="sum")
        optimizer = create_optimizer_v2(rdp.param_groups(model, 6e-3, 0.05), opt="adamw", lr=6e-3, weight_decay=0.05)
        assert described(model, optimizer.param_groups) == described(model, rdp.param_groups(model, 6e-3, 0.05))
        scheduler, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=4)
        scheduler.step(2)
        half = described(model, rdp.param_groups(model, 3e-3, 0.05))
        found = described(model, optimizer.param_groups)
        assert all(found[name] == (pytest.approx(rate), decay) for name, (rate, decay) in half.items())

    @pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
    def test_layer_decay_is_timms(self, name):
        model = timm.create_model(name, num_classes=10)
        groups = param_groups_layer_decay(
            model, 0.05, no_weight_decay_list=getattr(model, "no_weight_decay", set)(), layer_decay=0.7
        )
        expected = described(model, [{**group, "lr": 0.01 * group["lr_scale"]} for group in groups])
        assert described(model, rdp.param_groups(model, 0.01, 0.05, layer_decay=0.7)) == expected

    def test_layer_decay_and_the_factor_of_a_coder_multiply(self):
        model = transformer("pnnh", variant="sum")
        found = described(model, rdp.param_groups(model, 0.06, 0.05, layer_decay=0.5))
        # The head is the last layer, and before it are 6 blocks: both coders are those of the first.
        assert found["head.weight"][0] == 0.06
        assert found["blocks.layers.0.learner.attn.qkv.weight"][0] == pytest.approx(0.06 * 0.5**6)
        assert found["blocks.coders.1.0.skew"] == (pytest.approx(0.01 * 0.5**6), 0)

    def test_a_wrapped_or_frozen_model_has_the_same_groups(self):
        model = transformer("pnnh", variant="sum")
        expected = described(model, rdp.param_groups(model, 1.0, 0.1, layer_decay=0.9))
        model.blocks.requires_grad_(False)
        assert described(model, rdp.param_groups(nn.DataParallel(model), 1.0, 0.1, layer_decay=0.9)) == expected

    def test_what_it_cannot_group_is_refused(self):
        with pytest.raises(UserError, match="expected a model, got a value of type generator"):
            rdp.param_groups(nn.Linear(2, 2).parameters(), 0.1, 0.0)
        with pytest.raises(UserError, match="layer_decay needs a group_matcher, and Linear has none"):
            rdp.param_groups(nn.Linear(2, 2), 0.1, 0.0, layer_decay=0.9)
