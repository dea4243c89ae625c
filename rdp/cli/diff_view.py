"""Show a comparison of two studies as terminal tables."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from rdp.utils.humanize import count

_DASH = "\u2013"
_LISTED = 3  # changed numbers of a run, values and cells that a row lists
_DIGITS = 12  # of a digest
_SIDES = ("left", "right")


def tables(differences: dict[str, Any], most: int) -> Iterator[Table]:
    """Yield tables of the result of `rdp.diffs.compare`, each with at most ``most`` rows, without what is equal."""
    yield _sides(differences)
    for make in (_specifications, _runs, _only, _settings, _verdicts, _figures):
        table, rows = make(differences)
        if rows:
            for row in rows[:most]:
                table.add_row(*row)
            if len(rows) > most:
                table.caption = f"and {len(rows) - most} more; --most and --json show them"
            yield table


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", caption_justify="left")


def _sides(differences: dict[str, Any]) -> Table:
    table = _table("sides", "", *_SIDES)
    sides, runs = [differences[side] for side in _SIDES], differences["runs"]
    table.add_row("study", *(f"{side['study']}, {side['folder']}" for side in sides))
    table.add_row("runs", *(", ".join(f"{n} {status}" for status, n in side["runs"].items()) for side in sides))
    other = [f"other {name} in {n}" for name, n in runs["other_identity"].items() if n]
    if other:
        table.add_row(f"of {count(runs['in_both'], 'run')} in both", ", ".join(other))
    for row in differences["identity"]:
        if not row["same"]:
            table.add_row(row["what"], *(_values(row[side]) for side in _SIDES))
    same = [row["what"] for row in differences["identity"] if row["same"]]
    table.caption = f"the same: {', '.join(same)}" if same else ""
    return table


def _values(values: list[str]) -> str:
    return _first([value[:_DIGITS] if len(value) == 64 else value for value in values]) or _DASH


def _first(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _specifications(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in differences["specifications"]:
        changes = [f"{name} {a} | {b}" if (a, b) != ("", "") else name for name, (a, b) in row["changes"].items()]
        rows.append(["; ".join(changes), str(len(row["cells"])), _first(row["cells"])])
    return _table("recipes and options that differ", "left | right", "cells", "which"), rows


def _runs(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in differences["runs"]["other"]:
        numbers = {name: values for name, values in row["changes"].items() if name != "test_accuracy"}
        text = "; ".join(f"{name} {_number(a)} | {_number(b)}" for name, (a, b) in numbers.items())
        if len(numbers) > _LISTED:
            left, right = numbers.get("test_loss") or numbers.get("train_loss") or (None, None)
            text = f"loss {_number(left)} | {_number(right)}; {count(len(numbers), 'number')} in all"
        if not row["changes"]:
            text = "only weights or history"
        reason = "" if row["same_specification"] else "another specification"
        accuracies = (_DASH if value is None else f"{100 * value:.2f} %" for value in row["accuracy"])
        rows.append([_cell(row), str(row["seed"]), *accuracies, _points(row["points"]), text, reason])
    total = differences["runs"]["in_both"]
    title = f"runs with other numbers: {len(rows)} of {total}, the largest change of accuracy first"
    return _table(title, "cell", "seed", *_SIDES, "points", "other numbers, left | right", "reason"), rows


def _only(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = [
        [side, _cell(row), ", ".join(map(str, row["seeds"])), "the whole cell" if row["cell"] else ""]
        for side in _SIDES
        for row in differences["runs"][f"only_{side}"]
    ]
    return _table("runs on one side only", "side", "cell", "seeds", ""), rows


def _settings(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in differences["settings"]:
        if row["change"] is None or all(row["left"][name] == row["right"][name] for name in ("accuracy", "difference")):
            continue
        beyond = {None: _DASH, True: "yes", False: "no"}[row["beyond_spread"]]
        accuracies, to_baseline = (
            [_interval(row[side][name], sign) for side in _SIDES]
            for name, sign in (("accuracy", ""), ("difference", "+"))
        )
        cell = _cell(row) + (f", {row['recipe']}" if row["recipe"] else "")
        change = [_points(row["change"]), _number(row["spread"], "{:.2f}"), beyond]
        rows.append([cell, *accuracies, *change, *to_baseline])
    columns = ("cell", "left, %", "right, %", "points", "spread", "beyond it", "to the baseline, left", "right")
    return _table("mean accuracy and paired difference to the baseline, with 95 % intervals", *columns), rows


def _verdicts(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    claims = differences["claims"]
    rows = [[row["claim"], row["kind"], *("\n".join(row[side]) for side in _SIDES)] for row in claims["verdicts"]]
    rows += [[name, "its text", "another digest", "another digest"] for name in claims["texts"]]
    rows += [[name, "only left", "", _DASH] for name in claims["only_left"]]
    rows += [[name, "only right", _DASH, ""] for name in claims["only_right"]]
    if claims["evidence"]:
        names = ", ".join(dict.fromkeys(row["claim"] for row in claims["evidence"]))
        rows.append([names, "evidence", "the same verdicts", "from other numbers"])
    return _table("claims", "claim", "what", *_SIDES), rows


def _figures(differences: dict[str, Any]) -> tuple[Table, list[list[str]]]:
    rows = []
    for row in differences["figures"]:
        if row["status"] != "same":
            cells = ["", "", "", ""]
            if largest := row.get("largest"):
                where = ", ".join(largest["where"].values())
                cells = [largest["column"], where, *(_number(largest[side]) for side in _SIDES)]
            rows.append([row["figure"], row["status"], *cells, _rows_and_columns(row)])
    columns = ("figure", "status", "largest change", "where", *_SIDES, "rows and columns")
    return _table("figures", *columns), rows


def _rows_and_columns(row: dict[str, Any]) -> str:
    parts = []
    for side in _SIDES:
        if row.get(f"rows_{side}"):
            parts.append(f"{count(row[f'rows_{side}'], 'row')} only {side}")
        if row.get(f"columns_{side}"):
            parts.append(f"{', '.join(row[f'columns_{side}'])} only {side}")
    return "; ".join(parts)


def _cell(row: dict[str, Any]) -> str:
    return f"{row['architecture']}/{row['dataset']}/{row['method']}"


def _interval(estimate: dict[str, Any] | None, sign: str) -> str:
    if estimate is None or estimate["mean"] is None:
        return _DASH
    text = f"{estimate['mean']:{sign}.2f}"
    if estimate["low"] is not None:
        text += f" [{estimate['low']:{sign}.2f}, {estimate['high']:{sign}.2f}]"
    return text.replace("-", "\u2212")


def _points(value: float | None) -> str:
    return _DASH if value is None else "0" if value == 0 else _number(value, "{:+.3g}")


def _number(value: Any, form: str = "{:.6g}") -> str:
    if value is None:
        return _DASH
    return form.format(value).replace("-", "\u2212") if isinstance(value, int | float) else str(value)
