"""Benchmarks: their statistics, counts and files. No test asserts a speed."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from rdp import bench
from rdp.bench import engine, pnnh, seeds, start, workflow
from rdp.bench import rdp as pairs
from rdp.bench.measuring import Benchmark, Comparison, Ratio, alternate, stepper, table, trainer
from rdp.errors import UserError
from rdp.methods import FULL, Training, method_class
from rdp.models import create_model
from rdp.models.units import Units
from rdp.training import cost
from rdp.utils import sealed
from tests.bench.conditions import setting

CPU = torch.device("cpu")
ARCHITECTURE, RATE, BATCH, PAIRS = "resnet20", 0.5, 2, 2


class TestRatio:
    @pytest.mark.parametrize(
        ("values", "median"), [([3.0], 3.0), ([1.0, 9.0], 5.0), ([5.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 30.0], 3.0)]
    )
    def test_the_centre_is_the_median(self, values, median):
        assert Ratio.of(np.array(values)).median == median

    @pytest.mark.parametrize("size", [1, 2, 5, 20, 101])
    def test_the_interval_contains_the_median_and_lies_within_the_values(self, size):
        values = np.random.default_rng(size).lognormal(size=size)
        result = Ratio.of(values)
        assert values.min() <= result.low <= result.median <= result.high <= values.max()
        assert result.median == np.median(values)
        assert (result.low < result.high) == (size > 1)

    def test_the_same_values_give_the_same_interval(self):
        values = np.random.default_rng(0).normal(size=20)
        assert Ratio.of(values) == Ratio.of(values.copy())

    def test_equal_values_have_an_interval_of_zero_width(self):
        assert Ratio.of(np.full(20, 0.7)) == Ratio(0.7, 0.7, 0.7)

    def test_more_values_give_a_narrower_interval(self):
        draws = np.random.default_rng(0)
        widths = [result.high - result.low for n in (10, 1000) for result in [Ratio.of(draws.normal(size=n))]]
        assert widths[1] < widths[0] / 3

    def test_the_interval_covers_the_median_at_its_nominal_rate(self):
        draws = np.random.default_rng(1).exponential(size=(300, 25))
        result = [Ratio.of(values) for values in draws]
        covered = np.mean([ratio.low <= math.log(2) <= ratio.high for ratio in result])
        assert 0.9 <= covered <= 0.99

    def test_one_outlier_hardly_changes_it(self):
        values = np.linspace(0.9, 1.1, 21)
        spoiled = values.copy()
        spoiled[7] = 1000.0
        assert Ratio.of(spoiled).median == pytest.approx(1.01)
        assert Ratio.of(spoiled).high < 1.2

    def test_its_text_shows_the_interval(self):
        assert str(Ratio(0.71234, 0.7, 0.72)) == "0.712 [0.700, 0.720]"


@pytest.fixture(scope="module")
def measured() -> pairs.PairCost:
    return pairs.rdp_pairs(ARCHITECTURE, setting(rate=RATE, batch_size=BATCH, rounds=PAIRS))


class TestPairs:
    def test_the_counted_cost_is_that_of_the_timed_masks(self, measured):
        shape = (3, 32, 32)
        network = create_model(ARCHITECTURE)
        count, units = cost.IterationCost(network, shape), len(Units(network))
        method = method_class("residual_droppath")(rate=RATE)
        shares = [
            sum(count(method.iteration(2 * pair + i, Training(units, BATCH, seed=0))) for i in (0, 1))
            / (2 * count(FULL))
            for pair in range(2, 2 + PAIRS)  # after two warm-up pairs
        ]
        assert len(set(shares)) > 1  # otherwise the masks would not matter
        assert measured.counted == pytest.approx(np.median(shares))
        assert 0.4 < measured.counted < 1

    def test_every_number_is_finite_and_positive(self, measured):
        numbers = [measured.counted, measured.drop, measured.recover, measured.vanilla_seconds]
        for ratio in (measured.measured, measured.measured_over_counted):
            numbers += [ratio.median, ratio.low, ratio.high]
            assert ratio.low <= ratio.median <= ratio.high
        assert all(math.isfinite(number) and number > 0 for number in numbers)


class TestSetting:
    @pytest.mark.parametrize("rate", [0.0, 1.0, 1.5, -0.1, float("nan")])
    def test_a_rate_of_nothing_or_everything_is_rejected(self, rate):
        with pytest.raises(UserError, match=r"a rate in \(0, 1\) is needed"):
            setting(rate=rate)

    def test_an_unknown_device_is_rejected(self):
        with pytest.raises(UserError, match="gpu"):
            setting(device="gpu")

    def test_the_recipe_has_its_precision_and_batch_size(self):
        recipe = setting(precision="bfloat16", batch_size=7).recipe
        assert (recipe.precision, recipe.batch_size) == ("bfloat16", 7)


def test_an_unknown_benchmark_is_rejected_with_the_valid_names():
    with pytest.raises(UserError, match="did you mean 'engine'"):
        bench.benchmark("engines")


def test_a_file_states_machine_versions_and_setting(tmp_path):
    conditions = setting(rounds=2)
    result = [engine.EngineSpeed("resnet20", "sgd", Ratio(1.0, 0.9, 1.1), Ratio(1.5, 1.4, 1.6), 0.01, 0.1, 0.2)]
    made = Benchmark(
        "a run / a loop", result, table("a run / a loop"), [Comparison("resnet20", result[0].throughput, 0.95)]
    )
    path = made.save("engine", conditions, tmp_path)
    assert path == tmp_path / "bench" / "engine.json"
    content = sealed.read_json(path, "bench", "")
    assert content["comparisons"] == [
        {"subject": "resnet20", "ratio": {"median": 1.0, "low": 0.9, "high": 1.1}, "least": 0.95, "most": None}
    ]
    assert content["rows"][0]["step_seconds"] == 0.01
    assert content["setting"] | {"device": "cpu", "threads": 1, "batch_size": 2} == content["setting"]
    assert content["machine"]["stack"]["torch"].startswith(torch.__version__.split("+")[0])
    assert content["machine"]["cores"] >= 1
    assert content["machine"]["memory_bytes"] > 1e9
    assert {"python", "torch", "timm"} <= set(content["versions"])
    assert "host" not in json.dumps(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["engine", "rdp", "pnnh"])  # CI runs the others by `rdp bench --smoke`
def test_each_benchmark_writes_figures_and_a_table(name, tmp_path):
    conditions = setting(smoke=True)
    result = bench.benchmark(name).run(conditions)
    content = sealed.read_json(result.save(name, conditions, tmp_path), "bench", "")
    assert content["title"] == result.title
    assert len(content["rows"]) == result.table.row_count > 0
    assert result.comparisons
    for row in content["comparisons"]:
        ratio = row["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


class TestAlternate:
    def test_every_round_calls_all_functions_once_and_starts_with_another(self):
        calls = []
        work = {name: partial(calls.append, name) for name in "abc"}
        result = alternate(work, 4, CPU)
        assert "".join(calls) == "abcbcacababcbcacab"  # two warm-up rounds, then four
        assert all(seconds.shape == (4,) and (seconds >= 0).all() for seconds in result.values())

    def test_a_step_trains(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        before = network[1].weight.detach().clone()
        trainer(network, setting(batch_size=4))()
        assert not torch.equal(network[1].weight, before)
        assert network[1].weight.grad is None


@pytest.fixture(scope="module")
def result() -> dict[str, pnnh.PathSpeed]:
    return {row.network: row for row in pnnh.path_speeds("resnet20", setting())}


class TestPaths:
    def test_the_residual_network_is_the_reference(self, result):
        assert result["residual"].training == result["residual"].inference == Ratio(1.0, 1.0, 1.0)

    def test_sizes_are_those_of_the_networks(self, result):
        assert list(result) == list(pnnh.NETWORKS)
        assert result["residual"].parameters == result["plain"].parameters == 269_722
        assert result["pnnh window"].parameters < 0.52 * 269_722
        assert result["pnnh concat"].parameters < 0.6 * 269_722
        assert result["pnnh sum"].forward_flops < 0.8 * result["plain"].forward_flops
        assert all(row.seconds > 0 and row.folded.low > 0 and row.joined.low > 0 for row in result.values())


class TestLoops:
    def test_the_timed_run_trains(self):
        run = engine.make_run("resnet20", setting(batch_size=4))
        before = {name: tensor.clone() for name, tensor in run.network.named_parameters()}
        stepper(run, 3)()
        assert run.step == 3
        assert not all(torch.equal(before[name], tensor) for name, tensor in run.network.named_parameters())

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_run_is_timed_against_the_bare_loop(self, precision, monkeypatch):
        monkeypatch.setattr(engine, "_EVALUATION_SIZE", 20)
        result = engine.engine_speed("resnet20", setting(precision=precision))
        assert result.optimizer == "sgd"
        assert result.bfloat16.low > 0
        assert 0 < result.throughput.low <= result.throughput.median <= result.throughput.high
        assert 0 < result.evaluation_share < 1
        assert 0 < result.checkpoint_share < 1

    def test_transformers_are_timed_with_adamw(self):
        assert engine.recipe("vit_tiny", setting()).optimizer == "adamw"


@pytest.mark.slow
def test_a_start_is_timed_by_stage():
    result = start.start("resnet20", setting(rounds=1))
    assert list(result.seconds) == list(start.STAGES)
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert result.seconds["imports"] > result.seconds["first step"] / 100
    assert 1e8 < result.peak_bytes < 1e10


@pytest.mark.slow
def test_parallel_seeds_are_timed_against_one_seed():
    result = seeds.packing("resnet20", 2, setting())
    assert result.seeds == 2
    assert 0 < result.parallel.low <= result.parallel.median
    assert result.threads.median > 0
    assert 0 < result.step_seconds < 60


@pytest.mark.parametrize("runs", [20, 100, 1_000, 10_000])
def test_synthetic_studies_have_the_requested_number_of_runs(runs, tmp_path):
    plan = workflow._study(tmp_path, runs)
    assert len(list(plan.specs)) == runs
    assert len({spec.run for spec in plan.specs}) == runs
