"""Drawing of figures, written as files together with their data."""

import io
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from rdp.errors import UserError, choices
from rdp.report import contents, plots, style
from rdp.report.plots.common import Drawing
from rdp.tables import Tables
from rdp.utils import files

_LETTER = 0.066  # width of a letter of a title, in inches
_FRAME = 7  # letters' worth of a panel that its ticks take
_DPI = 300  # of the PNG file, and of images in a drawing


def draw(tables: Tables, name: str) -> Drawing:
    """Draw one of a study's figures."""
    valid = contents.figures(tables.plan)
    if name not in valid:
        raise UserError(f"unknown figure '{name}'; {choices(name, valid)}")
    style.use()
    if name.startswith(f"{contents.MAPS}_"):
        drawing: Drawing = plots.function(contents.MAPS)(tables, name.removeprefix(f"{contents.MAPS}_"))
    else:
        drawing = plots.function(name)(tables)
    _tidy(drawing.figure)
    if drawing.data.empty:
        drawing.figure.text(0.5, 0.5, "no data yet", ha="center", va="center", color="0.35")
    return drawing


def _tidy(figure: Figure) -> None:
    """Break titles and axis labels that are longer than their panel, and write once what neighbours share."""
    panels = [(axis, place) for axis in figure.axes if axis.get_visible() and (place := axis.get_subplotspec())]
    labels = {axis: (axis.get_xlabel(), axis.get_ylabel()) for axis, _ in panels}
    rows = {axis: [label.get_text() for label in axis.get_yticklabels()] for axis, _ in panels}
    for axis, place in panels:
        lines, columns = place.get_gridspec().get_geometry()
        wide, high = (
            max(int(size / parts / _LETTER) - _FRAME, 1)
            for size, parts in ((figure.get_figwidth(), columns), (figure.get_figheight(), lines))
        )
        if rows[axis] and rows[axis][0][:1].isalpha():
            wide = max(wide - max(map(len, rows[axis])), 1)  # names of rows stand left of the panel
        for text, letters in ((axis.title, wide), (axis.xaxis.label, wide), (axis.yaxis.label, high)):
            lines_of_text = text.get_text().split("\n")
            text.set_text("\n".join(textwrap.fill(t, letters, break_long_words=False) for t in lines_of_text))
        for other, its in panels:
            if its.colspan == place.colspan and its.rowspan.start == place.rowspan.stop:  # below
                if labels[other][0] == labels[axis][0]:
                    axis.set_xlabel("")
            elif its.rowspan == place.rowspan and its.colspan.stop == place.colspan.start:  # left
                if labels[other][1] == labels[axis][1]:
                    axis.set_ylabel("")
                if rows[other] == rows[axis] and all(name[:1].isalpha() for name in rows[axis]):
                    axis.tick_params(labelleft=False)


def write(tables: Tables, name: str, results: Path) -> None:
    """Write a figure as ``figures/NAME.{svg,pdf,png}``, its data as ``NAME.csv`` and its caption as ``NAME.rst``."""
    drawing = draw(tables, name)
    folder = results / tables.plan.name / "figures"
    drawing.figure.draw_without_rendering()  # the layout takes most of the time; do it once for all three files
    drawing.figure.set_layout_engine("none")
    svg = io.BytesIO()
    drawing.figure.savefig(svg, format="svg", metadata={"Date": None}, dpi=_DPI)
    contents.save_drawing(tables.plan, name, folder, svg.getvalue().decode())
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        with files.atomic_write(folder / f"{name}.{kind}") as part:
            drawing.figure.savefig(part, format=kind, metadata=metadata, dpi=_DPI)
    plt.close(drawing.figure)
    with files.atomic_write(folder / f"{name}.csv") as part:
        drawing.data.to_csv(part, index=False)
    with files.atomic_write(folder / f"{name}.rst") as part:
        part.write_text(contents.caption(name)["caption"] + "\n", encoding="utf-8")
