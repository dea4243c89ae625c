"""The style of all figures, readable without colour."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind palette, with grey for yellow, which is too pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#7F7F7F")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 3)))

# Inches. A figure has the width of the paper's text, where its letters have 7 to 8 points.
WIDTH = 6.3
HEIGHT = 8.0  # of a figure that fits on a page with its caption
_CHARACTER = 0.0545  # width of a character of a note
_LINE = 0.12  # height of a line of it


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash of a method, the same in every figure."""

    colour: str
    marker: str
    dash: object


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """The look of each method. Colour, marker and dash repeat at different periods."""
    return {
        label: Look(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)], _DASHES[i % len(_DASHES)])
        for i, label in enumerate(labels)
    }


def use() -> None:
    """Set the style and the options that make files reproducible."""
    mpl.use("Agg")
    sns.set_theme(style="whitegrid", context="paper", font_scale=0.85)
    mpl.rcParams.update(
        {
            "svg.hashsalt": "rdp",
            "svg.fonttype": "path",
            "pdf.fonttype": 42,
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "axes.labelpad": 2.5,
            "legend.frameon": False,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "xtick.major.pad": 2,
            "ytick.major.pad": 2,
        }
    )


def note(figure: Figure, text: str) -> None:
    """Write a note below the axes, wrapped to the width of the figure, which gets higher by it."""
    if text:
        lines = textwrap.wrap(text, int(figure.get_figwidth() / _CHARACTER))
        figure.set_figheight(figure.get_figheight() + _LINE * len(lines))
        text = "\n".join(lines)
        figure.supxlabel(text, fontsize=7, x=0.01, ha="left", color="0.35")
