"""Methods map steps to iterations."""

import sys

import numpy as np
import pytest
from pydantic import ValidationError

from rdp.errors import UserError
from rdp.methods import FULL, Method, Training, available, method_class, schedules
from rdp.methods.dropping import drop_rates

DROPPING = ["droppath", "droppath_batch", "random_freeze", "residual_droppath"]
BY_BATCH = [name for name in DROPPING if name != "droppath"]  # whose masks hold for the mini-batch
PAIRED = ["random_freeze", "residual_droppath"]  # whose masks hold for two steps


def iteration(name: str, step: int = 0, *, units: int = 9, batch_size: int = 4, seed: int = 0, **options):
    return method_class(name)(**options).iteration(step, Training(units, batch_size, seed))


class TestResidualDropPath:
    def test_the_two_iterations_of_a_pair_share_one_mask(self):
        for pair in range(200):
            drop = iteration("residual_droppath", 2 * pair)
            recover = iteration("residual_droppath", 2 * pair + 1)
            assert (drop.kind, recover.kind) == ("drop", "recover")
            np.testing.assert_array_equal(drop.active, ~recover.trained)

    def test_each_unit_is_trained_once_per_pair_and_the_rest_in_drop_iterations(self):
        for pair in range(200):
            drop = iteration("residual_droppath", 2 * pair)
            recover = iteration("residual_droppath", 2 * pair + 1)
            np.testing.assert_array_equal(drop.trained.astype(int) + recover.trained, np.ones(9))
            np.testing.assert_array_equal(drop.trained, drop.active)
            assert drop.rest_trained
            assert not recover.rest_trained

    def test_recover_iterations_compute_every_unit_and_train_some(self):
        for pair in range(200):
            recover = iteration("residual_droppath", 2 * pair + 1, rate=0.01)
            assert recover.active is None
            assert recover.scale is None
            assert recover.trained.any()

    def test_masks_differ_between_pairs_and_seeds(self):
        by_pair = {tuple(iteration("residual_droppath", 2 * pair, rate=0.5).active) for pair in range(50)}
        by_seed = {tuple(iteration("residual_droppath", seed=seed, rate=0.5).active) for seed in range(50)}
        assert min(len(by_pair), len(by_seed)) > 25

    @pytest.mark.parametrize("norm", ["update", "batch", "eval"])
    @pytest.mark.parametrize("rest", [False, True])
    def test_freezing_options_apply_only_to_recover_iterations(self, norm, rest):
        drop, recover = (iteration("residual_droppath", step, frozen_norm=norm, train_rest=rest) for step in (0, 1))
        assert (drop.frozen_norm, drop.rest_trained) == ("update", True)
        assert (recover.frozen_norm, recover.rest_trained) == (norm, rest)

    @pytest.mark.parametrize("redraw", [False, True])
    def test_a_pair_may_share_its_mini_batch(self, redraw):
        steps = range(40)
        shared = [iteration("residual_droppath", s, rate=0.05, redraw=redraw, reuse_batch=True) for s in steps]
        assert [one.batch for one in shared] == [s // 2 for s in steps]
        assert {one.kind for one in shared} == {"drop", "recover"} | (set() if redraw else {"full"})
        assert all(iteration("residual_droppath", s).batch is None for s in steps)


class TestDropPathBatch:
    def test_every_step_has_a_new_mask_and_trains_the_undropped_units(self):
        drops = [iteration("droppath_batch", step, rate=0.5) for step in range(100)]
        for drop in drops:
            assert drop.kind == "drop"
            assert drop.rest_trained
            assert not drop.active.all()
            np.testing.assert_array_equal(drop.trained, drop.active)
        assert len({drop.active.tobytes() for drop in drops}) > 30

    def test_it_draws_the_masks_of_residual_droppath(self):
        for number in range(50):
            drop, pairs = iteration("droppath_batch", number), iteration("residual_droppath", 2 * number)
            np.testing.assert_array_equal(drop.active, pairs.active)
            np.testing.assert_array_equal(drop.scale, pairs.scale)


class TestRandomFreeze:
    @pytest.mark.parametrize("redraw", [False, True])
    @pytest.mark.parametrize("rest", [False, True])
    def test_it_trains_the_same_units_as_residual_droppath_and_drops_none(self, redraw, rest):
        options = {"rate": 0.1, "redraw": redraw, "train_rest": rest, "frozen_norm": "batch"}
        kinds = set()
        for step in range(100):
            freeze = iteration("random_freeze", step, seed=3, **options)
            dropping = iteration("residual_droppath", step, seed=3, **options)
            assert freeze.active is freeze.scale is None
            np.testing.assert_array_equal(freeze.trained, dropping.trained)
            assert freeze.rest_trained == dropping.rest_trained
            assert freeze.kind == ("full" if dropping.kind == "full" else "freeze")
            kinds.add(dropping.kind)
        assert kinds == {"drop", "recover"} | (set() if redraw else {"full"})

    def test_frozen_norm_applies_in_both_steps(self):
        assert [iteration("random_freeze", step, frozen_norm="eval").frozen_norm for step in (0, 1)] == ["eval"] * 2


@pytest.mark.parametrize("name", PAIRED)
class TestRecoverLearningRate:
    def test_only_steps_that_train_the_dropped_units_are_scaled(self, name):
        planned = [iteration(name, step, rate=0.1, redraw=False, recover_lr_scale=2.5) for step in range(100)]
        assert {one.kind == "full" for one in planned} == {True, False}
        for step, one in enumerate(planned):
            assert one.learning_rate_scale == (2.5 if step % 2 and one.kind != "full" else 1)

    def test_by_default_none_is(self, name):
        assert {iteration(name, step).learning_rate_scale for step in range(20)} == {1.0}

    @pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), "double", None])
    def test_a_scale_that_is_not_positive_is_refused(self, name, scale):
        with pytest.raises(ValidationError, match="recover_lr_scale"):
            method_class(name)(recover_lr_scale=scale)


