"""Drawing of figures, written as files together with their data."""

import io
from pathlib import Path

import matplotlib.pyplot as plt

from rdp.errors import UserError, choices
from rdp.report import contents, plots, style
from rdp.report.plots.common import Drawing
from rdp.tables import Tables
from rdp.utils import files


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
    if drawing.data.empty:
        drawing.figure.text(0.5, 0.5, "no data yet", ha="center", va="center", color="0.35")
    return drawing


def write(tables: Tables, name: str, results: Path) -> None:
    """Write a figure as ``figures/NAME.{svg,pdf,png}``, its data as ``NAME.csv`` and its caption as ``NAME.rst``."""
    drawing = draw(tables, name)
    folder = results / tables.plan.name / "figures"
    drawing.figure.draw_without_rendering()  # the layout takes most of the time; do it once for all three files
    drawing.figure.set_layout_engine("none")
    svg = io.BytesIO()
    drawing.figure.savefig(svg, format="svg", metadata={"Date": None}, dpi=150)
    contents.save_drawing(tables.plan, name, folder, svg.getvalue().decode())
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        with files.atomic_write(folder / f"{name}.{kind}") as part:
            drawing.figure.savefig(part, format=kind, metadata=metadata, dpi=150)
    plt.close(drawing.figure)
    with files.atomic_write(folder / f"{name}.csv") as part:
        drawing.data.to_csv(part, index=False)
    with files.atomic_write(folder / f"{name}.rst") as part:
        part.write_text(contents.caption(name)["caption"] + "\n", encoding="utf-8")
