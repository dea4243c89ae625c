"""Hugging Face Trainer: its training with the callback is the loop of the documentation, bit for bit."""

import doctest
from pathlib import Path

import pytest
import torch
from torch import nn

import rdp
from rdp.errors import UserError
from tests.helpers.tiny import CLASSES
from tests.integrations.loops import is_plain, same_weights, train

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from accelerate import debug_launcher
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from rdp.integrations.transformers import ScheduleCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # its advice about loaders and memory
METHOD = rdp.make_method("residual_droppath", rate=0.5)
SIZE, EXAMPLES = 4, 18  # of a mini-batch, and in all: five mini-batches, the last of two examples
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(EXAMPLES, 3, 32, 32, generator=GENERATOR)
Y = torch.randint(0, CLASSES, (EXAMPLES,), generator=GENERATOR)
DATA = [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)]
BATCHES = [*zip(X.split(SIZE), Y.split(SIZE), strict=True)]


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    shape = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 8, 12, 12], "num_labels": CLASSES}
    return ConvNextForImageClassification(ConvNextConfig(layer_scale_init_value=1.0, **shape))


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)


def make_trainer(
    network: nn.Module, folder: Path, callback, *, optimizer=None, data=DATA, kind=Trainer, **options
) -> Trainer:
    given = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": SIZE,
        "max_grad_norm": 0.1,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(folder, **(given | options))
    optimizers = (optimizer, None)
    if optimizer is not None:
        optimizers = (optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0))
    return kind(
        network, arguments, train_dataset=data, eval_dataset=data[:4], callbacks=[callback], optimizers=optimizers
    )


class TestTraining:
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_it_is_the_loop_of_the_documentation(self, accumulate, tmp_path):
        """With evaluation in between; with accumulation of three steps an epoch, the last of one mini-batch."""
        options = {"hold": "epoch", "drop_from": 0.1, "drop_until": 0.8, "recover_lr_scale": 2.0}
        method = rdp.make_method("residual_droppath", rate=0.5, **options)
        found, network = build(), build()
        trainer = make_trainer(
            found,
            tmp_path,
            ScheduleCallback(method),
            optimizer=adamw(found),
            gradient_accumulation_steps=accumulate,
            eval_strategy="steps",
            eval_steps=1,
        )
        trainer.train()
        kinds = train(
            network, method, [BATCHES] * 3, adamw(network), accumulate=accumulate, clip=0.1, divide_by_all=False
        )
        assert {*kinds} == {"full", "drop", "recover"}
        assert trainer.state.global_step == len(kinds)
        assert sum("eval_loss" in entry for entry in trainer.state.log_history) == len(kinds)
        assert same_weights(found, network)
        assert is_plain(found)


def work(folder: Path, size: int) -> None:
    """One of several processes, each with a mini-batch of ``size`` examples."""
    network = build().double()
    data = [{"pixel_values": x.double(), "labels": y} for x, y in zip(X[:16], Y[:16], strict=True)]
    options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 2, "num_train_epochs": 2}
    trainer = make_trainer(network, folder, ScheduleCallback(METHOD), data=data, optimizer=adamw(network), **options)
    trainer.train()
    assert trainer.state.global_step == 4
    torch.save(network.state_dict(), folder / f"{trainer.args.process_index} of {trainer.args.world_size}.pt")


@pytest.mark.slow
def test_two_processes_train_like_one_on_the_joined_batches(tmp_path):
    debug_launcher(work, (tmp_path, 2), num_processes=2)
    work(tmp_path, 4)
    one, other, alone = (torch.load(tmp_path / f"{name}.pt") for name in ("0 of 2", "1 of 2", "0 of 1"))
    for key, value in alone.items():
        assert torch.equal(one[key], other[key])
        torch.testing.assert_close(one[key], value, rtol=1e-7, atol=1e-9)


class TestResume:
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_it_is_bitwise_equal_from_within_an_epoch_between_a_drop_and_a_recover_step(self, accumulate, tmp_path):
        options = {
            "gradient_accumulation_steps": accumulate,
            "train_sampling_strategy": "random",
            "save_strategy": "steps",
            "save_steps": 3 if accumulate == 1 else 5,
        }
        whole, rest = build(), build(1)
        trainer = make_trainer(whole, tmp_path, ScheduleCallback(METHOD), **options)
        trainer.train()
        resumed = make_trainer(rest, tmp_path / "resumed", ScheduleCallback(METHOD), **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{options['save_steps']}"))
        assert resumed.state.global_step == trainer.state.global_step == (15 if accumulate == 1 else 9)
        assert same_weights(whole, rest)

    def test_a_saved_model_is_a_plain_one(self, tmp_path):
        network = build()
        make_trainer(network, tmp_path, ScheduleCallback(METHOD), save_strategy="epoch").train()
        loaded = ConvNextForImageClassification.from_pretrained(tmp_path / "checkpoint-15")
        assert is_plain(loaded)
        assert same_weights(loaded, network)


class TestEnds:
    def test_a_training_that_an_error_stopped_leaves_room_for_the_next(self, tmp_path):
        class Failing(Trainer):
            def compute_loss(self, *args, **options):
                if self.state.global_step == 3:
                    raise ZeroDivisionError
                return super().compute_loss(*args, **options)

        callback, network = ScheduleCallback(METHOD), build()
        with pytest.raises(ZeroDivisionError):
            make_trainer(network, tmp_path, callback, kind=Failing).train()
        make_trainer(network, tmp_path, callback).train()
        assert is_plain(network)

    def test_a_training_that_ctrl_c_stopped_evaluates_every_branch_and_can_be_closed(self, tmp_path):
        class Stopped(Trainer):
            def training_step(self, *args, **options):
                super().training_step(*args, **options)
                raise KeyboardInterrupt

        callback, network = ScheduleCallback(METHOD), build()
        trainer = make_trainer(network, tmp_path, callback, kind=Stopped)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        assert trainer.evaluate()["eval_loss"] == make_trainer(build(), tmp_path, callback).evaluate()["eval_loss"]
        callback.close()
        assert is_plain(network)

    def test_a_new_training_starts_at_step_0(self, tmp_path):
        callback, network = ScheduleCallback(METHOD), build()
        trainer = make_trainer(network, tmp_path, callback)
        for _ in range(2):
            trainer.train()
            assert trainer.state.global_step == 15


def test_the_example_of_the_docstring_holds():
    found = doctest.testmod(rdp.integrations.transformers)
    assert (found.attempted, found.failed) == (2, 0)


class TestRefusals:
    def test_an_optimizer_that_moves_frozen_weights(self, tmp_path):
        network = build()
        optimizer = torch.optim.LBFGS(network.parameters())
        with pytest.raises(UserError, match=r"^schedule\.attach: LBFGS moves"):
            make_trainer(network, tmp_path, ScheduleCallback(METHOD), optimizer=optimizer).train()
        assert is_plain(network)

    def test_reentrant_checkpointing(self, tmp_path):
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        vit = ViTForImageClassification(ViTConfig(**sizes, image_size=32, num_labels=CLASSES))
        options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
        with pytest.raises(UserError, match=r"^gradient_checkpointing_kwargs: use_reentrant is true; pass "):
            make_trainer(vit, tmp_path, ScheduleCallback(METHOD), **options).train()
