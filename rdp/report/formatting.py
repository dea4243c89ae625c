"""Numbers and lists as text, for the page and the paper."""

from collections.abc import Iterable
from typing import Any

from rdp.claims import metrics, phrasing
from rdp.claims.model import Part
from rdp.report import efficiency
from rdp.stats import Estimate
from rdp.utils.humanize import count, listed

DASH = "\u2013"  # for an unknown value
_KILO = 1000.0
_WATT_HOUR = 3600.0  # joules


def ranges(numbers: Iterable[int]) -> str:
    """``0 to 3, 7``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)


def number(value: float | None, form: str) -> str:
    """A number in the given format; a dash for None and NaN."""
    if value is None or value != value:
        return DASH
    # A mean of 0.75 may be computed as 0.7499999999999, and would then be another number than where it is exact.
    shown = float(f"{value:.12g}") if isinstance(value, float) else value
    return form.format(shown).replace("-", "\u2212")


def rounded(value: float) -> str:
    """A number to three digits: ``0.0123``, ``1.25``, ``1,234``."""
    return f"{value:,.0f}" if value >= 100 else f"{float(f'{value:.3g}'):.10g}"


def interval(estimate: dict[str, float | None], form: str) -> str:
    """``0.93 [0.90, 0.95]``, from a mean and its interval in claims.json."""
    mean, low, high = (number(estimate[name], form) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def times(row: efficiency.Efficiency) -> str:
    """``1.4 [1.1, 1.9]``; a limit in place of an end that the baseline's widths do not cover."""
    limits = {0.0: f"below {row.smallest:.2g}", float("inf"): f"above {row.largest:.2g}"}
    ratio, low, high = (limits.get(value, f"{value:.2g}") for value in (row.ratio, row.low, row.high))
    return f"{ratio} [{low}, {high}]"


def bound(row: dict[str, Any]) -> str:
    """The claimed bound of a comparison in claims.json: ``above 0 points, and refuted if below 0.5 points``."""
    part = part_of(row)
    if not part.negligible:
        return phrasing.bound(part)
    side, sign = ("below", 1) if part.direction == "above" else ("above", -1)
    end = phrasing.amount(part, part.margin + sign * part.negligible).lstrip("+")
    return f"{phrasing.bound(part)}, and refuted if {side} {end}"


def part_of(row: dict[str, Any]) -> Part:
    """The fields of a comparison's part in claims.json that its units and bounds depend on."""
    names = ("metric", "budget", "stage", "direction", "margin", "negligible", "method", "against")
    return Part.model_construct(**{name: row[name] for name in names})


def p(row: dict[str, Any], name: str) -> str:
    """A p value of a comparison in claims.json; a dash where there was no such test."""
    if not row["n"] or row["reason"] or row[name] is None:
        return DASH
    if metrics.available()[row["metric"]].exact:
        return "exact"
    return "< 0.001" if row[name] < 0.001 else f"{row[name]:.3f}"


def percent(estimate: Estimate) -> str:
    """``96.4 % [95.9, 96.9]``, without the interval if there is none."""
    return _estimate(estimate, "{:.1f} %", "{:.1f}")


def points(estimate: Estimate) -> str:
    """``+0.5 points [-0.1, +1.1]``, without the interval if there is none."""
    # An interval that excludes 0 must not be rounded to end at 0.
    ends_at_zero = estimate.excludes(0) and min(abs(estimate.low), abs(estimate.high)) < 0.05
    digits = 2 if ends_at_zero else 1
    return _estimate(estimate, f"{{:+z.{digits}f}} points", f"{{:+z.{digits}f}}")


def _estimate(estimate: Estimate, mean: str, end: str) -> str:
    if not estimate.n:
        return "none"
    text = number(estimate.mean, mean)
    return text + (f" [{number(estimate.low, end)}, {number(estimate.high, end)}]" if estimate.has_interval else "")


def joules(row: dict[str, Any], kind: str) -> str:
    """``1.25 kWh``, with the number of runs that measured it if not all did; a dash if none did."""
    if row[kind] is None:
        return DASH
    hours = row[kind] / _WATT_HOUR
    amount = f"{rounded(hours / _KILO)} kWh" if hours >= _KILO else f"{rounded(hours)} Wh"
    return amount + (f" ({row[f'{kind}_of']} of {row['runs']} runs)" if row[f"{kind}_of"] < row["runs"] else "")


def hours(row: dict[str, Any]) -> str:
    """``12.5 core-hours``, ``3 GPU-hours``, or both; a dash if no run has a time."""
    amounts = ((row["gpu_hours"], "GPU"), (row["core_hours"], "core"))
    return " and ".join(f"{rounded(value)} {of}-hours" for value, of in amounts if value) or DASH


def at_scale(verdict: str) -> str:
    """``refuted at this scale``; other words say nothing that scale could change."""
    return f"{verdict} at this scale" if verdict in ("supported", "refuted") else verdict


def within_sentence(title: str) -> str:
    """A title without the capital letter of a sentence's beginning; names keep theirs."""
    first = title.partition(" ")[0]
    return title[:1].lower() + title[1:] if first[1:] == first[1:].lower() else title


FILTERS = {  # of the templates of page and paper
    function.__name__: function
    for function in (
        *(at_scale, bound, count, hours, interval, joules, listed, number, p, percent, points, ranges, rounded, times),
        within_sentence,
    )
}
