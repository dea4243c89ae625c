"""The page of a planted study, for a real browser."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rdp.report import page
from rdp.study import Plan
from tests.browser import planted

NAME = "<script>window.entered = 1<!--"
OUTSIDE = "</script><script>window.entered = 1</script><!-- & 'quoted'"


class Built(NamedTuple):
    """A page, the study it is of, and the claims that it shows."""

    path: Path
    plan: Plan
    claims: dict[str, Any]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The page of a planted study, with text from outside that would be markup, were it not escaped."""
    folder = tmp_path_factory.mktemp("page")
    # Study files refuse such a name already; the page does not rely on it.
    plan = replace(planted.make_plan(folder, title=OUTSIDE), name=NAME)
    table = planted.make_records(plan, folder)
    table.loc[0, ["status", "accuracy", "test_accuracy", "reason"]] = ["diverged", 0.1, 0.1, OUTSIDE]
    table.loc[1, ["status", "accuracy", "test_accuracy", "reason"]] = ["missing", float("nan"), float("nan"), OUTSIDE]
    history = planted.make_history(table)
    loaded = planted.save(plan, folder, table, history[history["run"] != table["run"][1]])
    claims = planted.save_claims(loaded)
    return Built(page.write(plan, folder), plan, claims)
