"""Tables as LaTeX."""

import math
from typing import Any

import pandas as pd

_ESCAPES = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # at the start of a row it would be an argument of the preceding line break
    "\u2212": "$-$",
    "\u2013": "--",
    "\u00b2": "$^2$",
}
_ESCAPED = str.maketrans(_ESCAPES)


def tabular(table: pd.DataFrame) -> str:
    """A table as a ``tabular`` environment with booktabs rules."""
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    rows = (
        [_number(float(value)) if number else _text(value) for value, number in zip(row, numeric, strict=True)]
        for row in table.itertuples(index=False)
    )
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}",
            r"\toprule",
            " & ".join(map(_text, table.columns)) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _text(value: Any) -> str:
    """A text, escaped for LaTeX."""
    return " ".join(str(value).split()).translate(_ESCAPED)


def _number(number: float) -> str:
    """A number with four significant digits, or all digits of a whole number; two dashes for NaN."""
    if math.isnan(number):
        return "--"
    if math.isinf(number):
        return r"$\infty$" if number > 0 else r"$-\infty$"
    text = f"{number:.0f}" if number.is_integer() or abs(number) >= 1000 else f"{number:.4g}"
    return f"${text}$" if text.startswith("-") else text
