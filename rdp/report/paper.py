"""The paper: a PDF that Typst sets from a study's records, verdicts and figures.

The templates hold prose and no number: each is a value that `rdp.report.paper_values` names. What comes from outside,
be it a title, a label or the reason of a failure, reaches Typst as a string in quotes and never as its source.
"""

from pathlib import Path
from typing import Any

import jinja2
import typst
from markupsafe import Markup

from rdp.errors import UserError
from rdp.report import compute_cost, formatting, summary
from rdp.report.paper_values import values
from rdp.study import Plan
from rdp.utils import files, paths
from rdp.utils.humanize import count


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/paper.pdf`` of a study, and beside it the Typst source that it was set from.

    Both are whole or absent, and the same records give the same bytes.
    """
    folder = results / plan.name
    text = render(values(plan, results))
    path = folder / "report" / "paper.pdf"
    with files.whole(path.with_suffix(".typ")) as source, files.whole(path) as part:
        source.write_text(text, encoding="utf-8")
        try:
            # Fonts of the machine would make other pages elsewhere; Typst brings its own.
            part.write_bytes(typst.compile(text.encode(), root=folder, ignore_system_fonts=True, timestamp=0))
        except typst.TypstError as error:
            raise UserError(f"{path}: Typst cannot set it: {' '.join(str(error).split())}") from None
    return path


def render(content: dict[str, Any]) -> str:
    """The paper as Typst source; raises `UserError` with the name of a value that the templates use and is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.templates()),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        autoescape=True,  # so that what a macro makes is known from what comes from outside
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": lambda value: Markup(_string(value)),
        "number": formatting.number,
        "rounded": formatting.rounded,
        "count": count,
        "percent": summary.percent,
        "points": summary.points,
        "times": formatting.times,
        "joules": compute_cost.joules,
        "interval": formatting.interval,
        "bound": formatting.bound,
        "p": formatting.p,
        "listed": formatting.listed,
        "ranges": formatting.ranges,
    }
    try:
        return environment.get_template("paper.typ.j2").render(content)
    except jinja2.UndefinedError as error:
        raise UserError(f"{paths.templates() / 'paper.typ.j2'}: a value is missing: {error}") from None


def _shown(value: Any) -> Any:
    """A value as Typst markup that shows it as it is, whatever signs it holds."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, float):
        raise TypeError(f"a value reached the paper that no filter gave a form: {value}")
    return Markup(f"#{_string(value)};")  # without the semicolon, a bracket behind it would call the string


def _string(value: Any) -> str:
    """A Typst string in quotes, on one line."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
