"""The paper: a PDF typeset by Typst from a study's records, verdicts and figures.

The templates contain prose and no numbers; every number is a value from `rdp.report.paper_values`. External text (a
title, a label, the reason of a failure) reaches Typst as a quoted string and never as source.
"""

import logging
from pathlib import Path
from typing import Any

import jinja2
import typst
from markupsafe import Markup

from rdp.errors import UserError
from rdp.report import formatting
from rdp.report.paper_values import values
from rdp.study import Plan
from rdp.utils import files, paths
from rdp.utils.humanize import count

log = logging.getLogger(__name__)
_NAMED = 20  # letters that a warning lists


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/paper.pdf`` and its Typst source ``report/paper.typ``.

    Both are written completely or not at all. The same records give the same bytes. Letters that the fonts lack are
    named in a warning; they are boxes or gaps in the PDF.
    """
    folder = results / plan.name
    text = render(values(plan, results))
    path = folder / "report" / "paper.pdf"
    with files.atomic_write(path.with_suffix(".typ")) as source, files.atomic_write(path) as part:
        source.write_text(text, encoding="utf-8")
        try:
            # System fonts would change the pages from machine to machine; Typst has its own.
            # typst's stub requires the types of input and root to be equal.
            part.write_bytes(
                typst.compile(text.encode(), root=folder, ignore_system_fonts=True, timestamp=0)  # type: ignore[type-var]
            )
        except typst.TypstError as error:
            raise UserError(f"{path}: Typst cannot compile it: {' '.join(str(error).split())}") from None
    if missing := missing_letters(text):
        named = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in missing[:_NAMED])
        more = f" and {count(len(missing) - _NAMED, 'more letter')}" if len(missing) > _NAMED else ""
        log.warning("%s: its fonts lack %s%s; the page shows them", path, named, more)
    return path


def missing_letters(text: str) -> str:
    """The letters of a text that no font of Typst has, in the order of their code points."""
    letters = "".join(sorted({letter for letter in text if letter.isprintable() and not letter.isascii()}))
    return "" if _has_glyphs(letters) else "".join(letter for letter in letters if not _has_glyphs(letter))


def _has_glyphs(letters: str) -> bool:
    # Typst reports a missing glyph only in PDF/A, which forbids it.
    try:
        typst.compile(f"#{_string(letters)}".encode(), ignore_system_fonts=True, timestamp=0, pdf_standards=["a-2b"])
    except typst.TypstError:
        return False
    return True


def render(content: dict[str, Any]) -> str:
    """The paper as Typst source; raises `UserError` for a missing value, with its name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.templates()),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        autoescape=True,  # tells the output of macros from external text
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.FILTERS | {
        "code": lambda value: Markup(_string(value)),
        "integer": lambda value: Markup(int(value)),
    }
    try:
        return environment.get_template("paper.typ.j2").render(content)
    except jinja2.UndefinedError as error:
        raise UserError(f"{paths.templates() / 'paper.typ.j2'}: a value is missing: {error}") from None


def _shown(value: Any) -> Any:
    """A value as Typst markup that shows the value literally."""
    if isinstance(value, Markup):
        return value
    if value is None or isinstance(value, float):
        raise TypeError(f"the paper has a value without a format filter: {value}")
    return Markup(f"#{_string(value)};")  # the semicolon keeps a following bracket from calling the string


def _string(value: Any) -> str:
    """A Typst string in quotes, on one line."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
