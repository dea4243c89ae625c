"""Parts of claims, and effects, in words."""

from rdp.claims.model import Part
from rdp.stats import Effect


def noun(part: Part) -> str:
    """What a part has its numbers of."""
    return "round" if part.metric == "throughput" else "seed"


def named(part: Part) -> str:
    """``accuracy, pnnh less vanilla (same_parameters)``."""
    form = f" ({part.against_form})" if part.against_form else ""
    budget = "" if part.budget == "steps" else f" at equal {'FLOP' if part.budget == 'flops' else part.budget}"
    stage = ", untrained" if part.stage == "initial" else ""
    other = f" {'against' if part.kind.relative else 'less'} {part.against}{form}" if part.against else ""
    return f"{part.metric.replace('_', ' ')}{stage}, {part.method}{other}{budget}"


def told(part: Part, effect: Effect) -> str:
    """``+0.5 points [-0.1, +1.1]``, with true minus signs; ``none`` where there is no number."""
    if not effect.n:
        return "none"
    text = amount(part, effect.mean)
    if effect.has_spread and not part.kind.exact:
        text += f" [{', '.join(amount(part, end, bare=True) for end in effect.interval())}]"
    return text


def amount(part: Part, value: float, *, bare: bool = False) -> str:
    """A number of a part's metric as text, with its unit unless ``bare``."""
    if part.kind.relative:
        text, unit = f"{100 * value:+.1f}", "%"
    else:
        digits = 1 if part.kind.unit == "points" else 3
        text, unit = f"{value:{'+' if part.against else ''}.{digits}f}", part.kind.unit
    return text.replace("-", "\u2212") + (f" {unit}" if unit and not bare else "")


def bound(part: Part, *, bare: bool = False) -> str:
    """What a part says of its number: ``above +0.0 points``, or without the unit if ``bare``."""
    margin = amount(part, part.margin, bare=bare)
    return f"within {margin.lstrip('+')} of 0" if part.direction == "within" else f"{part.direction} {margin}"
