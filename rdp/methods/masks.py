"""Drop rates by depth, and the masks drawn from them."""

from typing import Literal

import numpy as np

MaskSchedule = Literal["linear", "uniform"]


def drop_rates(rate: float, units: int, schedule: MaskSchedule) -> np.ndarray:
    """The probability of dropping each unit, shape (units,), from the shallowest to the deepest.

    ``linear`` grows from 0 to ``rate``, as in stochastic depth (arXiv 1603.09382, section 3) and timm;
    ``uniform`` gives ``rate`` to each. A single unit gets ``rate`` in both.
    """
    if units < 1:
        raise ValueError(f"a network with droppable units is needed, got {units} units")
    if schedule == "uniform" or units == 1:
        return np.full(units, rate)
    return np.linspace(0.0, rate, units)


def draw(rates: np.ndarray, generator: np.random.Generator, *, nonempty: bool) -> np.ndarray:
    """Booleans of shape (units,): what is dropped, Bernoulli for each unit, given that something is if ``nonempty``.

    The same distribution as drawing masks until one drops a unit, but without the wait where rates are small:
    draw the first dropped unit from its conditional law, and those after it freely.
    """
    uniform = generator.random(len(rates))
    dropped = uniform < rates
    if not nonempty:
        return dropped
    none_before = np.concatenate([[1.0], np.cumprod(1.0 - rates)[:-1]])
    first_law = np.cumsum(none_before * rates)
    if not first_law[-1] > 0:
        raise ValueError("no unit can be dropped: every rate is 0")
    first = int(np.searchsorted(first_law, generator.random() * first_law[-1], side="right"))
    dropped[:first] = False
    dropped[first] = True
    return dropped
