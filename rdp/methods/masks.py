"""Drop rates by depth, and random masks drawn from them."""

from typing import Literal

import numpy as np

MaskSchedule = Literal["linear", "uniform"]


def drop_rates(rate: float, units: int, schedule: MaskSchedule) -> np.ndarray:
    """The drop probability of each unit, shape (units,), from the shallowest to the deepest.

    ``linear`` increases from 0 to ``rate``, as in stochastic depth (arXiv 1603.09382, section 3) and timm.
    ``uniform`` gives every unit ``rate``. A single unit has ``rate`` in both.

    Raises:
        ValueError: the network has no units.
    """
    if units < 1:
        raise ValueError(f"the network has no droppable units ({units} units)")
    if schedule == "uniform" or units == 1:
        return np.full(units, rate)
    return np.linspace(0.0, rate, units)


def draw(rates: np.ndarray, generator: np.random.Generator, *, nonempty: bool) -> np.ndarray:
    """Draw independent Bernoulli variables: True for dropped units, shape (units,).

    With ``nonempty``, the draw is conditional on at least one dropped unit. Rejection sampling has the same
    distribution but is slow for small rates. Instead, the index of the first dropped unit is drawn from its
    conditional distribution, and the later units independently.

    Raises:
        ValueError: ``nonempty`` is set and every rate is 0.
    """
    uniform = generator.random(len(rates))
    dropped = uniform < rates
    if not nonempty:
        return dropped
    none_before = np.concatenate([[1.0], np.cumprod(1.0 - rates)[:-1]])
    first_cdf = np.cumsum(none_before * rates)
    if not first_cdf[-1] > 0:
        raise ValueError("no unit can be dropped: every rate is 0")
    first = int(np.searchsorted(first_cdf, generator.random() * first_cdf[-1], side="right"))
    dropped[:first] = False
    dropped[first] = True
    return dropped
