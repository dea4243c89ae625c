"""Parts of claims and their effects as text."""

import math

from rdp.claims.model import Part
from rdp.stats import Effect

_NAMES = {"parameters": "number of parameters", "training_flops": "training FLOP"}  # of metrics, in sentences


def sample_noun(part: Part) -> str:
    """The noun for one sample of a part: ``round`` or ``seed``."""
    return "round" if part.metric == "throughput" else "seed"


def part_name(part: Part) -> str:
    """``pnnh minus vanilla (same_parameters) in accuracy``."""
    metric = _NAMES.get(part.metric) or part.metric.replace("_", " ")
    against = f"{part.against} ({part.against_form})" if part.against_form else part.against
    if part.against is None:
        name = f"{metric} of {part.method}"
    elif part.definition.relative:
        name = f"{metric} of {part.method} relative to {against}"
    else:
        name = f"{part.method} minus {against} in {metric}"
    budget = "" if part.budget == "steps" else f" at equal {'FLOP' if part.budget == 'flops' else part.budget}"
    return name + (" before training" if part.stage == "initial" else "") + budget


def effect_text(part: Part, effect: Effect) -> str:
    """``+0.5 points [-0.1, +1.1]``, with true minus signs; ``none`` for an effect without numbers."""
    if not effect.n:
        return "none"
    text = amount(part, effect.mean)
    # A spread of a few dependent values can have an error without a bound.
    if effect.has_spread and not part.definition.exact and all(map(math.isfinite, effect.interval())):
        text += f" [{', '.join(amount(part, end, bare=True) for end in effect.interval())}]"
    return text


def amount(part: Part, value: float, *, bare: bool = False) -> str:
    """A number of a part's metric, with its unit unless ``bare``."""
    if part.definition.relative:
        text, unit = f"{100 * value:+z.1f}", "%"
    else:
        digits = 1 if part.definition.unit == "points" else 3
        text, unit = f"{value:{'+' if part.against else ''}z.{digits}f}", part.definition.unit
    return text.replace("-", "\u2212") + (f" {unit}" if unit and not bare else "")


def ends(part: Part, low: float, high: float) -> str:
    """``-0.3 to +0.5 points``; one number if both are written alike."""
    first, last = amount(part, low), amount(part, high)
    return last if first == last else f"{amount(part, low, bare=True)} to {last}"


def bound(part: Part, *, bare: bool = False) -> str:
    """The side of the margin that a part claims: ``above 5 points``, without the unit if ``bare``."""
    scale, unit = (100, "%") if part.definition.relative else (1, part.definition.unit)
    unit = "point" if unit == "points" and abs(part.margin) == 1 else unit
    margin = f"{scale * part.margin:g}".replace("-", "\u2212") + (f" {unit}" if unit and not bare else "")
    return f"within {margin} of 0" if part.direction == "within" else f"{part.direction} {margin}"