class TestDropPath:
    def test_each_unit_is_dropped_at_its_rate(self):
        steps, batch = 400, 64
        kept = np.stack([iteration("droppath", s, batch_size=batch, rate=0.3).active for s in range(steps)])
        assert kept.shape == (steps, 9, batch)
        keep, draws = 1 - drop_rates(0.3, 9, "linear"), steps * batch
        deviation = np.sqrt(keep * (1 - keep) / draws)
        assert (np.abs(kept.mean((0, 2)) - keep) <= 4 * deviation).all()

    def test_units_and_examples_are_dropped_independently(self):
        kept = np.concatenate(
            [iteration("droppath", s, batch_size=64, rate=0.5, schedule="uniform").active.T for s in range(400)]
        ).astype(float)
        between_units = np.corrcoef(kept.T)[np.triu_indices(9, 1)]
        assert np.abs(between_units).max() < 4.5 / np.sqrt(len(kept))
        between_examples = np.corrcoef(kept[:-1, 0], kept[1:, 0])[0, 1]
        assert abs(between_examples) < 4 / np.sqrt(len(kept))

    def test_everything_is_trained_in_every_iteration(self):
        for step in range(4):
            assert iteration("droppath", step).trained is None
            assert iteration("droppath", step).rest_trained


@pytest.mark.parametrize("name", ["droppath", "droppath_batch", "residual_droppath"])
class TestScaling:
    @pytest.mark.parametrize("schedule", ["linear", "uniform"])
    def test_active_units_are_scaled_by_1_over_keep(self, name, schedule):
        scale = iteration(name, rate=0.4, schedule=schedule).scale
        np.testing.assert_allclose(scale * (1 - drop_rates(0.4, 9, schedule)), np.ones(9), rtol=1e-6)
        assert scale.dtype == np.float32

    def test_scaling_none_draws_the_same_masks(self, name):
        for step in range(0, 20, 2):
            scaled, unscaled = iteration(name, step), iteration(name, step, scaling="none")
            assert unscaled.scale is None
            np.testing.assert_array_equal(unscaled.active, scaled.active)


@pytest.mark.parametrize("name", BY_BATCH)
class TestRedrawing:
    def test_without_it_empty_masks_give_full_iterations(self, name):
        length = 2 if name in PAIRED else 1
        kinds = [iteration(name, step, rate=0.1, redraw=False).kind for step in range(400)]
        groups = [tuple(kinds[i : i + length]) for i in range(0, 400, length)]
        full = ("full",) * length
        others = {"residual_droppath": ("drop", "recover"), "random_freeze": ("freeze",) * 2}.get(name, ("drop",))
        assert set(groups) == {full, others}
        empty = np.prod(1 - drop_rates(0.1, 9, "linear"))
        assert groups.count(full) / len(groups) == pytest.approx(empty, abs=4 * np.sqrt(0.25 / len(groups)))

    def test_with_it_no_iteration_is_full(self, name):
        assert "full" not in {iteration(name, step, rate=0.01).kind for step in range(200)}

    def test_masks_do_not_depend_on_the_batch_size(self, name):
        for step in range(10):
            one, other = (iteration(name, step, batch_size=size) for size in (2, 64))
            np.testing.assert_array_equal(one.trained, other.trained)


