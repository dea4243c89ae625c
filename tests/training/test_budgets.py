"""Budgets of a recipe: epochs as steps, floating-point operations or parameter updates."""

import numpy as np
import pytest

from rdp.methods import FULL

METHODS = ["residual_droppath", "droppath", "droppath_batch", "random_freeze"]
HALVES = ["residual_droppath", "random_freeze"]  # what a pair of steps trains is each unit once


@pytest.fixture
def make(make_spec, make_run):
    """A run of two epochs of full iterations, 10 steps each."""

    def make(method, options=None, **recipe):
        return make_run(make_spec(method, options, **recipe))

    return make


def spent(run, steps: int) -> int:
    """Operations of one example in each of the first steps, added up."""
    return sum(run.iteration_cost(run.iteration(step)) for step in range(steps))


@pytest.mark.parametrize("budget", ["steps", "flops", "updates"])
@pytest.mark.parametrize(("method", "options"), [("vanilla", None), *((name, {"rate": 0}) for name in METHODS)])
def test_full_iterations_take_the_steps_of_the_epochs(method, options, budget, make):
    assert make(method, options, budget=budget).steps == 20


@pytest.mark.parametrize("method", METHODS)
def test_a_budget_of_steps_counts_steps(method, make):
    assert make(method, {"rate": 0.5}, budget="steps").steps == 20


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
class TestUpdates:
    @pytest.mark.parametrize("method", HALVES)
    @pytest.mark.parametrize("architecture", ["mlp8", "mlp32"])
    @pytest.mark.parametrize("epochs", [1, 2, 7])
    def test_training_half_the_units_per_step_doubles_the_steps(self, method, rate, architecture, epochs, make):
        options = {"rate": rate}
        run = make(method, options, architecture=architecture, budget="updates", epochs=epochs)
        assert run.steps == 2 * 10 * epochs

    @pytest.mark.parametrize("seed", range(6))
    def test_masks_that_may_drop_everything_double_the_steps_too(self, rate, seed, make):
        options = {"rate": rate, "schedule": "uniform"}
        assert make("residual_droppath", options, budget="updates", seed=seed).steps == 40

    def test_each_unit_gets_as_many_updates_as_in_vanilla(self, rate, make):
        run = make("residual_droppath", {"rate": rate}, budget="updates")
        trained = np.stack([run.iteration(step).trained for step in range(run.steps)])
        assert trained.sum(0).tolist() == [20] * 8

    def test_droppath_updates_all_units_in_every_step(self, rate, make):
        assert make("droppath", {"rate": rate}, budget="updates").steps == 20


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_budget_of_flops_gives_the_most_steps_within_the_flops_of_vanilla(method, rate, seed, make):
    run = make(method, {"rate": rate}, budget="flops", seed=seed)
    available = 20 * make("vanilla").iteration_cost(FULL)
    assert spent(run, run.steps) <= available < spent(run, run.steps + 1)
    if method == "residual_droppath":  # a pair costs (5 - 2 p) / 6 of two full steps, or less
        assert run.steps > 20
    if method == "droppath":  # computes every branch for some example
        assert run.steps == 20


WINDOWS = [(0.0, 0.5), (0.5, 1.0), (0.25, 0.75)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("budget", ["steps", "flops", "updates"])
@pytest.mark.parametrize("method", METHODS)
def test_units_are_dropped_between_shares_of_the_runs_own_steps(method, budget, window, make):
    options = {"rate": 0.5, "drop_from": window[0], "drop_until": window[1]}
    run = make(method, options, budget=budget, epochs=5)
    drops = [step for step in range(run.steps) if run.iteration(step) is not FULL]
    assert drops == list(range(drops[0], drops[-1] + 1))
    assert drops[0] == pytest.approx(window[0] * run.steps, abs=2)
    assert drops[-1] + 1 == pytest.approx(window[1] * run.steps, abs=2)
    if budget == "steps":
        assert run.steps == 50
    if budget == "updates" and method in HALVES:  # half of the steps are of pairs that train each unit once
        assert run.steps == pytest.approx(50 / (1 - 0.5 / 2), abs=2)
    if budget == "flops":
        vanilla = 50 * run.iteration_cost(FULL)
        assert vanilla - 2 * run.iteration_cost(FULL) < spent(run, run.steps) <= vanilla


@pytest.mark.parametrize("hold", [3, "epoch"])
def test_masks_that_are_held_double_the_steps_of_a_budget_of_updates_too(hold, make):
    assert make("residual_droppath", {"rate": 0.5, "hold": hold}, budget="updates").steps == 40


@pytest.mark.parametrize(("method", "budget"), [("vanilla", "steps"), *((name, "flops") for name in METHODS)])
def test_a_record_holds_the_costs(method, budget, make):
    run = make(method, {"rate": 0.5} if method != "vanilla" else None, budget=budget)
    run.train(lambda run: None)
    numbers, _, _ = run.finish()
    assert run.step == numbers["steps"] == run.steps
    assert numbers["training_flops"] == spent(run, run.steps) * 50
    assert numbers["iteration_flops"] == run.iteration_cost(FULL)
    assert numbers["forward_flops"] == run.iteration_cost.forward_full
    assert numbers["examples"] == run.steps * 50
    updates = sum(run.iteration_cost.updates(run.iteration(step)) for step in range(run.steps))
    assert numbers["unit_updates"] == pytest.approx(updates)
    full = 20 * numbers["iteration_flops"] * 50
    if method == "vanilla":
        assert numbers["training_flops"] == full
    else:
        assert 0.9 * full < numbers["training_flops"] <= full
