"""A comparison for people: tables of what changed, each as long as somebody reads."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from rdp.utils.humanize import count

_DASH = "\u2013"
_NUMBERS = 3  # of a run that changed, which a row still tells one by one
_DIGITS = 12  # of a digest


def tables(found: dict[str, Any], most: int) -> Iterator[Table]:
    """What `rdp.diffs.compare` found, of each kind at most so many rows; what is the same is left out."""
    yield _sides(found)
    parts = (_specifications, _runs, _only, _settings, _verdicts, _figures)
    for part in parts:
        table, rows = part(found)
        if rows:
            for row in rows[:most]:
                table.add_row(*row)
            if len(rows) > most:
                table.caption = f"and {len(rows) - most} more; --most and --json show them"
            yield table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", caption_justify="left")


def _sides(found: dict[str, Any]) -> Table:
    left, right = found["left"], found["right"]
    table = _table("what made them", "of", "left", "right")
    table.add_row("study", *(f"{side['study']}, {side['folder']}" for side in (left, right)))
    statuses = [", ".join(f"{n} {status}" for status, n in side["runs"].items()) for side in (left, right)]
    table.add_row("runs", *statuses)
    made = [f"other {name} in {n}" for name, n in found["runs"]["made_otherwise"].items() if n]
    if made:
        table.add_row(f"of {count(found['runs']['in_both'], 'run')} in both", ", ".join(made))
    for row in found["identity"]:
        if not row["same"]:
            table.add_row(row["what"], *(_values(row[side]) for side in ("left", "right")))
    alike = [row["what"] for row in found["identity"] if row["same"]]
    table.caption = f"the same: {', '.join(alike)}" if alike else ""
    return table


def _values(values: list[str]) -> str:
    """``a, b``; of digests the first digits, and of more than three how many more there are."""
    short = [value[:_DIGITS] if len(value) == 64 else value for value in values]
    return ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "") or _DASH


def _specifications(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in found["specifications"]:
        told = "; ".join(f"{name} {a} | {b}" if (a, b) != ("", "") else name for name, (a, b) in row["changes"].items())
        cells = ", ".join(row["cells"][:3]) + (f" and {len(row['cells']) - 3} more" if len(row["cells"]) > 3 else "")
        rows.append([told, str(len(row["cells"])), cells])
    return _table("recipes and options that differ", "left | right", "cells", "which"), rows


def _runs(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in found["runs"]["other"]:
        others = {name: values for name, values in row["changes"].items() if name != "test_accuracy"}
        told = "; ".join(f"{name} {_number(a)} | {_number(b)}" for name, (a, b) in others.items())
        told = told if len(others) <= _NUMBERS else f"{_loss(row)}; {count(len(others), 'number')} in all"
        if not row["changes"]:
            told = "weights or history alone"
        of = "" if row["same_specification"] else "another specification"
        accuracies = (_percent(value) for value in row["accuracy"])
        rows.append([_cell(row), str(row["seed"]), *accuracies, _points(row["points"]), told, of])
    title = f"runs with other numbers: {len(rows)} of {found['runs']['in_both']}, the largest change of accuracy first"
    return _table(title, "cell", "seed", "left", "right", "points", "other numbers, left | right", "why"), rows


def _loss(row: dict[str, Any]) -> str:
    left, right = row["changes"].get("test_loss") or row["changes"].get("train_loss") or (None, None)
    return f"loss {_number(left)} | {_number(right)}"


def _only(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = [
        [side, _cell(row), ", ".join(map(str, row["seeds"])), "the whole cell" if row["cell"] else ""]
        for side in ("left", "right")
        for row in found["runs"][f"only_{side}"]
    ]
    return _table("runs in one alone", "only", "cell", "seeds", "of"), rows


def _settings(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in found["settings"]:
        if row["change"] is None or all(row["left"][name] == row["right"][name] for name in ("accuracy", "difference")):
            continue
        beyond = {None: _DASH, True: "yes", False: "no"}[row["beyond_spread"]]
        told = [_interval(row[side][name], name) for name in ("accuracy", "difference") for side in ("left", "right")]
        place = _cell(row) + (f", {row['recipe']}" if row["recipe"] else "")
        rows.append([place, *told[:2], _points(row["change"]), _number(row["spread"], "{:.2f}"), beyond, *told[2:]])
    columns = ("cell", "left, %", "right, %", "points", "spread", "beyond it", "to the baseline, left", "right")
    table = _table("mean accuracy and paired difference to the baseline, with 95 % intervals", *columns)
    return table, rows


def _verdicts(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    claims = found["claims"]
    rows = [[r["claim"], r["kind"], *("\n".join(r[side]) for side in ("left", "right"))] for r in claims["verdicts"]]
    rows += [[name, "its text", "another digest", "another digest"] for name in claims["texts"]]
    rows += [[name, "only left", "", _DASH] for name in claims["only_left"]]
    rows += [[name, "only right", _DASH, ""] for name in claims["only_right"]]
    if claims["evidence"]:
        names = ", ".join(dict.fromkeys(row["claim"] for row in claims["evidence"]))
        rows.append([names, "evidence", "the same verdicts", "on other numbers"])
    return _table("claims", "claim", "what", "left", "right"), rows


def _figures(found: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in found["figures"]:
        if row["status"] != "same":
            rows.append([row["figure"], row["status"], *_largest(row.get("largest")), _rows(row)])
    return _table("figures", "figure", "status", "largest change", "where", "left", "right", "rows and columns"), rows


def _largest(largest: dict[str, Any] | None) -> list[str]:
    if largest is None:
        return ["", "", "", ""]
    where = ", ".join(largest["where"].values())
    return [largest["column"], where, *(_number(largest[side]) for side in ("left", "right"))]


def _rows(row: dict[str, Any]) -> str:
    parts = []
    for side in ("left", "right"):
        if row.get(f"rows_{side}"):
            parts.append(f"{count(row[f'rows_{side}'], 'row')} only {side}")
        if row.get(f"columns_{side}"):
            parts.append(f"{', '.join(row[f'columns_{side}'])} only {side}")
    return "; ".join(parts)


def _cell(row: dict[str, Any]) -> str:
    return f"{row['architecture']}/{row['dataset']}/{row['method']}"


def _interval(estimate: dict[str, Any] | None, name: str) -> str:
    if estimate is None or estimate["mean"] is None:
        return _DASH
    sign = "+" if name == "difference" else ""
    text = f"{estimate['mean']:{sign}.2f}"
    if estimate["low"] is not None:
        text += f" [{estimate['low']:{sign}.2f}, {estimate['high']:{sign}.2f}]"
    return text.replace("-", "\u2212")


def _percent(value: float | None) -> str:
    return _DASH if value is None else f"{100 * value:.2f} %"


def _points(value: float | None) -> str:
    return _DASH if value is None else "0" if value == 0 else f"{value:+.3g}".replace("-", "\u2212")


def _number(value: Any, form: str = "{:.6g}") -> str:
    if value is None:
        return _DASH
    return form.format(value).replace("-", "\u2212") if isinstance(value, int | float) else str(value)