@pytest.mark.parametrize("name", DROPPING)
class TestEveryDroppingMethod:
    def test_at_rate_0_every_iteration_is_full(self, name):
        assert all(iteration(name, step, rate=0) is FULL for step in range(4))

    def test_an_iteration_is_a_pure_function_of_its_step(self, name):
        in_order = [iteration(name, step) for step in range(6)]
        backwards = [iteration(name, step) for step in reversed(range(6))][::-1]
        for one, other in zip(in_order, backwards, strict=True):
            np.testing.assert_array_equal(one.active, other.active)
            np.testing.assert_array_equal(one.trained, other.trained)

    def test_its_units_are_branches_or_blocks(self, name):
        assert [method_class(name)(granularity=g).unit_granularity for g in ("branch", "block")] == ["branch", "block"]
        assert method_class(name)().unit_granularity == "branch"

    @pytest.mark.parametrize("option", ["schedule", "scaling", "granularity"])
    def test_an_unknown_choice_is_refused(self, name, option):
        with pytest.raises(ValidationError, match=option):
            method_class(name)(**{option: "other"})

    @pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), float("inf"), "much", None])
    def test_a_rate_outside_0_to_1_is_refused(self, name, rate):
        with pytest.raises(ValidationError, match="rate"):
            method_class(name)(rate=rate)

    def test_a_misspelt_option_is_refused(self, name):
        with pytest.raises(ValidationError, match="ratte"):
            method_class(name)(ratte=0.1)

    @pytest.mark.parametrize("path", ["plain", "pnnh"])
    def test_dropping_without_a_residual_path_is_a_conflict(self, name, path):
        reason = method_class(name)(path=path).conflict()
        assert name in reason
        assert path in reason
        assert method_class(name)().conflict() is None


class TestRegistry:
    def test_helper_modules_are_not_methods(self):
        known = {"vanilla", "plain", "pnnh", *DROPPING}
        assert known <= set(available())
        assert not {"dropping", "iteration", "masks", "options"} & set(available())
        assert {name for name in known if method_class(name).drops_units} == set(DROPPING)

    @pytest.mark.parametrize("name", available())
    def test_each_file_defines_one_method_with_consistent_defaults(self, name):
        method = method_class(name)
        assert issubclass(method, Method)
        assert method.name() == name
        assert method().conflict() is None
        assert method.__doc__ != Method.__doc__

    @pytest.mark.parametrize("name", ["vanilla", "plain", "pnnh"])
    def test_methods_without_a_schedule_are_always_full(self, name):
        assert all(iteration(name, step) is FULL for step in range(4))

    def test_each_method_has_its_path(self):
        paths = {name: method_class(name)().path for name in available()}
        assert paths["plain"] == "plain"
        assert paths["pnnh"] == "pnnh"
        assert {paths[name] for name in ("vanilla", *DROPPING)} == {"residual"}

    def test_an_unknown_method_suggests_the_closest_name(self):
        with pytest.raises(UserError, match="unknown method 'vanila'; did you mean 'vanilla'"):
            method_class("vanila")

    @pytest.fixture
    def add_method(self, tmp_path, monkeypatch):
        """Add a file to the package, for the time of one test."""

        def add(name: str, text: str) -> None:
            tmp_path.joinpath(f"{name}.py").write_text(text)
            available.cache_clear()
            method_class.cache_clear()

        monkeypatch.setattr(schedules, "__path__", [*schedules.__path__, str(tmp_path)])
        yield add
        for name in [name for name in sys.modules if name.startswith("rdp.methods.schedules.added")]:
            del sys.modules[name]
        available.cache_clear()
        method_class.cache_clear()

    def test_adding_a_file_adds_a_method(self, add_method):
        add_method("added", "from rdp.methods import Method\nclass Added(Method):\n    '''New.'''\n")
        assert "added" in available()
        assert method_class("added")().iteration(0, Training(3, batch_size=2, seed=0)) is FULL

    @pytest.mark.parametrize("count", [0, 2])
    def test_a_file_must_define_one_method(self, add_method, count):
        classes = "".join(f"class Added{i}(Method):\n    pass\n" for i in range(count))
        add_method("added", f"from rdp.methods import Method\n{classes}")
        with pytest.raises(UserError, match=rf"added\.py: defines {count} subclasses"):
            method_class("added")
