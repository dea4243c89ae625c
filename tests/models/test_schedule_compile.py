"""A schedule with torch.compile: the same numbers, and no more compiling once each form of a block was seen."""

import copy
import warnings

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

import rdp
from tests.helpers.tiny import TINY

# Dynamo looks at .grad of whatever it traces.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
VIT = TINY["vit"]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield
    torch._dynamo.reset()


def train(schedule: rdp.Schedule, steps: range) -> tuple[list[float], list[bytes]]:
    """The losses and the masks of some steps."""
    losses, masks = [], []
    optimizer = torch.optim.SGD(schedule.model.parameters(), lr=0.05)
    for step in steps:
        x, y = VIT.batch(seed=step)
        with schedule.iteration(step) as planned:
            loss = F.cross_entropy(schedule.model(x), y)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        masks.append(planned.trained.tobytes())
    return losses, masks


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled_block_by_block_it_trains_as_it_does_uncompiled(backend):
    plain, compiled = (rdp.ResidualDropPath(VIT.build(), 0.5) for _ in range(2))
    compiled.compile(backend=backend)
    expected, _ = train(plain, range(6))
    assert train(compiled, range(6))[0] == pytest.approx(expected, rel=1e-5)
    x = VIT.batch()[0]
    torch.testing.assert_close(compiled.model.eval()(x), plain.model.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_once_each_form_was_seen_new_masks_compile_nothing():
    schedule, counter = rdp.ResidualDropPath(VIT.build(), 0.5, seed=1), CompileCounter()
    schedule.compile(backend=counter)
    _, seen = train(schedule, range(120))
    compiled = counter.frame_count
    assert compiled > 0
    _, masks = train(schedule, range(120, 150))
    assert set(masks) - set(seen)
    assert counter.frame_count == compiled


def test_blocks_share_their_forms_however_deep_the_model():
    torch.manual_seed(0)
    network = VisionTransformer(16, 4, 3, 5, embed_dim=24, depth=12, num_heads=2)
    schedule, counter = rdp.ResidualDropPath(network, 0.5), CompileCounter()
    schedule.compile(backend=counter)
    train(schedule, range(30))
    assert counter.frame_count < 30  # 4 masks of a block's branches, by what is trained and by gradients to hand down


def test_a_dropped_block_does_not_stop_the_compilation_of_others():
    # Nothing is computed in it, and of code that was seen to compute nothing torch compiles no more calls.
    network, counter = rdp.create_model("mlp8", input_shape=(2,)), CompileCounter()
    schedule = rdp.ResidualDropPath(network, 0.5)
    schedule.compile(backend=counter)
    for step in range(2):
        with schedule.iteration(step) as planned:
            network(torch.ones(4, 2)).sum().backward()
        network.zero_grad(set_to_none=True)
        if step == 0:
            assert not planned.active.all()
            seen = counter.frame_count
    assert counter.frame_count > seen > 0


def test_closing_undoes_it():
    network = VIT.build()
    with rdp.ResidualDropPath(network, 0.5) as schedule:
        schedule.compile(backend="eager")
        assert all(block._compiled_call_impl is not None for block in network.blocks)
    assert all(block._compiled_call_impl is None for block in network.blocks)
    x = VIT.batch()[0]
    assert torch.equal(network(x), VIT.build()(x))


def test_a_copy_of_a_compiled_model_is_a_plain_one():
    schedule, counter = rdp.ResidualDropPath(VIT.build(), 0.5), CompileCounter()
    schedule.compile(backend=counter)
    copied = copy.deepcopy(schedule.model)
    x = VIT.batch()[0]
    assert torch.equal(copied(x), VIT.build()(x))
    assert counter.frame_count == 0


class TestWholeModel:
    def run(self, model: torch.nn.Module, schedule: rdp.Schedule) -> None:
        with schedule.iteration(0):
            F.cross_entropy(model(VIT.batch()[0]), VIT.batch()[1]).backward()

    def test_a_compiled_model_warns_of_recompilation(self):
        compiled = torch.compile(VIT.build(), backend="eager")
        with pytest.warns(UserWarning, match=r"every new mask compiles it again.*schedule\.compile\(\)"):
            schedule = rdp.ResidualDropPath(compiled, 0.5)
        self.run(compiled, schedule)

    @pytest.mark.parametrize("how", ["torch.compile(model)", "model.compile()"])
    def test_a_model_compiled_after_the_schedule_warns_too(self, how):
        network = VIT.build()
        schedule = rdp.ResidualDropPath(network, 0.5)
        if how == "model.compile()":
            network.compile(backend="eager")
        else:
            network = torch.compile(network, backend="eager")
        with pytest.warns(UserWarning, match="every new mask compiles it again"):
            self.run(network, schedule)

    def test_it_is_so(self):
        network, counter = VIT.build(), CompileCounter()
        schedule = rdp.ResidualDropPath(network, 0.5, schedule="uniform")
        model, masks = torch.compile(network, backend=counter), []
        for step in range(0, 8, 2):
            with warnings.catch_warnings(), schedule.iteration(step) as planned, torch.no_grad():
                warnings.simplefilter("ignore", UserWarning)  # as tested above
                model(VIT.batch()[0])
            masks.append(tuple(planned.active))
        assert len(set(masks)) == 4
        assert counter.frame_count >= 4
