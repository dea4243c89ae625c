"""Power of a study's seeds before training."""

import pytest

from rdp import study
from rdp.claims import model, planning
from rdp.claims.model import KINDS
from rdp.cli.plan_view import plan_tables
from tests.helpers.planting import SHORT, STUDY, load


def prospects(plan):
    return {(p.claim, p.kind): p for p in planning.prospects(model.load(), plan)}


def test_only_claims_that_the_cells_speak_to_are_named(tmp_path):
    found = prospects(load(tmp_path, **SHORT))
    assert {claim for claim, _ in found} == {"RDP-1", "PNNH-5", "PNNH-6", "PNNH-7"}
    assert "(same_parameters)" in found["PNNH-7", "exploratory"].obstacles[-1]
    assert found["PNNH-6", "exploratory"].obstacles == ("throughput: not measured (speed_rounds)",)


@pytest.mark.parametrize(("seeds", "obstacle"), [(4, "4 seeds, at least 5 needed"), (5, "probability 0.29"), (11, "")])
def test_equivalence_wants_as_many_seeds_as_the_design_says(seeds, obstacle, tmp_path):
    # At a margin of 1 point and a spread of 1 point: power 0.29 with 5 seeds, and a little under 0.80 with 10.
    found = prospects(load(tmp_path, **SHORT | {"seeds": seeds}))["PNNH-5", "confirmatory"]
    assert obstacle in " ".join(found.obstacles)
    assert bool(found.obstacles) == bool(obstacle)


def test_probes_sweeps_and_their_seeds_count(tmp_path):
    whole = prospects(load(tmp_path))
    assert not whole["RDP-2", "exploratory"].obstacles
    assert not whole["PNNH-2", "exploratory"].obstacles
    few = prospects(load(tmp_path, probe_seeds=2))
    assert few["RDP-2", "exploratory"].obstacles[0] == "redundancy: 2 seeds, at least 3 needed"
    grids = [grid | {"learning_rates": []} for grid in STUDY["grids"]]
    none = prospects(load(tmp_path, probes=[], tune=None, grids=grids))
    assert none["PNNH-1", "exploratory"].obstacles == ("reconstruction: the study has no probe dissipating_inputs",)
    assert none["PNNH-2", "exploratory"].obstacles == ("loss at best rate: no sweep of learning rates in any setting",)
    quick = prospects(study.load("quick"))  # sweeps on digits only
    assert not quick["PNNH-2", "exploratory"].obstacles
    assert quick["PNNH-2", "confirmatory"].obstacles == none["PNNH-2", "exploratory"].obstacles


def test_the_plan_names_the_claims_that_its_seeds_cannot_decide(tmp_path):
    table = plan_tables(load(tmp_path, **SHORT | {"seeds": 5}), tmp_path)[-1]
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["RDP-1", "RDP-1", "PNNH-5", "PNNH-5", "PNNH-6", "PNNH-6", "PNNH-7", "PNNH-7"]
    assert all(text.startswith("cannot decide it: ") for text in cells[3])


def test_many_settings_want_more_seeds_than_one(tmp_path):
    grids = [{"datasets": ["digits"], "architectures": ["resnet20", "resnet32", "resnet44", "resnet56"]}]
    found = prospects(load(tmp_path, **SHORT | {"seeds": 11, "grids": grids}))["PNNH-5", "exploratory"]
    assert "equal means in all 4 within 1.0 points" in found.obstacles[0]


def test_the_quick_study_tests_every_claim_on_data_of_both_kinds():
    assert prospects(study.load("quick")).keys() == {(name, kind) for name in model.load().claims for kind in KINDS}
