"""Figures: which function draws which, and writing them with the data that are in them."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt

from rdp.errors import UserError, choices
from rdp.report import contents, style
from rdp.report.plots import accuracy, benchmarks, cost, paths, reuse, survival
from rdp.report.plots.common import Drawing
from rdp.tables import Tables
from rdp.utils import files

DRAW: dict[str, Callable[[Tables], Drawing]] = {
    "accuracy": accuracy.accuracy,
    "differences": accuracy.differences,
    "training_curves": accuracy.training_curves,
    "accuracy_by_depth": accuracy.accuracy_by_depth,
    "cost": cost.cost,
    "learning_rates": cost.learning_rates,
    "convergence": paths.convergence,
    "frontier": paths.frontier,
    "throughput": paths.throughput,
    "surviving_neurons": survival.surviving_neurons,
    "dissipation_untrained": paths.dissipation_untrained,
    "dissipation_trained": paths.dissipation_trained,
    "coders": paths.coders,
    "redundancy": reuse.redundancy,
    "reuse_matrices": reuse.reuse_matrices,
    "lesions": reuse.lesions,
    "branch_to_stream": reuse.branch_to_stream,
    "benchmarks": benchmarks.benchmarks,
}


def draw(tables: Tables, name: str) -> Drawing:
    """Draw one of a study's figures."""
    valid = contents.figures(tables.plan)
    if name not in valid:
        raise UserError(f"unknown figure '{name}'; {choices(name, valid)}")
    style.use()
    drawing = DRAW[name](tables) if name in DRAW else _maps(tables, name)
    if drawing.data.empty:
        drawing.figure.text(0.5, 0.5, "nothing to draw yet", ha="center", va="center", color="0.35")
    return drawing


def _maps(tables: Tables, name: str) -> Drawing:
    return reuse.activation_maps(tables, name.removeprefix(f"{contents.MAPS}_"))


def write(tables: Tables, name: str, results: Path) -> None:
    """Draw one figure: ``figures/NAME.{svg,pdf,png}``, the data in it as ``NAME.csv``, its caption as ``NAME.rst``."""
    drawing = draw(tables, name)
    folder = results / tables.plan.name / "figures"
    drawing.figure.draw_without_rendering()  # lays it out, which takes most of the time: once for all three files
    drawing.figure.set_layout_engine("none")
    svg = io.BytesIO()
    drawing.figure.savefig(svg, format="svg", metadata={"Date": None}, dpi=150)
    contents.save_drawing(tables.plan, name, folder, svg.getvalue().decode())
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        with files.whole(folder / f"{name}.{kind}") as part:
            drawing.figure.savefig(part, format=kind, metadata=metadata, dpi=150)
    plt.close(drawing.figure)
    with files.whole(folder / f"{name}.csv") as part:
        drawing.data.to_csv(part, index=False)
    with files.whole(folder / f"{name}.rst") as part:
        part.write_text(contents.caption(name)["caption"] + "\n", encoding="utf-8")
