"""Runs that end within an epoch, reuse a mini-batch, or train a transformer."""

import numpy as np
import pytest
import torch

from rdp.jobs.runner import run_job
from rdp.store import Store
from rdp.tables.collect import usable_record
from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint
from rdp.training.optimizers import learning_rate
from rdp.training.trainer import Trainer

PER_EPOCH = 10


class Stop(Exception):
    """Raised where a job would be killed."""


def train(run: Trainer) -> dict:
    """All that a run's record will hold as numbers, predictions included."""
    run.train(lambda run: None)
    numbers, predictions, _ = run.finish()
    return numbers | {name: found.tolist() for name, found in predictions.items()}


def stop_and_go_on(make, step: int, folder) -> dict:
    """Train to a step, and from a checkpoint to the end in a new network."""

    def after_step(run: Trainer) -> None:
        if run.step == step:
            raise Stop

    run = make()
    with pytest.raises(Stop):
        run.train(after_step)
    folder.mkdir()
    checkpoint.save(folder, Checkpoint(run.step, {}, *run.state()))
    run = make()
    run.restore(checkpoint.latest([folder], {})[0])
    return train(run)


class TestEndWithinAnEpoch:
    """A budget of operations ends a run of residual_droppath where its steps have cost what vanilla's would."""

    @pytest.fixture
    def make(self, make_spec, make_run):
        spec = make_spec("residual_droppath", {"rate": 0.5}, budget="flops", epochs=3, validate_every=2)
        run = make_run(spec)
        assert run.steps > 3 * PER_EPOCH
        assert run.steps % PER_EPOCH
        return lambda: make_run(spec)

    def test_the_last_row_of_the_history_covers_the_steps_done(self, make):
        run, losses = make(), []
        run.train(lambda run: losses.append(run.state()[0]["losses"][(run.step - 1) % PER_EPOCH].item()))
        assert len(losses) == run.steps
        assert [row["step"] for row in run.history] == [*range(PER_EPOCH, run.steps, PER_EPOCH), run.steps]
        assert [row["epoch"] for row in run.history] == list(range(1, len(run.history) + 1))
        for row in run.history:
            first = (row["epoch"] - 1) * PER_EPOCH
            assert row["train_loss"] == pytest.approx(np.mean(losses[first : row["step"]]), rel=1e-6), row["epoch"]

    def test_its_accuracy_covers_only_the_examples_of_those_steps(self, make):
        run = make()
        run.train(lambda run: None)
        counted = run.history[-1]["train_accuracy"] * (run.steps % PER_EPOCH) * 50
        assert counted == pytest.approx(round(counted))
        assert 0.3 < run.history[-1]["train_accuracy"] <= 1

    def test_it_is_validated_at_its_end(self, make):
        run = make()
        run.train(lambda run: None)
        validated = [row["epoch"] for row in run.history if row["validation_accuracy"] is not None]
        assert validated == sorted({2, *range(2, len(run.history) + 1, 2), len(run.history)})

    def test_resumed_at_any_step_it_equals_the_uninterrupted_run(self, make, tmp_path):
        undisturbed = train(make())
        steps = undisturbed["steps"]
        full = steps - steps % PER_EPOCH
        for step in (5, full - 1, full, full + 1, steps - 1, steps):
            assert stop_and_go_on(make, step, tmp_path / str(step)) == undisturbed, step

    def test_its_learning_rate_decays_until_its_last_step(self, make):
        run, rates = make(), []
        step = run.optimizer.step
        run.optimizer.step = lambda rate: (rates.append(rate), step(rate))
        run.train(lambda run: None)
        rise = round(0.1 * run.steps)
        assert max(rates) == rates[rise] == run.recipe.learning_rate
        assert rates[rise:] == sorted(rates[rise:], reverse=True)
        assert 0 < rates[-1] < 0.02 * run.recipe.learning_rate

    def test_a_divergence_in_the_last_partial_epoch_has_its_step(self, make):
        run = make()
        last = run.steps - 1

        def spoil(run: Trainer) -> None:
            if run.step == last:
                with torch.no_grad():
                    next(run.network.parameters()).fill_(float("nan"))

        run.train(spoil)
        assert run.diverged_step == last
        assert [row["step"] for row in run.history] == list(range(PER_EPOCH, last, PER_EPOCH))


