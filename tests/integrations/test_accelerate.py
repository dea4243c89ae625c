"""Accelerate: the loop of docs/accelerate.md is the loop of the documentation, bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import rdp
from tests.helpers.tiny import TINY
from tests.integrations.loops import same_weights, train

pytest.importorskip("accelerate")
from accelerate import Accelerator, DistributedDataParallelKwargs, debug_launcher
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DataLoaderConfiguration

pytestmark = pytest.mark.filterwarnings("ignore")  # its advice about launching
VIT = TINY["vit"]
METHOD = rdp.make_method("residual_droppath", rate=0.5, recover_lr_scale=2.0)
BATCHES = [VIT.batch(4, seed=i) for i in range(5)]
EXAMPLES = [example for x, y in BATCHES for example in zip(x, y, strict=True)]


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)


@pytest.fixture(autouse=True)
def _state():
    """Accelerate keeps its settings for the process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Training:
    """A model, its schedule and what Accelerate makes of them."""

    def __init__(self, seed: int = 0, accumulate: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.accelerator = Accelerator(
            cpu=True,
            gradient_accumulation_steps=accumulate,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
        self.network, self.dtype = VIT.build(seed).to(dtype), dtype
        self.schedule = rdp.Schedule(self.network, METHOD)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            self.network, adamw(self.network), DataLoader(EXAMPLES, batch_size=4)
        )
        self.schedule.attach(self.optimizer)

    def run(self, steps: range) -> None:
        """Optimizer steps in whole epochs."""
        step, per_epoch = steps.start, -(-len(BATCHES) // self.accelerator.gradient_accumulation_steps)
        for _ in range(steps.start // per_epoch, steps.stop // per_epoch):
            for x, y in self.loader:
                with self.accelerator.accumulate(self.model):
                    with self.schedule.iteration(step):
                        loss = F.cross_entropy(self.model(x.to(self.dtype)), y)
                        self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), 0.1)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                step += self.accelerator.sync_gradients
        assert step == steps.stop


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_loop_of_the_documentation(accumulate):
    """With accumulation of three steps an epoch, the last of one mini-batch; the prepared optimizer is attached."""
    training, network = Training(accumulate=accumulate), VIT.build()
    kinds = train(network, METHOD, [BATCHES] * 2, adamw(network), accumulate=accumulate, clip=0.1)
    training.run(range(len(kinds)))
    assert {*kinds} == {"drop", "recover"}
    assert same_weights(training.network, network)


def test_a_resumed_training_is_bitwise_equal(tmp_path):
    whole = Training(accumulate=2)
    whole.run(range(3))  # up to a drop step, whose units the next step recovers
    whole.accelerator.save_state(tmp_path)
    whole.run(range(3, 9))
    rest = Training(1, accumulate=2)
    rest.accelerator.load_state(tmp_path)
    rest.run(range(3, 9))
    assert same_weights(rest.network, whole.network)


def test_with_a_scaler_a_second_optimizer_for_the_head_is_stepped_where_the_head_is_trained():
    """As docs/accelerate.md says. Accelerate makes its scaler on a GPU only, so this one is given to it."""
    Accelerator(cpu=True)
    networks = [VIT.build(), VIT.build()]
    method = rdp.make_method("residual_droppath", rate=0.5)
    kinds = train(networks[0], method, [BATCHES[:4]], adamw(networks[0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    rest = nn.ModuleList(module for name, module in networks[1].named_children() if name != "head")
    rest.extra = nn.ParameterList([networks[1].cls_token, networks[1].pos_embed])
    optimizers = [AcceleratedOptimizer(adamw(part), scaler=scaler) for part in (rest, networks[1].head)]
    schedule = rdp.Schedule(networks[1], method)
    for step, (x, y) in enumerate(BATCHES[:4]):
        with schedule.iteration(step) as iteration:
            scaler.scale(F.cross_entropy(networks[1](x), y)).backward()
        optimizers[0].step()
        if iteration.rest_trained:
            optimizers[1].step()
        else:
            with pytest.raises(AssertionError, match="No inf checks were recorded"):
                optimizers[1].step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    assert kinds == ["drop", "recover"] * 2
    assert same_weights(*networks)


def work(folder: Path) -> None:
    """One of two processes, on its half of each mini-batch."""
    training = Training(accumulate=2, dtype=torch.float64)
    training.run(range(6))
    torch.save(training.network.state_dict(), folder / f"rank{training.accelerator.process_index}.pt")


@pytest.mark.slow
def test_two_processes_train_like_one_on_the_joined_batches(tmp_path):
    debug_launcher(work, (tmp_path,), num_processes=2)
    alone = Training(accumulate=2, dtype=torch.float64)
    alone.run(range(6))
    one, other = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    for key, value in alone.network.state_dict().items():
        assert torch.equal(one[key], other[key])
        torch.testing.assert_close(one[key], value, rtol=1e-7, atol=1e-9)
