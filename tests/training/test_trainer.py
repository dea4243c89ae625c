"""The trainer: bitwise resume, determinism, numbers and divergence."""

import json
import math

import numpy as np
import pytest
import torch

from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint

METHODS = ["vanilla", "droppath", "droppath_batch", "random_freeze", "residual_droppath", "plain", "pnnh"]


def result(run) -> dict:
    """All that a run's record will hold as numbers, predictions included."""
    numbers, predictions, _ = run.finish()
    return numbers | {name: found.tolist() for name, found in predictions.items()}


def train(run) -> dict:
    run.train(lambda run: None)
    return result(run)


class Stop(Exception):
    """Raised where a job would be killed."""


def stop_at(step: int):
    def after_step(run):
        if run.step == step:
            raise Stop

    return after_step


RESUMED = [
    ("residual_droppath", "sgd", {}),
    ("residual_droppath", "adamw", {}),
    ("random_freeze", "sgd", {}),
    ("pnnh", "sgd", {}),
    ("pnnh", "adamw", {}),
    ("droppath", "sgd", {"precision": "bfloat16"}),
]


class TestResume:
    @pytest.mark.parametrize(("method", "optimizer", "recipe"), RESUMED)
    def test_a_run_resumed_at_any_step_equals_the_uninterrupted_one(
        self, method, optimizer, recipe, make_spec, make_run, tmp_path
    ):
        spec = make_spec(method, optimizer=optimizer, batch_size=100, **recipe)
        undisturbed = train(make_run(spec))
        assert len(undisturbed["history"]) == 2
        # The first step, the middle of a pair, the middle and the end of an epoch, the last step, the end.
        for step in (1, 2, 3, 5, 9, 10):
            self.check(spec, [step], undisturbed, make_run, tmp_path / str(step))

    def check(self, spec, steps, undisturbed, make_run, folder):
        """Stop at each of the steps in turn, each time going on from a checkpoint in a new network."""
        folder.mkdir()
        run = make_run(spec)
        for step in steps:
            with pytest.raises(Stop):
                run.train(stop_at(step))
            checkpoint.save(folder, Checkpoint(run.step, {}, *run.state()))
            saved, _ = checkpoint.latest([folder], {})
            assert saved.step == step
            run = make_run(spec)
            run.restore(saved)
        assert train(run) == undisturbed

    def test_a_run_resumed_after_every_step_does_too(self, make_spec, make_run, tmp_path):
        spec = make_spec("residual_droppath", {"rate": 0.5}, batch_size=100)
        self.check(spec, range(1, 11), train(make_run(spec)), make_run, tmp_path / "every")

    def test_a_convolutional_run_does_too(self, make_spec, make_run, tmp_path):
        spec = make_spec(
            "residual_droppath",
            architecture="resnet20",
            dataset="digits",
            batch_size=16,
            train_size=64,
            crop_padding=1,
            channels_last=True,
        )
        undisturbed = train(make_run(spec))
        for steps in ([1], [3], [4, 6]):
            self.check(spec, steps, undisturbed, make_run, tmp_path / str(steps))

    def test_a_run_with_nesterov_momentum_alternating_flips_and_cutout_does_too(self, make_spec, make_run, tmp_path):
        augmented = {"nesterov": True, "flip": "alternating", "cutout": 4}
        small = {"architecture": "resnet20", "dataset": "digits", "batch_size": 16, "train_size": 64}
        spec = make_spec(**small, **augmented)
        undisturbed = train(make_run(spec))
        for steps in ([3], [4, 6]):
            self.check(spec, steps, undisturbed, make_run, tmp_path / str(steps))
        for option, value in {"nesterov": False, "flip": True, "cutout": 0}.items():
            other = train(make_run(make_spec(**small, **augmented | {option: value})))
            assert other["weights"] != undisturbed["weights"], option

    def test_the_state_is_tensors_and_json(self, make_spec, make_run):
        run = make_run(make_spec("residual_droppath", epochs=1))
        run.train(lambda run: None)
        tensors, state = run.state()
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
        assert json.loads(json.dumps(state, allow_nan=False)) == state


