"""Options that say when masks change and when units are dropped: hold, drop_from and drop_until."""

import numpy as np
import pytest
from pydantic import ValidationError

from rdp.errors import UserError
from rdp.methods import FULL, Iteration, Training, method_class

PAIRED = ["random_freeze", "residual_droppath"]  # whose masks are for pairs of steps
BY_BATCH = ["droppath_batch", *PAIRED]
DROPPING = ["droppath", *BY_BATCH]
STEPS, PER_EPOCH = 63, 7  # a pair lies in two epochs


def plan(name: str, steps: int = STEPS, *, length: int | None = STEPS, seed: int = 0, **options) -> list[Iteration]:
    """The iterations of the first steps, of training that is ``length`` steps long."""
    method = method_class(name)(rate=0.5, **options)
    training = Training(9, batch_size=4, seed=seed, steps=length, steps_per_epoch=PER_EPOCH)
    method.check(training)
    return [method.iteration(step, training) for step in range(steps)]


def dropped(iterations: list[Iteration]) -> list[list[bool]]:
    """The mask behind each step of a method that freezes by mini-batch: True for dropped units."""
    recovers = [one.kind == "recover" for one in iterations]
    return [(one.trained if odd else ~one.trained).tolist() for one, odd in zip(iterations, recovers, strict=True)]


def same(one: Iteration, other: Iteration) -> bool:
    arrays = ("active", "scale", "trained")
    return one.kind == other.kind and all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays)


