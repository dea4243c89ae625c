"""PyTorch Lightning: its training with the callback is the loop of the documentation, bit for bit."""

import copy
import doctest
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import rdp
from rdp.errors import UserError
from tests.helpers.tiny import TINY
from tests.integrations.loops import is_plain, same_weights, train

L = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import EMAWeightAveraging  # noqa: E402

from rdp.integrations.lightning import ScheduleCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # its advice about workers, loggers and clusters
VIT = TINY["vit"]
METHOD = rdp.make_method("residual_droppath", rate=0.5)
BATCHES = [VIT.batch(seed=i) for i in range(5)]
IMAGES = [TINY["resnet"].batch(seed=i) for i in range(5)]


class Module(L.LightningModule):
    """A classifier that validates, with a teacher that trains nothing."""

    def __init__(self, network: nn.Module, teacher: nn.Module | None = None, lr: float = 0.01) -> None:
        super().__init__()
        self.network, self.teacher, self.lr = network, teacher, lr
        self.validated = 0

    def training_step(self, batch, index):
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, index):
        assert not self.network.training
        self.validated += 1
        self.log("loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.network.parameters(), lr=self.lr, weight_decay=0.1)


def loader(batches) -> DataLoader:
    return DataLoader(batches, batch_size=None)


def fit(
    module: L.LightningModule, callback, batches=BATCHES, *, resume: Path | None = None, trainer=L.Trainer, **options
):
    """Fit with little else; the trainer."""
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"max_epochs": 3, "accelerator": "cpu", "enable_checkpointing": False, "callbacks": [callback]}
    made = trainer(**(silent | given | options))
    made.fit(module, loader(batches), loader(batches[:2]), ckpt_path=resume)
    return made


def adamw(network: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.1)


class TestTraining:
    @pytest.mark.parametrize("accumulate", [1, 2])
    @pytest.mark.parametrize(("name", "batches"), [("vit", BATCHES), ("resnet", IMAGES)])
    def test_it_is_the_loop_of_the_documentation(self, name, batches, accumulate):
        """Epochs of five mini-batches, so with accumulation of three steps, the last of one mini-batch."""
        module, network = Module(TINY[name].build()), TINY[name].build()
        fit(module, ScheduleCallback(METHOD), batches, accumulate_grad_batches=accumulate, val_check_interval=2)
        assert module.validated == 2 + 2 * 3 * 2  # at the start, and twice an epoch
        kinds = train(network, METHOD, [batches] * 3, adamw(network), accumulate=accumulate)
        assert set(kinds) == {"drop", "recover"}
        assert same_weights(module.network, network)
        assert is_plain(module)

    def test_clipping_and_options_that_need_the_length_of_training_are_those_of_the_loop(self):
        options = {"hold": "epoch", "drop_from": 0.2, "drop_until": 0.8, "recover_lr_scale": 2.0}
        method = rdp.make_method("residual_droppath", rate=0.5, **options)
        module, network = Module(VIT.build()), VIT.build()
        fit(module, ScheduleCallback(method), accumulate_grad_batches=2, gradient_clip_val=0.1)
        kinds = train(network, method, [BATCHES] * 3, adamw(network), accumulate=2, clip=0.1)
        assert kinds == ["full", "full", "drop", "recover", "drop", "recover", "drop", "recover", "full"]
        assert same_weights(module.network, network)

    def test_an_average_of_weights_is_that_of_the_loop(self):
        module, network, by_hand = Module(VIT.build()), VIT.build(), []

        @torch.no_grad()
        def update():
            if by_hand:
                torch._foreach_lerp_(by_hand, [*network.parameters()], 0.5)
            else:  # Lightning's begins with the weights after the first step
                by_hand.extend(copy.deepcopy([*network.parameters()]))

        fit(module, None, callbacks=[ScheduleCallback(METHOD), EMAWeightAveraging(decay=0.5)])
        train(network, METHOD, [BATCHES] * 3, adamw(network), after_step=update)
        assert is_plain(module)
        for found, expected in zip(module.network.parameters(), by_hand, strict=True):  # Lightning copies them in
            torch.testing.assert_close(found, expected)

    def test_the_trainer_of_the_older_package_runs_it_too(self):
        older = pytest.importorskip("pytorch_lightning")

        class Older(older.LightningModule):
            training_step = Module.training_step

        module, network = Older(), VIT.build()
        module.network = VIT.build()
        module.configure_optimizers = lambda: adamw(module.network)
        fit(module, ScheduleCallback(METHOD), trainer=older.Trainer)
        train(network, METHOD, [BATCHES] * 3, adamw(network))
        assert same_weights(module.network, network)

    def test_only_the_named_submodule_is_dropped_and_frozen(self):
        module = Module(VIT.build(), teacher=VIT.build(1))
        seen = []

        class Spy(L.Callback):
            def on_train_batch_end(self, trainer, module, *_):
                seen.append((is_plain(module.network), is_plain(module.teacher)))

        fit(module, None, callbacks=[Spy(), ScheduleCallback(METHOD, submodule="network")])
        assert {*seen} == {(False, True)}