class TestDeterminism:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_same_run_is_bitwise_reproducible(self, method, make_spec, make_run):
        spec = make_spec(method)
        first = train(make_run(spec))
        torch.manual_seed(1)
        assert train(make_run(spec)) == first

    @pytest.mark.parametrize("method", METHODS)
    def test_another_seed_gives_different_weights(self, method, make_spec, make_run):
        first, other = (train(make_run(make_spec(method, seed=seed)))["weights"] for seed in (0, 1))
        assert first.keys() == other.keys()
        assert all(first[name] != other[name] for name in first if name.endswith("linear.weight"))

    @pytest.mark.parametrize("method", ["droppath", "droppath_batch", "random_freeze", "residual_droppath"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_at_rate_0_dropping_and_freezing_methods_are_bitwise_vanilla(self, method, optimizer, make_spec, make_run):
        vanilla = train(make_run(make_spec("vanilla", optimizer=optimizer)))
        assert train(make_run(make_spec(method, {"rate": 0}, optimizer=optimizer))) == vanilla
        assert train(make_run(make_spec(method, {"rate": 0.2}, optimizer=optimizer)))["weights"] != vanilla["weights"]

    @pytest.mark.parametrize("method", METHODS)
    def test_the_validation_interval_changes_no_weight(self, method, make_spec, make_run):
        often = train(make_run(make_spec(method, epochs=3)))
        seldom = train(make_run(make_spec(method, epochs=3, validate_every=2)))
        assert often["weights"] == seldom["weights"]
        assert often["test"] == seldom["test"]
        validated = [row["validation_accuracy"] is not None for row in seldom["history"]]
        assert validated == [False, True, True]  # the last epoch always is


class TestNumbers:
    def test_every_method_learns_the_spiral_better_than_chance(self, make_spec, make_run):
        for method in METHODS:
            numbers = train(make_run(make_spec(method, epochs=12)))
            assert numbers["test_accuracy"] > 0.6, method
            assert numbers["history"][-1]["train_loss"] < numbers["history"][0]["train_loss"], method

    def test_they_agree_with_the_stored_predictions_and_weights(self, make_spec, make_run, dataset):
        run = make_run(make_spec())
        run.train(lambda run: None)
        numbers, predictions, weights = run.finish()
        labels = dataset("spiral").arrays["test_y"]
        assert predictions["test"].dtype == np.int16
        assert numbers["test_accuracy"] == (predictions["test"] == labels).mean()
        assert numbers["weights"].keys() == weights.keys() == run.network.state_dict().keys()
        assert numbers["parameters"] == sum(p.numel() for p in run.network.parameters())
        assert (numbers["units"], numbers["steps"], numbers["examples"]) == (8, 20, 1000)
        assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers

    def test_evaluation_uses_the_whole_split_and_drops_nothing(self, make_spec, make_run, dataset):
        run = make_run(make_spec("residual_droppath", {"rate": 0.9}))
        run.train(lambda run: None)
        evaluation = run.evaluate("test")
        arrays = dataset("spiral").arrays
        x = (torch.from_numpy(arrays["test_x"]) - torch.from_numpy(dataset("spiral").mean)) / torch.from_numpy(
            dataset("spiral").std
        )
        with torch.no_grad():
            logits = run.network.eval()(x)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(arrays["test_y"]))
        assert evaluation.loss == pytest.approx(loss.item(), rel=1e-4)
        assert (evaluation.predictions == logits.argmax(1).numpy()).mean() > 0.999

    def test_the_history_has_one_row_per_epoch_with_the_mean_loss_of_its_steps(self, make_spec, make_run):
        losses = []
        run = make_run(make_spec(epochs=3))
        run.train(lambda run: losses.append(run.state()[0]["losses"][(run.step - 1) % 10].item()))
        assert [row["epoch"] for row in run.history] == [1, 2, 3]
        assert [row["step"] for row in run.history] == [10, 20, 30]
        means = np.array(losses).reshape(3, 10).mean(1)
        assert [row["train_loss"] for row in run.history] == pytest.approx(means.tolist())


class TestDivergence:
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_it_is_recorded_with_its_first_step_and_not_raised(self, optimizer, make_spec, make_run):
        # A head with weights of 1e30 and more: the loss is infinite within an epoch.
        spec = make_spec("plain", learning_rate=1e30, warmup=0, epochs=3, optimizer=optimizer)
        losses = []
        run = make_run(spec)
        run.train(lambda run: losses.append(run.state()[0]["losses"][(run.step - 1) % 10].item()))
        first_bad = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
        assert run.diverged_step == first_bad
        assert run.step == (first_bad // 10 + 1) * 10  # it stops at the end of that epoch
        numbers, predictions, weights = run.finish()
        assert numbers["diverged_step"] == first_bad
        assert (numbers["test_accuracy"], numbers["test_loss"], numbers["weights"]) == (None, None, None)
        assert (predictions, weights) == ({}, {})
        json.dumps(numbers, allow_nan=False)

    @pytest.mark.parametrize("method", METHODS)
    def test_at_a_learning_rate_of_a_million_no_method_raises(self, method, make_spec, make_run):
        numbers = train(make_run(make_spec(method, learning_rate=1e6)))
        json.dumps(numbers, allow_nan=False)
        assert numbers["diverged_step"] is not None or numbers["test_accuracy"] < 0.7

    def test_a_diverged_run_diverges_at_the_same_step_after_a_resume(self, make_spec, make_run, tmp_path):
        spec = make_spec("plain", learning_rate=1e30, warmup=0)
        undisturbed = train(make_run(spec))
        run = make_run(spec)
        with pytest.raises(Stop):
            run.train(stop_at(7))
        checkpoint.save(tmp_path, Checkpoint(7, {}, *run.state()))
        run = make_run(spec)
        run.restore(checkpoint.latest([tmp_path], {})[0])
        assert train(run) == undisturbed
        assert undisturbed["diverged_step"] is not None


@pytest.fixture(scope="module")
def digits_numbers(make_spec, make_run):
    """The numbers of a short convolutional run with these options, computed once each."""
    known = {}

    def compute(method: str, **recipe) -> dict:
        key = (method, *recipe.items())
        if key not in known:
            spec = make_spec(
                method, architecture="resnet20", dataset="digits", batch_size=32, train_size=96, epochs=1, **recipe
            )
            run = make_run(spec)
            numbers = train(run)
            known[key] = numbers | {"first_loss": run.state()[0]["losses"][0].item()}
        return known[key]

    return compute


class TestOptions:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        ("options", "tolerance"),
        [
            ({"channels_last": True}, 1e-5),
            ({"precision": "bfloat16"}, 0.05),
            ({"precision": "bfloat16", "channels_last": True}, 0.05),
        ],
        ids=["channels_last", "bfloat16", "both"],
    )
    @pytest.mark.slow
    def test_layout_and_precision_change_the_first_loss_only_by_rounding(
        self, method, options, tolerance, digits_numbers
    ):
        # Later ones part: training a deep plain network magnifies any rounding.
        usual, other = digits_numbers(method), digits_numbers(method, **options)
        assert other["first_loss"] == pytest.approx(usual["first_loss"], rel=tolerance)
        assert other["diverged_step"] is None
        assert other["test_accuracy"] is not None
        assert other["weights"].keys() == usual["weights"].keys()
        if "precision" in options:
            assert other["first_loss"] != usual["first_loss"]

    def test_weights_stay_in_full_precision_under_bfloat16(self, make_spec, make_run):
        run = make_run(make_spec(precision="bfloat16", epochs=1))
        run.train(lambda run: None)
        assert {p.dtype for p in run.network.parameters()} == {torch.float32}

    def test_crops_and_flips_change_the_weights(self, digits_numbers):
        usual = digits_numbers("vanilla")["weights"]
        for options in ({"crop_padding": 1}, {"flip": True}, {"norm_gain": 0.2}, {"weight_decay": 0.1}):
            assert digits_numbers("vanilla", **options)["weights"] != usual, options


@pytest.mark.slow
def test_a_job_does_not_import_torchs_compiler(run_python, tmp_path):
    """It takes seconds, and torch imports it for much that has nothing to compile."""
    study = "{title: x, seeds: 1, recipe: {epochs: 1, batch_size: 500}, methods: {residual_droppath: , droppath: },"
    study += " grids: [{datasets: [spiral], architectures: [mlp8]}, {datasets: [digits], architectures: [resnet20]}]}"
    (tmp_path / "small.yaml").write_text(study)
    code = "import sys; sys.argv = ['rdp', 'train', 'small.yaml']; from rdp import cli\n"
    code += "try:\n    cli.main()\nfinally:\n    print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    done = run_python("-c", code, cwd=tmp_path)
    assert done.stdout.split() == ["True", "False"], done.stderr
