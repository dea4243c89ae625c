"""Load the products of one side of a comparison, and verify their seals."""

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
        name: the name or path that the user gave.
        folder: their folder.
        records: one row per run.
        claims: the content of ``claims.json``; None if there is no such file.
        figures: the data behind each figure, by name.
    """

    name: str
    folder: Path
    records: pd.DataFrame
    claims: dict[str, Any] | None
    figures: dict[str, pd.DataFrame]

    @property
    def study(self) -> str:
        """The study's name, which is that of the folder and part of every seal."""
        return self.folder.name


def load(name: str) -> Side:
    """Load the products in ``results/NAME``, or in a folder given as a path with a slash.

    Raises:
        UserError: no such folder; products that are damaged or of another study; a figure without data.
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
        raise UserError(f"{name}: no such folder; give a study's name or a folder of its products")
    if name in paths.studies():
        raise UserError(f"{folder}: no products yet; first: snakemake --cores all --config study={name}")
    studies = [path.parent.name for path in paths.results().glob("*/records.parquet")]
    hint = choices(name, studies)
    raise UserError(f"{folder}: no such folder; {hint}, or a folder such as results/rebuilt/NAME/NAME")


def _figures(study: str, folder: Path) -> dict[str, pd.DataFrame]:
    tables = {}
    for name in sorted({path.stem for kind in ("svg", "csv") for path in folder.glob(f"*.{kind}")}):
        remedy = f"run: rdp plot {study} {name}"
        sealed.read(folder / f"{name}.svg", study, remedy)
        tables[name] = _figure_data(folder / f"{name}.csv", remedy)
    return tables


def _figure_data(path: Path, remedy: str) -> pd.DataFrame:
    """Read the data behind a figure, which are not sealed, because the comparison shows every change of them."""
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:  # an empty figure
        return pd.DataFrame()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); {remedy}") from None
