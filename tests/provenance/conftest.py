"""A small study with planted records, decided and reported, which tests pack."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from rdp import tables
from rdp.claims import verdict_json
from rdp.provenance import checklist
from rdp.report import contents, figures, page, paper
from rdp.study import Plan
from rdp.tables import Tables, collect
from tests.browser.planted import make_plan, make_records
from tests.claims.conftest import AS_CLAIMED
from tests.helpers.planting import SHORT, load, plant
from tests.provenance import validator


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The study, with records, figures and report next to its file."""
    folder = tmp_path_factory.mktemp("provenance")
    plan = load(folder, **SHORT | {"seeds": 2})
    loaded = plant(plan, folder, AS_CLAIMED)
    verdict_json.write(loaded)
    for name in contents.figures(plan):
        figures.write(loaded, name, folder)
    page.write(plan, folder)
    paper.write(plan, folder)
    checklist.write(plan, folder)
    return plan


@pytest.fixture
def results(plan: Plan, tmp_path: Path) -> Path:
    """A fresh copy of the study's results."""
    return Path(shutil.copytree(plan.file.parent, tmp_path / "results"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return validator.fill(tmp_path_factory.mktemp("validator") / "cache")


@pytest.fixture
def tabled(tmp_path: Path) -> Tables:
    """A study with tables only: 2 datasets, 8 seeds, and every number that an answer needs."""
    made = make_plan(tmp_path, architectures="resnet20")
    table = make_records(made, tmp_path)
    table["process_peak_bytes"] = 2.5e9
    history = pd.DataFrame(columns=["run", *collect.HISTORY_COLUMNS])
    collect.save(made.name, tmp_path, table, history, collect.collect_sweep(made, tmp_path, table))
    return tables.load(made, tmp_path)
