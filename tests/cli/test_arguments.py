"""Runs that are named on the command line."""

import pytest

from rdp import study
from rdp.cli.arguments import select
from rdp.errors import UserError


@pytest.fixture
def plan(study_content, write_study):
    """Two grids that differ in the number of epochs, so that each cell's name is that of two."""
    lengths = [{"datasets": ["spiral"], "architectures": ["mlp8"], "recipe": {"epochs": epochs}} for epochs in (1, 2)]
    return study.load(write_study(study_content | {"grids": lengths}))


def chosen(plan, *names: str) -> list[tuple[str, int, int]]:
    return [(spec.method, spec.recipe.epochs, spec.seed) for spec in select(plan, list(names))]


def test_without_names_all_runs_are_selected_seed_by_seed(plan):
    runs = [(method, epochs) for epochs in (1, 2) for method in ("vanilla", "droppath")]
    assert chosen(plan) == [(*run, seed) for seed in (0, 1) for run in runs]


def test_a_name_selects_every_cell_that_has_it(plan):
    assert chosen(plan, "mlp8/spiral/vanilla") == [("vanilla", epochs, seed) for seed in (0, 1) for epochs in (1, 2)]


def test_a_name_with_a_seed_selects_that_seed_of_every_such_cell(plan):
    assert chosen(plan, "mlp8/spiral/droppath/seed-0001") == [("droppath", epochs, 1) for epochs in (1, 2)]


def test_names_of_the_store_and_receipts_select_one_cell_or_run(plan):
    cell = plan.cells[2]
    assert select(plan, [cell.id]) == list(cell.specs)
    run = cell.specs[1].run
    assert select(plan, [run]) == select(plan, [f"results/store/{run}.json"]) == [cell.specs[1]]


def test_a_run_named_twice_is_selected_once(plan):
    assert len(chosen(plan, "mlp8/spiral/vanilla", plan.cells[0].id)) == 4


def test_an_unknown_name_is_refused_with_the_nearest_ones(plan):
    with pytest.raises(UserError, match=r"no run or cell 'mlp8/spiral/vanila'.*mlp8/spiral/vanilla"):
        select(plan, ["mlp8/spiral/vanila"])
