"""The number of optimizer steps within a budget of floating-point operations or of updates.

What an iteration costs can depend on the number of steps: a method may drop units in the first half of training only.
So the number of steps is sought with which training, planned for so many steps, uses up the budget.
"""

from collections.abc import Callable

from rdp.methods import FULL, Iteration

Plan = Callable[[int], Iteration]  # the iteration of a step


def count_steps(spend: Callable[[Iteration], float], nominal: int, plan: Callable[[int], Plan]) -> int:
    """The number of steps within the budget of ``nominal`` full iterations, at least 1.

    Training that is planned for this number of steps stays within the budget. One step more would exceed it.

    Args:
        spend: what an iteration uses up of the budget.
        nominal: number of full iterations in the budget.
        plan: the plan for a number of steps.
    """
    total = nominal * spend(FULL)
    rounding = 1e-9 * total  # shares of parameters do not add up to the last bit

    def affordable(iteration: Plan) -> int:
        """The number of iterations from the first on that stay within the budget."""
        steps, spent = 0, 0.0
        while spent < total - rounding and spent + (more := spend(iteration(steps))) <= total + rounding:
            steps, spent = steps + 1, spent + more
        return steps

    def left(steps: int) -> float:
        """What is left of the budget after so many steps, planned for as many; negative if it does not suffice."""
        iteration = plan(steps)
        before = sum(spend(iteration(step)) for step in range(steps - 1))
        after = total + rounding - before - spend(iteration(steps - 1))
        return after if before < total - rounding else min(after, -rounding)  # no step follows a budget used up

    # If the plan does not depend on the number of steps, the first guess is right.
    high = max(affordable(plan(nominal)), 1)
    if affordable(plan(high)) == high:
        return high
    low, remaining = 0, total
    while (excess := -left(high)) <= 0:
        low, remaining, high = high, -excess, 2 * high
    # What is left falls almost linearly, so interpolation needs few evaluations.
    halve = False
    while high - low > 1:
        width = high - low
        middle = low + (width // 2 if halve else round(width * remaining / (remaining + excess)))
        middle = min(max(middle, low + 1), high - 1)
        if (found := left(middle)) >= 0:
            low, remaining = middle, found
        else:
            high, excess = middle, -found
        halve = not halve and high - low > width // 2
    return max(low, 1)
