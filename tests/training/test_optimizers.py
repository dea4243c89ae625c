"""Optimizers are bitwise equal to torch's; learning rates and parameter groups."""

import copy
import math
from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

import rdp
from rdp.errors import UserError
from rdp.models.coder import Coder
from rdp.spec import Recipe
from rdp.training.optimizers import SGD, AdamW, Optimizer, ParameterGroup, learning_rate, make_optimizer
from tests.helpers.tiny import gaussian

SCHEDULES = ["cosine", "one_cycle", "constant"]
RATES = (0.1, 0.2, 0.05, 0.07, 0.01, 0.02)
DECAY, FACTOR = 0.03, 0.25


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    return layers.to(dtype, memory_format=torch.channels_last)


def backward(net: nn.Module, step: int, *, halves: bool) -> None:
    """Gradients of every parameter, or in odd steps of the convolution and norm alone, in even ones of the head."""
    dtype = next(net.parameters()).dtype
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(step)).to(dtype)
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad_(not halves or (i < 4) == bool(step % 2))
    net(x).square().mean().backward()


def split(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    parameters = list(net.parameters())
    return [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]


def ours(net: nn.Module, how: SGD | AdamW) -> Optimizer:
    kernels, rest = split(net)
    return Optimizer(how, [ParameterGroup(kernels, 1.0, DECAY), ParameterGroup(rest, FACTOR, 0.0)])


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", [SGD(0.9), SGD(0.0), SGD(0.9, nesterov=True), AdamW()], ids=repr)
def test_it_is_bitwise_equal_to_torchs(how, dtype, halves):
    mine, theirs = network(dtype), network(dtype)
    optimizer = ours(mine, how)
    kernels, rest = split(theirs)
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    if isinstance(how, SGD):
        reference = torch.optim.SGD(groups, lr=1.0, momentum=how.momentum, nesterov=how.nesterov, fused=True)
        if how.momentum and halves:  # torch's fused step takes no mixture of trained parameters and new ones
            for parameter in theirs.parameters():
                reference.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    else:
        reference = torch.optim.AdamW(groups, lr=1.0, fused=True)
    for step, rate in enumerate(RATES):
        backward(mine, step, halves=halves)
        backward(theirs, step, halves=halves)
        optimizer.step(rate)
        for group, factor in zip(reference.param_groups, (1.0, FACTOR), strict=True):
            group["lr"] = rate * factor
        reference.step()
        reference.zero_grad()
    assert all(map(torch.equal, mine.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("how", [SGD, AdamW])
@pytest.mark.parametrize("halves", [False, True])
def test_a_restored_state_continues_bitwise_equal(how, halves):
    make = (lambda: SGD(0.9)) if how is SGD else AdamW
    straight, first, second = network(), network(), network()
    one, two, three = ours(straight, make()), ours(first, make()), ours(second, make())
    for step, rate in enumerate(RATES):
        backward(straight, step, halves=halves)
        one.step(rate)
    for step, rate in enumerate(RATES):
        if step == 3:
            second.load_state_dict(first.state_dict())
            # A file keeps no layout.
            three.restore({name: tensor.clone().contiguous() for name, tensor in two.state().items()})
        net, optimizer = (first, two) if step < 3 else (second, three)
        backward(net, step, halves=halves)
        optimizer.step(rate)
    assert all(map(torch.equal, straight.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize("how", [SGD(0.9), AdamW()], ids=repr)
def test_a_parameter_without_gradient_is_unchanged_and_has_no_state(how):
    net = network()
    head = list(net.parameters())[4:]
    before = [parameter.detach().clone() for parameter in head]
    optimizer = ours(net, how)
    backward(net, 1, halves=True)
    optimizer.step(0.1)
    assert all(map(torch.equal, before, head))
    assert set(how.state) == set(list(net.parameters())[:4])
    assert all(parameter.grad is None for parameter in net.parameters())


def rates(steps: int = 100, **recipe) -> list[float]:
    return [learning_rate(Recipe(learning_rate=0.4, **recipe), step, steps) for step in range(steps)]


class TestLearningRate:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_it_rises_linearly_over_the_warmup(self, schedule):
        found = rates(schedule=schedule, warmup=0.1)
        assert found[:10] == pytest.approx([0.4 * (step + 1) / 10 for step in range(10)])
        assert found[10] == 0.4
        assert max(found) == 0.4

    def test_after_the_warmup_it_follows_its_closed_form(self):
        cosine = [0.2 * (1 + math.cos(math.pi * step / 90)) for step in range(90)]
        assert rates(schedule="cosine", warmup=0.1)[10:] == pytest.approx(cosine)
        linear = [0.4 * (90 - step) / 90 for step in range(90)]
        assert rates(schedule="one_cycle", warmup=0.1)[10:] == pytest.approx(linear)
        assert rates(schedule="constant", warmup=0.1)[10:] == [0.4] * 90

    def test_one_cycle_has_its_peak_at_the_share_warmup(self):
        found = rates(200, schedule="one_cycle", warmup=0.25)
        assert found[:50] == pytest.approx([0.4 * (step + 1) / 50 for step in range(50)])
        assert found[50:] == pytest.approx([0.4 * (200 - step) / 150 for step in range(50, 200)])
        assert [step for step, rate in enumerate(found) if rate == 0.4] == [49, 50]

    @pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
    def test_it_falls_to_almost_0_and_the_last_step_still_learns(self, schedule):
        found = rates(schedule=schedule)
        assert all(later < earlier for earlier, later in pairwise(found[10:]))
        assert 0 < found[-1] < 0.4 / 80
        assert learning_rate(Recipe(learning_rate=0.4, schedule=schedule), 100, 100) == 0

    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("warmup", [0, 0.004, 0.99, 0.999])
    @pytest.mark.parametrize("steps", [1, 2, 7, 100])
    def test_it_is_positive_and_bounded_at_every_step_of_short_runs(self, schedule, warmup, steps):
        assert all(0 < rate <= 0.4 for rate in rates(steps, schedule=schedule, warmup=warmup))

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_without_warmup_it_starts_at_the_peak(self, schedule):
        assert rates(schedule=schedule, warmup=0)[0] == 0.4


class TestOptimizer:
    @pytest.mark.parametrize("kind", ["sgd", "adamw"])
    @pytest.mark.parametrize("path", ["residual", "pnnh"])
    def test_only_matrices_and_kernels_decay_and_every_parameter_is_in_one_group(self, kind, path, make_network):
        network = make_network("resnet20", path)
        optimizer = make_optimizer(network, Recipe(optimizer=kind, weight_decay=0.01))
        decay = {id(p): group.weight_decay for group in optimizer.groups for p in group.parameters}
        assert len(decay) == len(optimizer.parameters)
        assert decay.keys() == {id(p) for p in network.parameters()}
        for name, parameter in network.named_parameters():
            kernel = name.endswith("weight") and parameter.dim() > 1
            assert decay[id(parameter)] == (0.01 if kernel else 0), name

    def test_a_coders_rate_is_divided_by_its_uses(self, make_network):
        network = make_network("resnet20", "pnnh", variant="concat")
        optimizer = make_optimizer(network, Recipe())
        factors = {id(p): group.learning_rate_factor for group in optimizer.groups for p in group.parameters}
        coders = [module.skew for module in network.modules() if isinstance(module, Coder)]
        assert [factors.pop(id(skew)) for skew in coders] == [1 / 6, 1 / 5, 1 / 5]
        assert set(factors.values()) == {1.0}

    def test_each_groups_rate_is_the_schedules_times_its_factor(self, make_spec, make_run):
        spec = make_spec("pnnh", {"variant": "concat"}, epochs=1)
        run = make_run(spec)
        update, rates = run.optimizer.update, []
        run.optimizer.update = lambda parameters, rate, decay: (rates.append(rate), update(parameters, rate, decay))
        run.train(lambda run: None)
        factors = [group.learning_rate_factor for group in run.optimizer.groups]
        assert set(factors) == {1.0, 1 / 8}
        assert rates == [learning_rate(spec.recipe, step, 10) * factor for step in range(10) for factor in factors]

    def test_the_recipe_reaches_the_optimizer(self, make_network):
        network = make_network("mlp8")
        assert make_optimizer(network, Recipe(momentum=0.7)).update == SGD(0.7)
        assert make_optimizer(network, Recipe(nesterov=True)).update == SGD(0.9, nesterov=True)
        assert make_optimizer(network, Recipe(optimizer="adamw")).update == AdamW()


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
        optimizer = make_optimizer(mine, Recipe(optimizer="adamw", weight_decay=DECAY))
        reference = torch.optim.AdamW(rdp.param_groups(theirs, 0.01, DECAY), fused=True)
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
            rdp.param_groups(network().parameters(), 0.1, 0.0)
        with pytest.raises(UserError, match="layer_decay needs a group_matcher, and Sequential has none"):
            rdp.param_groups(network(), 0.1, 0.0, layer_decay=0.9)
