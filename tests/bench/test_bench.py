"""Measurements of speed: their statistics and their counts. How fast anything is, no test says."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rdp import bench
from rdp.bench import engine, pnnh, seeds, start, workflow
from rdp.bench import rdp as pairs
from rdp.bench import timm as timm_loop
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, alternate, stepper, table, trainer
from rdp.errors import UserError
from rdp.methods import FULL, method_class
from rdp.models import build
from rdp.models.units import Units
from rdp.training import cost
from rdp.utils import sealed

CPU = torch.device("cpu")
ARCHITECTURE, RATE, BATCH, PAIRS = "resnet20", 0.5, 2, 2


def setting(**changes) -> Setting:
    given = {"device": "cpu", "threads": 1, "precision": "float32", "batch_size": 2, "rounds": 2}
    return Setting.of(**given | changes)


class TestRatio:
    @pytest.mark.parametrize(
        ("values", "median"), [([3.0], 3.0), ([1.0, 9.0], 5.0), ([5.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 30.0], 3.0)]
    )
    def test_it_is_the_median(self, values, median):
        assert Ratio.of(np.array(values)).median == median

    @pytest.mark.parametrize("size", [1, 2, 5, 20, 101])
    def test_its_interval_holds_the_median_and_lies_among_the_values(self, size):
        values = np.random.default_rng(size).lognormal(size=size)
        found = Ratio.of(values)
        assert values.min() <= found.low <= found.median <= found.high <= values.max()
        assert found.median == np.median(values)
        assert (found.low < found.high) == (size > 1)

    def test_the_same_values_give_the_same_interval(self):
        values = np.random.default_rng(0).normal(size=20)
        assert Ratio.of(values) == Ratio.of(values.copy())

    def test_values_that_are_alike_have_an_interval_of_no_width(self):
        assert Ratio.of(np.full(20, 0.7)) == Ratio(0.7, 0.7, 0.7)

    def test_more_values_make_it_narrower(self):
        draws = np.random.default_rng(0)
        widths = [found.high - found.low for n in (10, 1000) for found in [Ratio.of(draws.normal(size=n))]]
        assert widths[1] < widths[0] / 3

    def test_it_covers_the_median_about_as_often_as_it_says(self):
        draws = np.random.default_rng(1).exponential(size=(300, 25))
        found = [Ratio.of(values) for values in draws]
        covered = np.mean([ratio.low <= math.log(2) <= ratio.high for ratio in found])
        assert 0.9 <= covered <= 0.99

    def test_one_odd_value_moves_it_little(self):
        values = np.linspace(0.9, 1.1, 21)
        spoiled = values.copy()
        spoiled[7] = 1000.0
        assert Ratio.of(spoiled).median == pytest.approx(1.01)
        assert Ratio.of(spoiled).high < 1.2

    def test_it_is_told_with_its_interval(self):
        assert str(Ratio(0.71234, 0.7, 0.72)) == "0.712 [0.700, 0.720]"


@pytest.fixture(scope="module")
def measured() -> pairs.PairCost:
    return pairs.rdp_pairs(ARCHITECTURE, setting(rate=RATE, batch_size=BATCH, rounds=PAIRS))


class TestPairs:
    def test_what_is_counted_is_of_the_masks_that_were_timed(self, measured):
        shape = (3, 32, 32)
        network = build(
            ARCHITECTURE, path="residual", path_options={}, norm_gain=1.0, input_shape=shape, classes=10, seed=0
        )
        count, units = cost.IterationCost(network, shape), len(Units(network))
        method = method_class("residual_droppath")(rate=RATE)
        shares = [
            sum(count(method.iteration(2 * pair + i, units=units, batch_size=BATCH, seed=0)) for i in (0, 1))
            / (2 * count(FULL))
            for pair in range(2, 2 + PAIRS)  # after two to warm up
        ]
        assert len(set(shares)) > 1  # else any masks would do
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
    def test_a_rate_that_drops_nothing_or_everything_is_refused(self, rate):
        with pytest.raises(UserError, match=r"a rate in \(0, 1\) is needed"):
            setting(rate=rate)

    def test_an_unknown_device_is_refused(self):
        with pytest.raises(UserError, match="gpu"):
            setting(device="gpu")

    def test_its_recipe_is_of_its_precision_and_batch(self):
        recipe = setting(precision="bfloat16", batch_size=7).recipe
        assert (recipe.precision, recipe.batch_size) == ("bfloat16", 7)


def test_an_unknown_benchmark_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="did you mean 'engine'"):
        bench.benchmark("engines")


def test_what_is_written_says_where_and_how_it_was_measured(tmp_path):
    of = setting(rounds=2)
    found = [engine.EngineSpeed("resnet20", "sgd", Ratio(1.0, 0.9, 1.1), Ratio(1.5, 1.4, 1.6), 0.01, 0.1, 0.2)]
    made = Benchmark(
        "a run / a loop", found, table("a run / a loop"), [Comparison("resnet20", found[0].throughput, 0.95)]
    )
    path = made.save("engine", of, tmp_path)
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
@pytest.mark.parametrize("name", ["engine", "rdp", "pnnh"])  # of the others, `rdp bench --smoke` in CI
def test_each_benchmark_leaves_its_figures_and_a_table(name, tmp_path):
    of = setting(smoke=True)
    found = bench.benchmark(name).run(of)
    content = sealed.read_json(found.save(name, of, tmp_path), "bench", "")
    assert content["title"] == found.title
    assert len(content["rows"]) == found.table.row_count > 0
    assert found.comparisons
    for row in content["comparisons"]:
        ratio = row["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


class TestAlternate:
    def test_every_round_does_all_work_once_and_starts_with_another(self):
        calls = []
        work = {name: partial(calls.append, name) for name in "abc"}
        found = alternate(work, 4, CPU)
        assert "".join(calls) == "abcbcacababcbcacab"  # two rounds to warm up, and four
        assert all(seconds.shape == (4,) and (seconds >= 0).all() for seconds in found.values())

    def test_a_step_trains(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        before = network[1].weight.detach().clone()
        trainer(network, setting(batch_size=4))()
        assert not torch.equal(network[1].weight, before)
        assert network[1].weight.grad is None


@pytest.fixture(scope="module")
def found() -> dict[str, pnnh.PathSpeed]:
    return {row.network: row for row in pnnh.path_speeds("resnet20", setting())}


class TestPaths:
    def test_the_residual_network_is_the_measure(self, found):
        assert found["residual"].training == found["residual"].inference == Ratio(1.0, 1.0, 1.0)

    def test_sizes_are_those_of_the_networks(self, found):
        assert list(found) == list(pnnh.NETWORKS)
        assert found["residual"].parameters == found["plain"].parameters == 269_722
        assert found["pnnh concat"].parameters < 0.6 * 269_722
        assert found["pnnh sum"].forward_flops < 0.8 * found["plain"].forward_flops
        assert all(row.seconds > 0 and row.folded.low > 0 and row.joined.low > 0 for row in found.values())


class Pictures(torch.utils.data.Dataset):
    """As many images as a few batches take, as PIL has them: what timm's transforms want."""

    transform = None  # which timm's loader sets

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        return self.transform(Image.fromarray(pixels)), index % 10