def batches_read(run: Trainer) -> list[torch.Tensor]:
    """What the network reads in each step of a run."""
    seen: list[torch.Tensor] = []

    def look(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if network.training:
            seen.append(inputs[0].clone())

    run.network.register_forward_pre_hook(look)
    run.train(lambda run: None)
    assert len(seen) == run.steps
    return seen


class TestReusedBatch:
    @pytest.mark.parametrize(
        "small",
        [
            {},
            {"architecture": "resnet20", "dataset": "digits", "batch_size": 16, "train_size": 64}
            | {"crop_padding": 1, "flip": True},
        ],
        ids=["points", "augmented images"],
    )
    def test_both_iterations_of_a_pair_read_the_same_examples(self, small, make_spec, make_run):
        run = make_run(make_spec("residual_droppath", {"rate": 0.5, "reuse_batch": True}, **small))
        expected = [run.batches.batch(pair)[0] for pair in range(run.steps // 2)]
        seen = batches_read(run)
        for pair, batch in enumerate(expected):
            assert torch.equal(seen[2 * pair], batch)
            assert torch.equal(seen[2 * pair + 1], batch)
        assert not torch.equal(seen[1], seen[2])

    def test_by_default_each_reads_its_own(self, make_spec, make_run):
        run = make_run(make_spec("residual_droppath", {"rate": 0.5}))
        seen = batches_read(run)
        assert all(torch.equal(x, run.batches.batch(step)[0]) for step, x in enumerate(seen))
        assert len({x.numpy().tobytes() for x in seen}) == run.steps

    def test_a_pair_that_drops_nothing_reads_the_same_examples_too(self, make_spec, make_run):
        options = {"rate": 0.01, "redraw": False, "reuse_batch": True}
        run = make_run(make_spec("residual_droppath", options))
        kinds = {run.iteration(step).kind for step in range(run.steps)}
        assert "full" in kinds
        seen = batches_read(run)
        assert all(torch.equal(*seen[2 * pair : 2 * pair + 2]) for pair in range(run.steps // 2))

    def test_resumed_within_a_pair_it_equals_the_uninterrupted_run(self, make_spec, make_run, tmp_path):
        spec = make_spec("residual_droppath", {"rate": 0.5, "reuse_batch": True})
        undisturbed = train(make_run(spec))
        for step in (3, 11):
            assert stop_and_go_on(lambda: make_run(spec), step, tmp_path / str(step)) == undisturbed


OVER_TIME = {"rate": 0.5, "hold": 2, "drop_from": 0.2, "drop_until": 0.7, "recover_lr_scale": 2.0}


class TestOptionsOverTime:
    """Masks that are held, dropping in a part of training, and recover iterations at another learning rate."""

    @pytest.mark.parametrize("method", ["residual_droppath", "random_freeze"])
    def test_the_learning_rate_of_recover_steps_is_multiplied(self, method, make_spec, make_run):
        run, rates = make_run(make_spec(method, OVER_TIME)), []
        step = run.optimizer.step
        run.optimizer.step = lambda rate: (rates.append(rate), step(rate))
        run.train(lambda run: None)
        recovers = [5, 7, 9, 11, 13]  # the odd ones of steps 4 to 13 of 20
        for number, rate in enumerate(rates):
            factor = 2 if number in recovers else 1
            assert rate == factor * learning_rate(run.recipe, number, run.steps), number

    @pytest.mark.parametrize("options", [{}, {"hold": "epoch"}, {"reuse_batch": True}])
    @pytest.mark.parametrize("budget", ["steps", "flops", "updates"])
    def test_resumed_it_equals_the_uninterrupted_run(self, options, budget, make_spec, make_run, tmp_path):
        spec = make_spec("residual_droppath", OVER_TIME | options, budget=budget)
        undisturbed = train(make_run(spec))
        first, last = (round(share * undisturbed["steps"]) for share in (0.2, 0.7))
        for step in (first, first + 3, last, last + 1):
            assert stop_and_go_on(lambda: make_run(spec), step, tmp_path / str(step)) == undisturbed, step

    @pytest.mark.parametrize("option", ["hold", "drop_from", "drop_until", "recover_lr_scale"])
    def test_each_option_changes_the_weights(self, option, make_spec, make_run):
        weights = [
            train(make_run(make_spec("residual_droppath", {"rate": 0.5} | options)))["weights"]
            for options in ({}, {option: OVER_TIME[option]})
        ]
        assert weights[0] != weights[1]

    def test_a_full_mini_batch_is_read_once_outside_the_window(self, make_spec, make_run):
        run = make_run(make_spec("residual_droppath", OVER_TIME | {"reuse_batch": True}))
        pairs = [4, 4, 5, 5, 6, 6, 7, 7, 8, 8]
        expected = [run.batches.batch(number)[0] for number in [0, 1, 2, 3, *pairs, 9, 10, 11, 12, 13, 14]]
        assert all(torch.equal(*both) for both in zip(batches_read(run), expected, strict=True))


class TestTransformer:
    @pytest.fixture
    def spec_of(self, make_spec):
        small = {"optimizer": "adamw", "learning_rate": 2e-3, "train_size": 128, "batch_size": 32, "epochs": 2}

        def make(method: str = "residual_droppath", options: dict | None = None, **recipe):
            return make_spec(method, options, architecture="vit_micro", dataset="digits", **small | recipe)

        return make

    @pytest.mark.parametrize(
        ("method", "options"),
        [
            ("vanilla", None),
            ("droppath", {"rate": 0.5}),
            ("residual_droppath", {"rate": 0.5}),
            ("residual_droppath", {"rate": 0.5, "granularity": "block"}),
        ],
    )
    def test_the_same_run_is_bitwise_reproducible(self, method, options, spec_of, make_run):
        first = train(make_run(spec_of(method, options)))
        torch.manual_seed(1)
        assert train(make_run(spec_of(method, options))) == first
        assert first["diverged_step"] is None
        assert first["units"] == (6 if options and "granularity" in options else 12)

    def test_resumed_it_equals_the_uninterrupted_run(self, spec_of, make_run, tmp_path):
        spec = spec_of(options={"rate": 0.5})
        undisturbed = train(make_run(spec))
        for step in (1, 4, 7):
            assert stop_and_go_on(lambda: make_run(spec), step, tmp_path / str(step)) == undisturbed

    def test_its_stored_weights_predict_the_same(self, spec_of, make_run, tmp_path):
        spec = spec_of()
        (record,) = run_job([spec], tmp_path, "cpu")
        store = Store(tmp_path)
        assert usable_record(store, spec) == (record, None)
        assert record.status == "completed"
        run = make_run(spec)
        weights = store.arrays(spec.run, record, "weights")
        before = run.evaluate("test").predictions
        run.network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        evaluation = run.evaluate("test")
        predictions = store.arrays(spec.run, record, "predictions")["test"]
        assert np.array_equal(evaluation.predictions, predictions)
        assert not np.array_equal(before, predictions)
        assert evaluation.accuracy == record.numbers.test_accuracy

    @pytest.mark.slow
    def test_it_learns_digits(self, spec_of, make_run):
        numbers = train(make_run(spec_of("vanilla", train_size=512, epochs=10)))
        assert numbers["test_accuracy"] > 0.5  # chance is 0.1

    def test_position_embeddings_do_not_decay(self, spec_of, make_run):
        run = make_run(spec_of("vanilla", weight_decay=0.1))
        decay = {id(p): group.weight_decay for group in run.optimizer.groups for p in group.parameters}
        undecayed = {name for name, p in run.network.named_parameters() if not decay[id(p)]}
        assert "pos_embed" in undecayed
        assert all(p.dim() == 1 for name, p in run.network.named_parameters() if name in undecayed - {"pos_embed"})
