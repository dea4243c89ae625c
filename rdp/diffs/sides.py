"""A side of a comparison: the products of one study, read through their seals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rdp.claims import verdict_json
from rdp.errors import UserError, choices
from rdp.tables import collect
from rdp.utils import paths, sealed


@dataclass(frozen=True)
class Side:
    """The products of a study.

    Attributes:
        name: as it was asked for.
        folder: where they lie.
        records: one row a run.
        claims: what is in ``claims.json``; None where there is none.
        figures: the data behind each figure, by its name.
    """

    name: str
    folder: Path
    records: pd.DataFrame
    claims: dict[str, Any] | None
    figures: dict[str, pd.DataFrame]

    @property
    def study(self) -> str:
        """The study's name, which its folder has and its files are sealed with."""
        return self.folder.name


def load(name: str) -> Side:
    """The products in ``results/NAME``, or in a folder (a path with a slash).

    Raises:
        UserError: no such folder; tables, verdicts or drawings that are damaged or another study's; a figure without
            its data.
    """
    folder = _folder(name)
    study, results = folder.name, folder.parent
    table = collect.read(study, results)[0]
    claims = verdict_json.read(study, results) if (folder / "claims.json").exists() else None
    return Side(name, folder, table, claims, _figures(study, folder / "figures"))


def _folder(name: str) -> Path:
    given = paths.parse(name)
    folder = given if "/" in name else paths.results() / given
    if folder.is_dir():
        return folder if folder.name not in ("", "..") else folder.resolve()
    if "/" in name:
        raise UserError(f"{name}: no such folder; a study's name, or a folder of its products is needed")
    if name in paths.studies():
        raise UserError(f"{folder}: no products yet; first: snakemake --cores all --config study={name}")
    there = [path.parent.name for path in paths.results().glob("*/records.parquet")]
    raise UserError(f"{folder}: no such folder; {choices(name, there)}, or a folder such as results/rebuilt/NAME/NAME")


def _figures(study: str, folder: Path) -> dict[str, pd.DataFrame]:
    names = sorted({path.stem for kind in ("svg", "csv") for path in folder.glob(f"*.{kind}")})
    found = {}
    for name in names:
        remedy = f"run: rdp plot {study} {name}"
        sealed.read(folder / f"{name}.svg", study, remedy)
        found[name] = _data(folder / f"{name}.csv", remedy)
    return found


def _data(path: Path, remedy: str) -> pd.DataFrame:
    """The data behind a figure, which has no seal: whoever changed it shows it."""
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:  # of a figure in which there is nothing yet
        return pd.DataFrame()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); {remedy}") from None
