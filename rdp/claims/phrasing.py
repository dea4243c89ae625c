"""Parts of claims and their effects as text."""

import math

from rdp.claims.model import Part
from rdp.stats import Effect


def sample_noun(part: Part) -> str:
    """The noun for one sample of a part: ``round`` or ``seed``."""
    return "round" if part.metric == "throughput" else "seed"


def part_name(part: Part) -> str:
    """``accuracy, pnnh minus vanilla (same_parameters)``."""
    form = f" ({part.against_form})" if part.against_form else ""
    budget = "" if part.budget == "steps" else f" at equal {'FLOP' if part.budget == 'flops' else part.budget}"
    stage = ", untrained" if part.stage == "initial" else ""
    other = f" {'relative to' if part.definition.relative else 'minus'} {part.against}{form}" if part.against else ""
    return f"{part.metric.replace('_', ' ')}{stage}, {part.method}{other}{budget}"


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
        text, unit = f"{100 * value:+.1f}", "%"
    else:
        digits = 1 if part.definition.unit == "points" else 3
        text, unit = f"{value:{'+' if part.against else ''}.{digits}f}", part.definition.unit
    return text.replace("-", "\u2212") + (f" {unit}" if unit and not bare else "")


def bound(part: Part, *, bare: bool = False) -> str:
    """The side of the margin that a part claims: ``above +0.0 points``, without the unit if ``bare``."""
    margin = amount(part, part.margin, bare=bare)
    return f"within {margin.lstrip('+')} of 0" if part.direction == "within" else f"{part.direction} {margin}"
