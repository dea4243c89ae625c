"""Arguments and options that several commands take."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from rdp import study
from rdp.errors import UserError, choices
from rdp.spec import RunSpec

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, or path to its file.")]
Cores = Annotated[
    int, typer.Option(metavar="N", min=1, max=1024, help="Train as many runs at a time as fit on N cores.")
]
Gpus = Annotated[
    int, typer.Option(metavar="N", min=0, help="Reserve N GPUs of this machine; with 0, use any that is free.")
]


def select(plan: study.Plan, names: list[str]) -> list[RunSpec]:
    """Return the runs that are named on the command line, or all runs of a study if no name is given.

    They are in the order of their seeds: what is finished of an interrupted study has all methods for its first seeds.
    Names are of cells and runs, as `rdp plan` or the store spells them, or paths of receipts. Cells with other recipes
    may share a name, which then selects all of them.

    Raises:
        UserError: no cell or run has such a name.
    """
    if not names:
        return _by_seed(plan.specs)
    by_name: dict[str, list[RunSpec]] = defaultdict(list)
    for cell in plan.cells:
        for spec in cell.specs:
            for name in (cell.title, cell.id, f"{cell.title}/seed-{spec.seed:04d}", spec.run):
                by_name[name].append(spec)
    selected: dict[str, RunSpec] = {}
    for name in names:
        # The path of a receipt ends with the run's name and .json.
        run = "/".join(Path(name).with_suffix("").parts[-2:]) if name.endswith(".json") else name
        if run not in by_name:
            titles = list(dict.fromkeys(cell.title for cell in plan.cells))
            raise UserError(f"{plan.file}: no run or cell '{name}'; {choices(name, titles)}")
        selected |= {spec.run: spec for spec in by_name[run]}
    return _by_seed(selected.values())


def _by_seed(specs: Iterable[RunSpec]) -> list[RunSpec]:
    return sorted(specs, key=lambda spec: spec.seed)
