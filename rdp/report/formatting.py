"""Numbers and lists as text, for the page and the paper."""

from collections.abc import Iterable
from typing import Any

from rdp.claims import metrics
from rdp.report import efficiency

DASH = "\u2013"  # for an unknown value


def ranges(numbers: Iterable[int]) -> str:
    """``0 to 3, 7``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans)


def listed(words: Iterable[Any], last: str = "and") -> str:
    """``a, b and c``."""
    *others, end = map(str, words)
    return f"{', '.join(others)} {last} {end}" if others else end


def number(value: float | None, form: str) -> str:
    """A number in the given format; a dash for None and NaN."""
    return DASH if value is None or value != value else form.format(value).replace("-", "\u2212")


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
    """The claimed bound of a comparison's effect, for prose: ``above 5 points``.

    The margin has the digits of the claims file; `rdp.claims.phrasing.bound` uses the sign and digits of the effects.
    """
    scale, unit = (100, "%") if row["relative"] else (1, row["unit"])
    margin = f"{number(scale * row['margin'], '{:g}')} {unit}".strip()
    return f"within {margin} of 0" if row["direction"] == "within" else f"{row['direction']} {margin}"


def p(row: dict[str, Any], name: str) -> str:
    """A p value of a comparison in claims.json; a dash where there was no such test."""
    if not row["n"] or row["reason"] or row[name] is None:
        return DASH
    if metrics.available()[row["metric"]].exact:
        return "exact"
    return "< 0.001" if row[name] < 0.001 else f"{row[name]:.3f}"