class Half(Module):
    """Each of two processes reads its half of a mini-batch."""

    def training_step(self, batch, index):
        part = slice(self.global_rank, None, self.trainer.world_size)
        return F.cross_entropy(self.network(batch[0][part].double()), batch[1][part])

    def validation_step(self, batch, index):
        pass


@pytest.mark.slow
class TestTwoProcesses:
    def test_they_train_like_one_on_the_joined_batches(self):
        alone, module = Half(VIT.build().double()), Half(VIT.build().double())
        fit(alone, ScheduleCallback(METHOD), accumulate_grad_batches=2)
        together = {"strategy": "ddp_spawn_find_unused_parameters_true", "devices": 2, "use_distributed_sampler": False}
        fit(module, ScheduleCallback(METHOD), accumulate_grad_batches=2, **together)
        for found, expected in zip(module.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)

    def test_a_strategy_that_waits_for_unused_parameters_is_refused(self):
        with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="pass find_unused_parameters=True"):
            fit(Half(VIT.build().double()), ScheduleCallback(METHOD), strategy="ddp_spawn", devices=2)


class TestOptions:
    def test_they_are_those_of_the_schedule(self):
        modules = [Module(VIT.build()) for _ in range(3)]
        for module, options in zip(modules, ({}, {"seed": 0}, {"seed": 1}), strict=True):
            fit(module, ScheduleCallback(METHOD, **options))
        assert same_weights(modules[0], modules[1])
        assert not same_weights(modules[0], modules[2])

    def test_a_number_of_steps_may_be_given(self):
        """Of a training that goes on after this one, say."""
        method = rdp.make_method("residual_droppath", rate=0.5, drop_from=0.9)
        module, plain = Module(VIT.build()), Module(VIT.build())
        fit(module, ScheduleCallback(method, steps=1000))
        fit(plain, L.Callback())
        assert same_weights(module, plain)


class TestResume:
    @pytest.mark.parametrize("name", ["vit", "resnet"])
    def test_it_is_bitwise_equal_from_a_checkpoint_between_a_drop_and_a_recover_step(self, name, tmp_path):
        batches = BATCHES if name == "vit" else IMAGES
        whole, first, rest = (Module(TINY[name].build(seed)) for seed in (0, 0, 1))
        options = {"accumulate_grad_batches": 2}  # three steps an epoch
        fit(whole, ScheduleCallback(METHOD), batches, **options)
        stopped = fit(first, ScheduleCallback(METHOD), batches, max_epochs=1, **options)
        stopped.save_checkpoint(tmp_path / "last.ckpt")
        resumed = fit(rest, ScheduleCallback(METHOD), batches, resume=tmp_path / "last.ckpt", **options)
        assert (stopped.global_step, resumed.global_step) == (3, 9)
        assert same_weights(rest, whole)
        assert not same_weights(first, whole)

    def test_the_same_callback_goes_on_with_the_steps_of_its_trainer_and_starts_again_with_another(self):
        callback, module = ScheduleCallback(METHOD), Module(VIT.build())
        trainer = fit(module, callback, max_epochs=1)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(module, loader(BATCHES))
        assert trainer.global_step == 10
        assert fit(module, callback, max_epochs=1).global_step == 5


