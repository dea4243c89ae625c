"""The number of steps within a budget, of plans that depend on that number."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdp.methods import FULL, Iteration
from rdp.training.budgets import count_steps

CHEAP = Iteration("drop")


def window(begin: float, end: float):
    """Plans with cheap iterations between two shares of the steps."""
    return lambda steps: lambda step: CHEAP if round(begin * steps) <= step < round(end * steps) else FULL


def spent(spend, plan, steps: int, planned_for: int) -> float:
    return sum(spend(plan(planned_for)(step)) for step in range(steps))


@pytest.mark.parametrize("price", [1 / 2, 1 / 3, 0.9, 0.1])
@pytest.mark.parametrize("nominal", [1, 2, 100, 12345])
def test_plans_that_do_not_depend_on_the_steps_fill_the_budget(price, nominal):
    found = count_steps(lambda one: 1 if one is FULL else price, nominal, lambda steps: lambda step: CHEAP)
    assert found == max(next(n for n in count(int(nominal / price) - 2) if (n + 1) * price > nominal * (1 + 1e-9)), 1)


def test_full_iterations_are_the_nominal_ones():
    assert count_steps(lambda one: 7, 40, lambda steps: lambda step: FULL) == 40


@given(st.integers(1, 400), st.integers(1, 30), st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted))
def test_the_planned_steps_fit_and_one_more_does_not(nominal, price, shares):
    plan, price = window(shares[0] / 40, shares[1] / 40), price / 20

    def spend(iteration):
        return 1 if iteration is FULL else price

    rounding = 1e-9 * nominal
    steps = count_steps(spend, nominal, plan)
    assert spent(spend, plan, steps, steps) <= nominal + rounding or steps == 1
    more = max(spent(spend, plan, steps + 1, planned_for) for planned_for in (steps, steps + 1))
    assert more > nominal - rounding


@pytest.mark.parametrize("shares", [(0, 1), (0, 0.5), (0.5, 1), (0.9, 1), (0.2, 0.3)])
@pytest.mark.parametrize("price", [0.1, 0.5, 0.9])
def test_the_steps_of_a_window_follow_from_its_share(shares, price):
    """Of n steps, a share w costs the price, and the others 1: n (1 - w + w price) = nominal."""
    calls = []

    def plan(steps):
        calls.append(steps)
        return window(*shares)(steps)

    expected = 10_000 / (1 - (shares[1] - shares[0]) * (1 - price))
    assert count_steps(lambda one: 1 if one is FULL else price, 10_000, plan) == pytest.approx(expected, abs=2)
    assert len(calls) < 12
