"""Figures: this project's, then the user's (`rdp.utils.extensions`).

A module of this package declares figures in the literal ``FIGURES`` and defines a function of each figure's name, which
draws a study's tables: ``draw(tables: Tables) -> common.Drawing``. ``FIGURES`` maps a name to these keys, all optional:

- ``probe``: the probe whose measurements the figure shows. Only studies with this probe have the figure.
- ``needs``: ``baseline``, ``sweep``, ``depths``, ``widths``, ``lengths`` or ``speed``: what else a study must have.
- ``title``, ``caption``, ``alt``: its texts. Those of this project are in report/captions.yaml.

``FIGURES`` is read without running the file, since the Snakefile lists figures without importing matplotlib. To add a
figure, add ``extensions/figures/NAME.py``.
"""

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from rdp.errors import UserError, choices
from rdp.utils import extensions

if TYPE_CHECKING:
    from collections.abc import Callable

    from rdp.report.plots.common import Drawing

__path__ = extensions.search_path(__path__, "figures")

NEEDS = ("baseline", "sweep", "depths", "widths", "lengths", "speed")
TEXTS = ("title", "caption", "alt")


@dataclass(frozen=True)
class Figure:
    """A figure as its module declares it.

    Attributes:
        module: the full name of the module that draws it.
        probe, needs: what a study must have, see the package's docstring.
        texts: its title, caption and alternative text; empty for a figure of this project.
    """

    module: str
    probe: str | None
    needs: str | None
    texts: dict[str, str]


@cache
def available() -> dict[str, Figure]:
    """All figures by name, in the order of their files, without importing matplotlib.

    Raises:
        UserError: a declaration that is not as above, or two figures of one name.
    """
    figures: dict[str, Figure] = {}
    for module, file in extensions.modules(sys.modules[__name__]).items():
        for name, declared in extensions.literals(file, ["FIGURES"]).get("FIGURES", {}).items():
            where = f"{file}: FIGURES: {name}"
            if name in figures:
                raise UserError(f"{where}: another file has a figure of this name; rename it")
            for key in declared:
                if key not in ("probe", "needs", *TEXTS):
                    raise UserError(f"{where}: unknown key '{key}'; {choices(key, ('probe', 'needs', *TEXTS))}")
            if (needs := declared.get("needs")) not in (None, *NEEDS):
                raise UserError(f"{where}: needs: unknown value '{needs}'; {choices(needs, NEEDS)}")
            texts = {key: declared[key] for key in TEXTS if key in declared}
            figures[name] = Figure(f"{__name__}.{module}", declared.get("probe"), needs, texts)
    return figures


def function(name: str) -> "Callable[..., Drawing]":
    """The function that draws a figure."""
    module = available()[name].module
    draw = getattr(extensions.load(module), name, None)
    if draw is None:
        raise UserError(f"{module}: no function '{name}', which FIGURES declares")
    return cast("Callable[..., Drawing]", draw)


def modules() -> list[str]:
    """The full names of the modules that draw figures."""
    return list(dict.fromkeys(figure.module for figure in available().values()))
