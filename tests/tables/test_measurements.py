"""Probes are applied to the networks that runs left, and to those that they began with."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from rdp import probes, study
from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs.runner import run_job
from rdp.models import create_model
from rdp.store import Store
from rdp.study import Plan
from rdp.tables import measurements

STUDY = {
    "title": "Measured",
    "seeds": 3,
    "recipe": {"learning_rate": 0.02, "epochs": 1, "batch_size": 50, "norm_gain": 0.9},
    "tune": {"learning_rates": [0.02], "norm_gains": [0.5], "seeds": [1000]},
    "probes": ["feature_reuse", "activation_maps", "surviving_neurons"],
    "methods": {"vanilla": None, "plain": None},
    "grids": [{"datasets": ["spiral"], "architectures": ["mlp8"]}],
}


def load(folder: Path, **keys: Any) -> Plan:
    (folder / "measured.yaml").write_text(json.dumps(STUDY | keys))
    return study.load(str(folder / "measured.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """The study, of which all is trained but the last method's middle seed."""
    folder = tmp_path_factory.mktemp("measured")
    plan = load(folder)
    specs = list(plan.specs)
    run_job([*specs[:4], specs[5]], folder, "cpu")
    return plan, folder


def networks(plan: Plan, results: Path, stage: str) -> list[torch.nn.Module]:
    """The first method's networks, built here from nothing and the store's weights."""
    found = []
    for spec in plan.cells[0].specs:
        network = create_model("mlp8", norm_gain=0.5, input_shape=(2,), classes=2, seed=spec.seed)
        if stage == "trained":
            store = Store(results)
            weights = store.arrays(spec.run, store.read_finished(spec.run), "weights")
            network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        found.append(network.eval())
    return found


@pytest.mark.parametrize("stage", ["initial", "trained"])
def test_every_run_is_measured_beside_the_next_seeds_network(stage: str, trained: tuple[Plan, Path]) -> None:
    plan, results = trained
    measurements.write(plan, "feature_reuse", results)
    table = measurements.read(plan.name, "feature_reuse", results)
    data = prepared.load("spiral", results)
    x = (torch.from_numpy(data.arrays["test_x"][:256]) - torch.from_numpy(data.mean)) / torch.from_numpy(data.std)
    y = torch.from_numpy(data.arrays["test_y"][:256])
    by_seed = networks(plan, results, stage)
    for seed, other in ((0, 1), (1, 2), (2, 0)):
        run = plan.cells[0].specs[seed].run
        found = table[(table["run"] == run) & (table["stage"] == stage)]
        assert set(found["seed"]) == {seed}
        subject = probes.Subject(by_seed[seed], x, y, by_seed[other], trained=stage == "trained")
        expected = pd.DataFrame(probes.probe_module("feature_reuse").measure(subject))
        key = ["quantity", "layer", "other"]
        found, expected = (rows.set_index(key)["value"].sort_index() for rows in (found, expected))
        assert found.index.equals(expected.index)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5, nan_ok=True)


def test_a_run_that_is_not_there_is_left_out_and_the_others_are_each_others_next(trained: tuple[Plan, Path]) -> None:
    plan, results = trained
    measurements.write(plan, "feature_reuse", results)
    table = measurements.read(plan.name, "feature_reuse", results)
    plain = table[table["method"] == "plain"]
    assert set(plain["seed"]) == {0, 2}
    apart = plain[(plain["quantity"] == "redundancy_independent") & (plain["stage"] == "trained")]
    assert len(apart) == 2
    # One pair of networks either way round: CKA does not ask which is first.
    assert apart["value"].iloc[0] == pytest.approx(apart["value"].iloc[1], abs=1e-6)


def test_a_study_may_ask_for_fewer_seeds_and_a_probe_may_need_but_one(
    trained: tuple[Plan, Path], tmp_path: Path
) -> None:
    plan, results = trained
    for asked, seen in ((None, [0, 1, 2]), (2, [0, 1]), (1, [0])):
        fewer = load(tmp_path, probe_seeds=asked)
        measurements.write(fewer, "surviving_neurons", results)
        table = measurements.read(plan.name, "surviving_neurons", results)
        assert sorted(set(table.loc[table["method"] == "vanilla", "seed"])) == seen
    measurements.write(plan, "activation_maps", results)
    maps = measurements.read(plan.name, "activation_maps", results)
    assert set(maps["seed"]) == {0}
    assert set(maps["stage"]) == {"initial", "trained"}
    assert maps.groupby(["run", "stage", "layer", "neuron"]).size().max() == 1


def test_a_probe_may_read_more_examples_than_others(trained: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = trained
    module = probes.probe_module("dissipating_inputs")
    measurements.write(load(tmp_path, probe_seeds=1), "dissipating_inputs", results)
    table = measurements.read(plan.name, "dissipating_inputs", results)
    data = prepared.load("spiral", results)
    assert measurements.EXAMPLES < len(data.arrays["test_x"]) <= module.EXAMPLES  # so it reads them all
    x = (torch.from_numpy(data.arrays["test_x"]) - torch.from_numpy(data.mean)) / torch.from_numpy(data.std)
    for stage in ("initial", "trained"):
        subject = probes.Subject(networks(plan, results, stage)[0], x, torch.from_numpy(data.arrays["test_y"]))
        expected = pd.DataFrame(module.measure(subject))
        found = table[(table["run"] == plan.cells[0].specs[0].run) & (table["stage"] == stage)]
        assert found[["layer", "source", "quantity"]].to_numpy().tolist() == (
            expected[["layer", "source", "quantity"]].to_numpy().tolist()
        )
        assert found["value"].tolist() == pytest.approx(expected["value"].tolist(), abs=1e-4)


@pytest.mark.slow
def test_cells_side_by_side_have_the_same_numbers(trained: tuple[Plan, Path]) -> None:
    plan, results = trained
    alone, together = (
        measurements.write(plan, "dissipating_inputs", results, cores=cores).read_bytes() for cores in (1, 2)
    )
    assert alone == together


def test_a_run_that_diverged_is_measured_as_it_began(tmp_path: Path) -> None:
    plan = load(tmp_path, seeds=1, tune=None, recipe=STUDY["recipe"] | {"learning_rate": 1e30})
    (record,) = run_job([plan.cells[0].specs[0]], tmp_path, "cpu")
    assert record.status == "diverged"
    measurements.write(plan, "surviving_neurons", tmp_path)
    table = measurements.read(plan.name, "surviving_neurons", tmp_path)
    assert set(table["stage"]) == {"initial"}


def test_a_single_network_has_no_other_to_be_compared_with(trained: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, results = trained
    measurements.write(load(tmp_path, probe_seeds=1), "feature_reuse", results)
    table = measurements.read(plan.name, "feature_reuse", results)
    assert len(table)
    assert not table["quantity"].str.contains("independent").any()


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run: rdp probe measured feature_reuse"):
        measurements.read("measured", "feature_reuse", tmp_path)


def test_an_unknown_probe_is_named_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown probe 'feature_use'; did you mean 'feature_reuse'"):
        measurements.write(load(tmp_path), "feature_use", tmp_path)
