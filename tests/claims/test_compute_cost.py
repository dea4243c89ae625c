"""Compute cost per claim: each run and sweep behind a claim is counted once."""

from dataclasses import replace

import pandas as pd
import pytest

from rdp import study
from rdp.claims import model, verdict_json
from rdp.claims.evidence import Records
from rdp.claims.verdicts import decide
from rdp.report import facts
from rdp.report.formatting import DASH, hours, joules, rounded
from rdp.tables import Tables, load
from tests.claims.conftest import AS_CLAIMED
from tests.helpers.planting import SEEDS
from tests.helpers.planting import load as make_plan
from tests.helpers.planting import plant as plant_study

FEW = {
    "probes": [],
    "speed_rounds": None,
    "methods": {"vanilla": None, "plain": None, "pnnh": None, "droppath": None},
    "grids": [{"datasets": ["digits", "fashion_mnist_14"], "architectures": ["resnet56"]}],
}
CELLS, SWEPT = 8, 4  # of the study, and runs of each cell's sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("knowing")
    world = replace(AS_CLAIMED, status={("plain", 1): "diverged", ("droppath", 2): "failed", ("pnnh", 3): "missing"})
    plant_study(make_plan(found, **FEW), found, world)
    return found


@pytest.fixture
def tables(folder) -> Tables:
    """Every run took another time, a number of seconds of its own binary digit, on a CPU, and told no energy."""
    found = load(study.load(str(folder / "planted.yaml")), folder)
    place = 0
    for table in (found.records, found.sweep):
        there = table["status"] != "missing"
        table["seconds"] = [2.0 ** (place + i) for i in range(len(table))]
        table["seconds"] = table["seconds"].where(there)
        table["device_type"] = pd.Series("cpu", index=table.index).where(there, None)
        place += len(table)
    return found


def decided(tables: Tables) -> dict:
    claims = model.load()
    return verdict_json.as_json(claims, decide(claims, Records(tables)), tables)


def behind(claim: dict, tables: Tables) -> dict[str, float]:
    """The seconds of the runs behind a claim, by hand."""
    named = {run for v in claim["verdicts"].values() for c in v["comparisons"] for runs in c["runs"] for run in runs}
    specs = {spec.run: spec for spec in tables.plan.specs}
    named |= {candidate.run for run in named & specs.keys() for candidate in specs[run].candidates()}
    runs, sweep = tables.records, tables.sweep
    seconds = dict(zip(runs["run"], runs["seconds"], strict=True))
    seconds |= dict(zip(sweep["sweep_run"], sweep["seconds"], strict=True))
    return {run: seconds[run] for run in named}


def test_a_claim_costs_what_its_runs_and_their_sweeps_took_each_once(tables):
    content = decided(tables)
    by_claim = {claim["name"]: behind(claim, tables) for claim in content["claims"]}
    for claim in content["claims"]:
        mine, cost = by_claim[claim["name"]], claim["cost"]
        assert cost["runs"] == cost["timed"] == len(mine)
        # Binary digits: no other set of runs has this sum.
        assert cost["core_hours"] * 3600 == pytest.approx(sum(mine.values()), rel=1e-12)
        others = [runs for name, runs in by_claim.items() if name != claim["name"]]
        assert cost["shared"] == sum(any(run in runs for runs in others) for run in mine)
        assert (cost["gpu_hours"], cost["gpu_joules"], cost["cpu_package_joules"]) == (0, None, None)
    costs = {name: len(runs) for name, runs in by_claim.items()}
    # Two methods on two datasets, six seeds each and a sweep; of pnnh one is missing, and so is its pair.
    assert costs["PNNH-5"] == 4 * (SEEDS - 1 + SWEPT)
    assert costs["PNNH-4"] == 4 * (SEEDS - 1 + SWEPT)
    assert costs["RDP-3"] == 0


def test_the_study_costs_every_recorded_run_once_whatever_became_of_it(tables):
    cost = decided(tables)["cost"]
    assert (cost["runs"], cost["of_sweeps"]) == (CELLS * (SEEDS + SWEPT) - 2, CELLS * SWEPT)
    seconds = tables.records["seconds"].sum() + tables.sweep["seconds"].sum()
    assert cost["core_hours"] * 3600 == pytest.approx(seconds, rel=1e-12)


def test_hours_are_of_cores_on_cpus_and_of_gpus_on_gpus(tables):
    for table in (tables.records, tables.sweep):
        table["threads"], table["processes"] = 4, 2
        table["seconds"] = table["seconds"].notna().map({True: 1800.0, False: None})
        gpu = table["dataset"] == "digits"
        table["device_type"] = table["device_type"].mask(gpu & table["device_type"].notna(), "cuda")
    cost = decided(tables)["cost"]
    half = CELLS * (SEEDS + SWEPT) / 2 - 1  # of the runs that are there
    assert cost["core_hours"] == half * 0.5 * 4 * 2
    assert cost["gpu_hours"] == half * 0.5 * 2


def test_energy_is_summed_over_the_runs_that_report_it(tables):
    tables.records["cpu_package_joules"] = 3600.0
    tables.sweep["cpu_package_joules"] = None
    content = decided(tables)
    cost = next(claim["cost"] for claim in content["claims"] if claim["name"] == "PNNH-5")
    assert cost["cpu_package_joules"] == 4 * (SEEDS - 1) * 3600.0
    assert cost["cpu_package_joules_of"] == 4 * (SEEDS - 1)
    assert joules(cost, "cpu_package_joules") == "20 Wh (20 of 36 runs)"
    assert joules(cost, "gpu_joules") == DASH
    assert facts.energies(content) == {"cpu_package_joules": "processor packages"}


def test_runs_that_do_not_tell_their_time_are_counted_and_not_timed(tables):
    """Records of before they told what they ran on."""
    tables.records["device_type"] = None
    cost = decided(tables)["cost"]
    assert cost["timed"] == cost["of_sweeps"] < cost["runs"]
    assert cost["core_hours"] * 3600 == pytest.approx(tables.sweep["seconds"].sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (0.012345, "0.0123"), (1.2, "1.2"), (99.96, "100"), (1234.5, "1,234")]
)
def test_numbers_have_three_figures(value, words):
    assert rounded(value) == words


def test_hours_and_energy_have_their_units():
    assert hours({"core_hours": 0.5, "gpu_hours": 0.0}) == "0.5 core-hours"
    assert hours({"core_hours": 2.0, "gpu_hours": 12.0}) == "12 GPU-hours and 2 core-hours"
    assert hours({"core_hours": 0.0, "gpu_hours": 0.0}) == DASH
    assert joules({"gpu_joules": 3.6e6 * 1.5, "gpu_joules_of": 2, "runs": 2}, "gpu_joules") == "1.5 kWh"