class TestLoops:
    def test_the_run_that_is_timed_trains(self):
        run = engine.make_run("resnet20", setting(batch_size=4))
        before = {name: tensor.clone() for name, tensor in run.network.named_parameters()}
        stepper(run, 3)()
        assert run.step == 3
        assert not all(torch.equal(before[name], tensor) for name, tensor in run.network.named_parameters())

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_run_is_told_beside_the_bare_loop(self, precision, monkeypatch):
        monkeypatch.setattr(engine, "_EVALUATION_SIZE", 20)
        found = engine.engine_speed("resnet20", setting(precision=precision))
        assert found.optimizer == "sgd"
        assert found.bfloat16.low > 0
        assert 0 < found.throughput.low <= found.throughput.median <= found.throughput.high
        assert 0 < found.evaluation_share < 1
        assert 0 < found.checkpoint_share < 1

    def test_transformers_are_timed_with_adamw(self):
        assert engine.recipe("vit_tiny", setting()).optimizer == "adamw"

    def test_a_run_is_told_beside_each_of_timms_loops(self):
        found = timm_loop.loop_speeds("resnet20", Pictures(), setting(batch_size=4))
        assert [row.loop for row in found] == list(timm_loop.LOOPS)
        assert all(row.throughput.low > 0 and row.loop_seconds > 0 for row in found)

    def test_a_step_of_timms_loop_trains(self):
        run = engine.make_run("resnet20", setting(batch_size=4))
        before = [tensor.detach().clone() for tensor in run.network.parameters()]
        loader = timm_loop.make_loader(Pictures(), 4, CPU)
        timm_loop.stepper_of_timm(run.network, loader, torch.channels_last, run.recipe, 3)()
        assert not all(torch.equal(old, new) for old, new in zip(before, run.network.parameters(), strict=True))

    def test_without_cifar10_timms_loop_says_what_gets_it(self, tmp_path):
        with pytest.raises(UserError, match="rdp data prepare cifar10"):
            timm_loop.dataset(tmp_path)


@pytest.mark.slow
def test_a_start_is_told_stage_by_stage():
    found = start.start("resnet20", setting(rounds=1))
    assert list(found.seconds) == list(start.STAGES)
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert found.seconds["imports"] > found.seconds["first step"] / 100
    assert 1e8 < found.peak_bytes < 1e10


@pytest.mark.slow
def test_seeds_side_by_side_are_told_beside_one_alone():
    found = seeds.packing("resnet20", 2, setting())
    assert found.seeds == 2
    assert 0 < found.parallel.low <= found.parallel.median
    assert found.threads.median > 0
    assert 0 < found.step_seconds < 60


@pytest.mark.parametrize("runs", [20, 100, 1_000, 10_000])
def test_made_up_studies_have_as_many_runs_as_they_say(runs, tmp_path):
    plan = workflow._study(tmp_path, runs)
    assert len(list(plan.specs)) == runs
    assert len({spec.run for spec in plan.specs}) == runs
