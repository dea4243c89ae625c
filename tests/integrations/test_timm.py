"""The loop of timm's train.py with the lines of docs/timm.md, and all its options at once."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.models import model_parameters
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import rdp
from rdp.methods import Training
from tests.helpers.tiny import CLASSES, TINY, Tiny, set_factors
from tests.integrations.loops import same_weights

EPOCHS, BATCHES, ACCUMULATE, SIZE = 2, 5, 2, 4
UPDATES = 3  # in an epoch
HALF = {"rate": 0.5, "schedule": "uniform"}  # a kept branch is doubled, which rounds nothing
Enter = Callable[[int], AbstractContextManager[object]]


def train(network: nn.Module, model: nn.Module, tiny: Tiny, enter: Enter, rank: int = 0) -> nn.Module:
    """Train with Lion, mixup, bfloat16, adaptive clipping, accumulation and a learning rate schedule; the average."""
    np.random.seed(rank)  # noqa: NPY002 (Mixup draws from it)
    optimizer = create_optimizer_v2(model, opt="lion", lr=1e-3, weight_decay=0.1)
    scheduler, _ = create_scheduler_v2(optimizer, num_epochs=EPOCHS, updates_per_epoch=UPDATES, step_on_epochs=False)
    model_ema = ModelEmaV3(network, decay=0.75, foreach=False)
    mixup_fn = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=CLASSES)
    loss_fn = SoftTargetCrossEntropy()
    for epoch in range(EPOCHS):
        model.train()
        num_updates = epoch * UPDATES
        optimizer.zero_grad()
        for batch_idx in range(BATCHES):
            need_update = batch_idx == BATCHES - 1 or (batch_idx + 1) % ACCUMULATE == 0
            accum_steps = ACCUMULATE if batch_idx < BATCHES - BATCHES % ACCUMULATE else BATCHES % ACCUMULATE
            x, y = mixup_fn(*tiny.batch(SIZE, seed=100 * rank + BATCHES * epoch + batch_idx))
            with enter(num_updates):
                no_sync = hasattr(model, "no_sync") and not need_update
                with model.no_sync() if no_sync else contextlib.nullcontext():
                    with torch.autocast("cpu", torch.bfloat16):
                        loss = loss_fn(model(x), y) / accum_steps
                    loss.backward()
                    if need_update:
                        dispatch_clip_grad(model_parameters(model, exclude_head=True), value=0.05, mode="agc")
                        optimizer.step()
            if not need_update:
                continue
            num_updates += 1
            optimizer.zero_grad()
            model_ema.update(network, step=num_updates)
            scheduler.step_update(num_updates=num_updates)
        for evaluated in (model.eval(), model_ema.module):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                assert evaluated(tiny.batch()[0]).isfinite().all()
    return model_ema.module


def by_hand(tiny: Tiny, reference: nn.Module, seed: int) -> Enter:
    """Cuts branches out of a hand-written model and freezes parameters, as the method plans for a step."""
    method = rdp.make_method("residual_droppath", **HALF)

    @contextlib.contextmanager
    def enter(step: int) -> Iterator[None]:
        planned = method.iteration(step, Training(len(tiny.units), 1, seed))
        trained = {unit for unit, is_trained in zip(tiny.units, planned.trained, strict=True) if is_trained}
        if planned.kind == "drop":
            set_factors(reference, [2.0 if unit in trained else 0.0 for unit in tiny.units])
            trained = {*trained, None}
        for key, parameter in reference.named_parameters():
            parameter.requires_grad_(tiny.owner(key) in trained)
        yield
        set_factors(reference, [1.0] * len(tiny.units))

    return enter


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext"])
def test_it_is_the_same_loop_over_cut_and_frozen_models_written_by_hand(name):
    tiny = TINY[name]
    network = tiny.build()
    reference = tiny.by_hand(network)
    schedule = rdp.ResidualDropPath(network, **HALF, seed=1)
    average = train(network, network, tiny, schedule.iteration)
    expected = train(reference, reference, tiny, by_hand(tiny, reference, 1))
    assert same_weights(network, reference)
    assert same_weights(average, expected)
    assert not same_weights(network, tiny.build())


def work(rank: int, folder: Path) -> None:
    """One of two processes, with mini-batches of its own; the frozen parameters of each update, by name."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    network = TINY["vit"].build()
    schedule = rdp.ResidualDropPath(network, **HALF, seed=1)
    model = DistributedDataParallel(network, find_unused_parameters=True)
    moved: dict[int, set[str]] = {}
    trained: dict[int, set[str]] = {}

    @contextlib.contextmanager
    def enter(step: int) -> Iterator[None]:
        before = {key: p.detach().clone() for key, p in network.named_parameters()}
        with schedule.iteration(step):
            trained[step] = {key for key, p in network.named_parameters() if p.requires_grad}
            yield
        moved[step] = {key for key, p in network.named_parameters() if not torch.equal(p, before[key])}

    average = train(network, model, TINY["vit"], enter, rank)
    found = {"weights": network.state_dict(), "average": average.state_dict(), "moved": moved, "trained": trained}
    torch.save(found, folder / f"rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_the_same_weights_and_move_none_that_are_frozen(tmp_path):
    multiprocessing.spawn(work, args=(tmp_path,), nprocs=2)
    one, other = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    for kind in ("weights", "average"):
        assert all(torch.equal(value, other[kind][key]) for key, value in one[kind].items())
    assert len(one["moved"]) == EPOCHS * UPDATES
    assert one["moved"] == one["trained"] == other["moved"]