class TestHold:
    @pytest.mark.parametrize("hold", [1, 2, 3, 10])
    def test_consecutive_pairs_share_the_mask_of_their_number(self, hold):
        masks = dropped(plan("residual_droppath", 2 * STEPS))[::2]  # one a pair
        held = dropped(plan("residual_droppath", hold=hold))
        assert held == [masks[step // 2 // hold] for step in range(STEPS)]
        assert len({tuple(mask) for mask in held}) > STEPS // 2 // hold / 2

    @pytest.mark.parametrize("hold", [3, "epoch"])
    def test_drop_and_recover_iterations_alternate_and_train_each_unit_once(self, hold):
        held = plan("residual_droppath", hold=hold)
        assert [one.kind for one in held] == [("drop", "recover")[step % 2] for step in range(STEPS)]
        for drop, recover in zip(held[::2], held[1::2], strict=False):
            np.testing.assert_array_equal(drop.trained, ~recover.trained)

    @pytest.mark.parametrize("hold", [1, 4])
    def test_steps_of_droppath_batch_share_the_masks_that_pairs_share(self, hold):
        steps, pairs = plan("droppath_batch", hold=hold), plan("residual_droppath", 2 * STEPS, hold=hold)[::2]
        assert all(same(one, other) for one, other in zip(steps, pairs, strict=True))

    def test_with_epoch_all_pairs_that_begin_in_an_epoch_share_a_mask(self):
        masks = dropped(plan("residual_droppath", 2 * STEPS))[::2]
        begins = [step - step % 2 for step in range(STEPS)]
        held = dropped(plan("residual_droppath", hold="epoch"))
        assert held == [masks[begin // PER_EPOCH] for begin in begins]
        assert held[PER_EPOCH] == held[PER_EPOCH - 1] != held[PER_EPOCH + 1]  # a pair that begins in the first epoch

    def test_with_epoch_droppath_batch_has_the_same_mask_in_the_same_epoch(self):
        steps, pairs = (dropped(plan(name, hold="epoch")) for name in ("droppath_batch", "residual_droppath"))
        assert steps[PER_EPOCH] == steps[2 * PER_EPOCH - 1]
        assert steps[:PER_EPOCH] == pairs[:PER_EPOCH]
        assert steps[2 * PER_EPOCH : 3 * PER_EPOCH] == pairs[2 * PER_EPOCH : 3 * PER_EPOCH]
        assert len({tuple(mask) for mask in steps}) > STEPS // PER_EPOCH / 2

    @pytest.mark.parametrize("name", BY_BATCH)
    @pytest.mark.parametrize("hold", [0, -1, 1.5, "3", "week", True, None])
    def test_an_invalid_hold_is_refused(self, name, hold):
        with pytest.raises(ValidationError, match="hold"):
            method_class(name)(hold=hold)

    @pytest.mark.parametrize("name", BY_BATCH)
    def test_an_epoch_of_unknown_length_is_refused(self, name):
        method, training = method_class(name)(hold="epoch"), Training(9, batch_size=4, seed=0, steps=10)
        with pytest.raises(UserError, match=r"^hold: epoch: needs the number of .* in an epoch; pass steps_per_epoch$"):
            method.check(training)
        with pytest.raises(UserError, match="pass steps_per_epoch"):
            method.iteration(0, training)
        method_class(name)(hold=3).check(Training(9, batch_size=4, seed=0))


WINDOWS = [(0.2, 0.7), (0.0, 0.5), (0.5, 1.0), (0.01, 0.99), (0.3, 0.31)]


class TestWindow:
    @pytest.mark.parametrize("name", DROPPING)
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("length", [100, 101])
    def test_units_are_dropped_between_two_shares_of_the_steps(self, name, window, length):
        first, last = (round(share * length) for share in window)
        options = {"drop_from": window[0], "drop_until": window[1]}
        always, limited = plan(name, length, length=length), plan(name, length, length=length, **options)
        for step in range(length):
            begin = step - step % 2 if name in PAIRED else step
            expected = always[step] if first <= begin < last else FULL
            assert same(limited[step], expected), step
            assert (limited[step] is FULL) == (expected is FULL)

    @pytest.mark.parametrize("name", PAIRED)
    @pytest.mark.parametrize("length", range(20, 40))
    def test_pairs_stay_whole(self, name, length):
        planned = plan(name, length + 2, length=length, drop_from=0.3, drop_until=0.8)
        pairs = list(zip(planned[::2], planned[1::2], strict=False))
        assert all((drop is FULL) == (recover is FULL) for drop, recover in pairs)
        assert {drop is FULL for drop, _ in pairs} == {True, False}

    @pytest.mark.parametrize("name", DROPPING)
    def test_without_an_end_dropping_goes_on(self, name):
        planned = plan(name, 80, length=40, drop_from=0.5)
        assert [one is FULL for one in planned] == [True] * 20 + [False] * 60

    def test_the_controls_drop_the_same_units_in_the_same_steps(self):
        options = {"drop_from": 0.2, "drop_until": 0.7, "hold": 2, "seed": 3}
        freeze, pairs = plan("random_freeze", **options), plan("residual_droppath", **options)
        for one, other in zip(freeze, pairs, strict=True):
            assert (one is FULL) == (other is FULL)
            assert np.array_equal(one.trained, other.trained)

    @pytest.mark.parametrize("window", [(0.0, 1.0), *WINDOWS])
    def test_every_mini_batch_is_used_and_only_pairs_share_one(self, window):
        options = {"drop_from": window[0], "drop_until": window[1], "reuse_batch": True}
        used, number = [], 0
        for one in plan("residual_droppath", 101, length=101, **options):
            number -= one.kind == "recover"  # the batch of its drop iteration again
            assert (number if one.batch is None else one.batch) == number
            used.append(number)
            number += 1
        assert sorted(set(used)) == list(range(used[-1] + 1))

    @pytest.mark.parametrize("name", DROPPING)
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"drop_from": 0.5, "drop_until": 0.5}, r"expected more than drop_from \(0.5\), found 0.5"),
            ({"drop_from": 0.6, "drop_until": 0.5}, r"expected more than drop_from \(0.6\), found 0.5"),
            ({"drop_from": 1}, "drop_from"),
            ({"drop_from": -0.1}, "drop_from"),
            ({"drop_until": 0}, "drop_until"),
            ({"drop_until": 1.1}, "drop_until"),
            ({"drop_until": float("nan")}, "drop_until"),
        ],
    )
    def test_an_invalid_window_is_refused(self, name, options, message):
        with pytest.raises(ValidationError, match=message):
            method_class(name)(**options)

    @pytest.mark.parametrize("name", DROPPING)
    @pytest.mark.parametrize("option", ["drop_from", "drop_until"])
    def test_training_of_unknown_length_is_refused(self, name, option):
        method, training = method_class(name)(**{option: 0.5}), Training(9, 4, 0, steps_per_epoch=PER_EPOCH)
        with pytest.raises(UserError, match=rf"^{option}: needs the number of optimizer steps of .*; pass steps$"):
            method.check(training)
        with pytest.raises(UserError, match=rf"^{option}: .*; pass steps$"):
            method.iteration(0, training)

    @pytest.mark.parametrize("name", DROPPING)
    def test_at_rate_0_every_iteration_is_full(self, name):
        method = method_class(name)(rate=0, drop_until=0.5)
        assert all(method.iteration(step, Training(9, 4, 0, steps=8)) is FULL for step in range(8))
