"""What several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from rdp import study
from rdp.errors import UserError, choices
from rdp.spec import RunSpec

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="a study's name, or a path to its file")]
Gpus = Annotated[
    int, typer.Option(min=0, help="of this machine's GPUs, hold so many for this job alone; 0: take what is there")
]


def select(planned: study.Plan, names: list[str]) -> list[RunSpec]:
    """The runs that names on the command line mean; all of the study's where there are none."""
    by_name: dict[str, list[RunSpec]] = {}
    for cell in planned.cells:
        by_name[cell.title] = by_name[cell.id] = list(cell.specs)
        for spec in cell.specs:
            by_name[spec.run] = by_name[f"{cell.title}/seed-{spec.seed:04d}"] = [spec]
    if not names:
        return list(planned.specs)
    chosen = {}
    for name in names:
        # A receipt's path is the run's name in the store, with a folder before it and .json behind.
        short = "/".join(Path(name).with_suffix("").parts[-2:]) if name.endswith(".json") else name
        if short not in by_name:
            titles = [cell.title for cell in planned.cells]
            raise UserError(f"{planned.file}: no run or cell '{name}'; {choices(name, titles)}")
        chosen |= {spec.run: spec for spec in by_name[short]}
    return list(chosen.values())