class TestGradients:
    def test_a_module_that_sets_gradients_to_zero_is_stopped_before_frozen_weights_move(self):
        """Zero gradients would move them, by their momentum."""

        class Zeroing(Module):
            def optimizer_zero_grad(self, epoch, index, optimizer):
                optimizer.zero_grad(set_to_none=False)

        module, network = Zeroing(VIT.build()), VIT.build()
        with pytest.raises(UserError, match=r"^schedule\.iteration\(1\): .* freezes hold gradients"):
            fit(module, ScheduleCallback(METHOD))
        train(network, METHOD, [BATCHES[:1]], adamw(network))
        assert same_weights(module.network, network)
        assert is_plain(module)

    def test_frozen_weights_do_not_move(self):
        module, moved = Module(VIT.build()), []

        class Spy(L.Callback):
            def on_train_batch_start(self, trainer, module, *_):
                self.before = copy.deepcopy(module.network.state_dict())

            def on_before_optimizer_step(self, trainer, module, optimizer):
                self.frozen = {key for key, p in module.network.named_parameters() if not p.requires_grad}

            def on_train_batch_end(self, trainer, module, *_):
                changed = {key for key, p in module.network.named_parameters() if not torch.equal(p, self.before[key])}
                assert changed == {*self.before} - self.frozen
                moved.append(len(changed))

        fit(module, None, callbacks=[ScheduleCallback(METHOD), Spy()])
        assert 0 < min(moved) < max(moved) < len(module.network.state_dict())


class TestEnds:
    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_an_error_leaves_a_plain_model_and_a_callback_for_the_next_training(self, error):
        class Failing(Module):
            def training_step(self, batch, index):
                if self.trainer.global_step == 3:
                    raise error
                return super().training_step(batch, index)

        callback, module = ScheduleCallback(METHOD), Failing(VIT.build())
        with pytest.raises((error, SystemExit)):
            fit(module, callback)
        assert is_plain(module)
        fit(Module(module.network), callback)
        assert callback.schedule is None

    def test_a_skipped_mini_batch_leaves_validation_whole(self):
        class Skipping(Module):
            def on_train_batch_start(self, batch, index):
                return -1 if index == 3 else None

        module, network = Skipping(VIT.build()), VIT.build()
        fit(module, ScheduleCallback(METHOD))
        train(network, METHOD, [BATCHES[:3]] * 3, adamw(network))
        assert same_weights(module.network, network)


def test_the_example_of_the_docstring_holds():
    found = doctest.testmod(rdp.integrations.lightning)
    assert (found.attempted, found.failed) == (4, 0)


class TestRefusals:
    def test_manual_optimization(self):
        module = Module(VIT.build())
        module.automatic_optimization = False
        with pytest.raises(UserError, match=r"^Module: with manual optimization, .* schedule\.iteration\(step\)"):
            fit(module, ScheduleCallback(METHOD))

    def test_a_method_that_draws_one_mask_per_example(self):
        with pytest.raises(UserError, match=r"^ScheduleCallback: droppath draws one mask per .*droppath_batch"):
            ScheduleCallback(rdp.make_method("droppath", rate=0.1))

    def test_a_method_that_reads_a_mini_batch_twice(self):
        with pytest.raises(UserError, match=r"^ScheduleCallback: reuse_batch: a callback does not choose"):
            ScheduleCallback(rdp.make_method("residual_droppath", rate=0.1, reuse_batch=True))

    def test_an_option_that_no_schedule_has(self):
        with pytest.raises(TypeError, match="unexpected keyword argument 'rate'"):
            ScheduleCallback(METHOD, rate=0.1)

    def test_an_unknown_submodule(self):
        with pytest.raises(UserError, match=r"^Module: it has no submodule 'student'$"):
            fit(Module(VIT.build()), ScheduleCallback(METHOD, submodule="student"))

    def test_an_optimizer_that_moves_frozen_weights(self):
        module = Module(VIT.build())
        module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters())
        with pytest.raises(UserError, match=r"^schedule\.attach: LBFGS moves"):
            fit(module, ScheduleCallback(METHOD))
        assert is_plain(module)

    def test_a_missing_extra(self, run_python):
        code = "import sys; sys.modules['lightning'] = None; import rdp.integrations.lightning"
        assert "pip install 'residual-droppath[integrations]'" in run_python("-c", code).stderr
