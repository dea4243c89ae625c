"""Learning rates and norm gains chosen by a sweep: the rule, and runs that train with the choice."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rdp.errors import UserError
from rdp.jobs import parallel, tuning
from rdp.jobs.retrain import record_differences, retrain_runs
from rdp.jobs.runner import run_job
from rdp.spec import Choice, RunSpec
from rdp.store import Identity, RunRecord, Store
from rdp.store.record import Numbers
from rdp.study import Plan, load
from rdp.tables import collect
from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint
from rdp.training.trainer import Trainer

CHANCE = 0.5  # on the two arms of the spiral
SMALL, GOOD, HUGE = 1e-4, 0.02, 1e30
STUDY = {
    "title": "a sweep",
    "seeds": 2,
    "recipe": {"epochs": 2, "batch_size": 50},
    "methods": {"plain": None},
    "grids": [{"datasets": ["spiral"], "architectures": ["mlp8"]}],
    "tune": {"learning_rates": [SMALL, HUGE, GOOD], "seeds": [1000, 1001], "recipe": {"validate_every": 2}},
}


def record(accuracy: float | None, loss: float | None = 1.0, status: str = "completed") -> RunRecord:
    """A record of which only what a choice goes by is filled in; of a diverged run the history may be empty."""
    last = {"epoch": 2, "step": 2, "validation_accuracy": accuracy, "validation_loss": loss}
    early = {"epoch": 1, "step": 1, "validation_accuracy": 1.0, "validation_loss": 0.0}  # earlier epochs do not count
    history = [] if accuracy is None else [early, last]
    reason = "the reason" if status == "failed" else None
    identity = dict.fromkeys(Identity.model_fields, "")
    return RunRecord(spec={}, identity=identity, status=status, reason=reason, numbers={"history": history})


@pytest.fixture
def make_tuned(make_spec):
    """A run on the spiral whose rate is chosen from these by two seeds each."""

    def make(*rates: float, method: str = "vanilla", seed: int = 0, **recipe: Any) -> RunSpec:
        content = make_spec(method, seed=seed, **recipe).model_dump()
        content["recipe"]["learning_rate"] = None
        content["tuning"] = {"learning_rates": rates, "seeds": [1000, 1001], "recipe": content["recipe"]}
        return RunSpec(**content)

    return make


class TestChoice:
    def chosen(self, spec: RunSpec, *found: RunRecord) -> float:
        return tuning.choose(spec, list(found)).choice.learning_rate

    def test_it_is_the_rate_with_the_highest_mean_accuracy(self, make_tuned):
        spec = make_tuned(0.1, 0.2, 0.3)
        accuracies = (0.9, 0.6), (0.8, 0.8), (0.75, 0.76)
        assert self.chosen(spec, *(record(a) for pair in accuracies for a in pair)) == 0.2

    def test_the_result_of_each_rate_is_returned(self, make_tuned):
        records = [record(0.9, 0.2), record(0.6, 0.4), record(0.8, 0.5), record(0.7)]
        found = tuning.candidates(make_tuned(0.1, 0.2), records)
        assert [rate.choice for rate in found] == [Choice(learning_rate=0.1), Choice(learning_rate=0.2)]
        assert [rate.accuracy for rate in found] == pytest.approx([0.75, 0.75])
        assert [rate.loss for rate in found] == pytest.approx([0.3, 0.75])
        assert [rate.diverged for rate in found] == [0, 0]

    @pytest.mark.parametrize(("losses", "best"), [((0.5, 0.3, 0.4), 0.2), ((0.2, 0.3, 0.4), 0.1), ((1, 1, 1), 0.1)])
    def test_ties_are_broken_by_the_lowest_loss_and_then_the_order(self, losses, best, make_tuned):
        assert self.chosen(make_tuned(0.1, 0.2, 0.3), *(record(0.75, loss) for loss in losses for _ in "ab")) == best

    def test_a_diverged_run_counts_as_chance_with_infinite_loss(self, make_tuned):
        spec, diverged = make_tuned(0.1, 0.2), record(None, status="diverged")
        first, second = tuning.candidates(spec, [record(0.95), diverged, record(0.7), record(0.7)])
        assert (first.accuracy, first.loss, first.diverged) == (pytest.approx((0.95 + CHANCE) / 2), math.inf, 1)
        assert (second.accuracy, second.diverged) == (pytest.approx(0.7), 0)

    def test_a_rate_with_fewer_diverged_runs_comes_first(self, make_tuned):
        spec, diverged = make_tuned(0.1, 0.2), record(None, status="diverged")
        assert self.chosen(spec, record(0.95), diverged, record(0.7), record(0.7)) == 0.2
        assert self.chosen(spec, record(0.95), diverged, diverged, diverged) == 0.1
        # Below chance, and yet it trained.
        assert self.chosen(spec, diverged, diverged, record(CHANCE - 0.1), record(CHANCE - 0.1)) == 0.2

    def test_a_run_that_diverged_after_its_last_validation_counts_as_diverged(self, make_tuned):
        late = record(0.99, 0.01, status="diverged")
        assert self.chosen(make_tuned(0.1, 0.2), late, late, record(0.6), record(0.6)) == 0.2

    def test_an_infinite_loss_loses_a_tie(self, make_tuned):
        diverged = record(None, status="diverged")
        assert self.chosen(make_tuned(0.1, 0.2), diverged, diverged, record(CHANCE, 9.0), record(CHANCE, 9.0)) == 0.2
        unbounded = record(0.8, None)  # a loss that is not finite is recorded as none
        assert self.chosen(make_tuned(0.1, 0.2), unbounded, unbounded, record(0.8, 9.0), record(0.8, 9.0)) == 0.2

    def test_if_all_runs_diverged_it_is_the_first_rate(self, make_tuned):
        diverged = record(None, status="diverged")
        assert self.chosen(make_tuned(0.1, 0.2), *[diverged] * 4) == 0.1

    def test_a_failed_run_is_named_and_no_rate_chosen(self, make_tuned):
        spec = make_tuned(0.1, 0.2)
        with pytest.raises(UserError) as error:
            self.chosen(spec, record(0.9), record(0.9), record(0.9), record(None, status="failed"))
        assert str(error.value).startswith(f"{spec.candidates()[3].run}: failed (the reason)")
        assert spec.cell in str(error.value)

    def test_records_of_another_sweep_are_refused(self, make_tuned):
        with pytest.raises(ValueError, match="shorter"):
            tuning.choose(make_tuned(0.1, 0.2), [record(0.9)] * 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Plan, Path]:
    """The study of one tuned cell, and its results: the first seed's job alone, as one process would run it."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "sweep.yaml").write_text(json.dumps(STUDY))
    plan = load(str(folder / "sweep.yaml"))
    run_job([plan.cells[0].specs[0]], folder / "results", "cpu")
    return plan, folder / "results"


@pytest.fixture
def results(trained, tmp_path) -> Path:
    """A copy of the results, to be changed."""
    shutil.copytree(trained[1], tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def spec(trained) -> RunSpec:
    """The first seed's run."""
    return trained[0].cells[0].specs[0]


def snapshot(results: Path) -> dict[str, int]:
    """When each record was written, by run."""
    return {
        str(path.parent.relative_to(results / "store")): path.stat().st_mtime_ns
        for path in results.glob("store/*/seed-*/record.json")
    }


class TestRuns:
    def test_a_run_trains_with_the_best_of_its_candidates(self, spec, results):
        store, means = Store(results), {}
        for candidate in spec.candidates():
            found = store.read_finished(candidate.run)
            assert found.numbers.learning_rate == candidate.recipe.learning_rate
            accuracy = CHANCE if found.status == "diverged" else found.numbers.history[-1].validation_accuracy
            means.setdefault(candidate.recipe.learning_rate, []).append(accuracy)
        assert [store.read_finished(c.run).status for c in spec.candidates()].count("diverged") == 2
        assert max(means, key=lambda rate: sum(means[rate])) == GOOD
        assert store.read_finished(spec.run).numbers.learning_rate == GOOD

    def test_its_candidates_have_never_read_the_test_split(self, spec, results):
        for candidate in spec.candidates():
            found = Store(results).read_finished(candidate.run)
            assert (found.numbers.test_accuracy, found.numbers.test_loss) == (None, None)
            assert found.files == {}
        assert Store(results).read_finished(spec.run).numbers.test_accuracy is not None

    def test_the_sweep_is_trained_once_and_serves_the_other_seeds(self, trained, results):
        first, second = trained[0].cells[0].specs
        before = snapshot(results)
        assert before.keys() == {first.run, *(c.run for c in first.candidates())}
        (found,) = run_job([second], results, "cpu")
        after = snapshot(results)
        assert after.keys() - before.keys() == {second.run}
        assert {run: after[run] for run in before} == before
        assert found.numbers.learning_rate == GOOD

    def test_a_lost_candidate_is_trained_again_to_the_same_bits_before_a_new_seed(self, trained, results):
        first, second = trained[0].cells[0].specs
        lost = first.candidates()[5].run
        digest = Store(results).read_finished(lost).digest
        shutil.rmtree(results / "store" / lost)
        run_job([second], results, "cpu")
        assert Store(results).read_finished(lost).digest == digest

    def test_a_run_with_a_record_needs_no_sweep(self, spec, results):
        for candidate in spec.candidates():
            shutil.rmtree(results / "store" / candidate.cell, ignore_errors=True)
        before = snapshot(results)
        run_job([spec], results, "cpu")
        assert snapshot(results) == before

    def test_its_numbers_equal_those_of_a_recipe_with_that_rate(self, spec, results):
        content = spec.model_dump() | {"tuning": None}
        content["recipe"]["learning_rate"] = GOOD
        (outright,) = run_job([RunSpec(**content)], results, "cpu")
        tuned = Store(results).read_finished(spec.run)
        assert tuned.numbers == outright.numbers
        assert tuned.files == outright.files
        assert tuned.digest != outright.digest  # they are different runs all the same

    def test_a_failed_candidate_is_named_and_no_rate_chosen(self, spec, tmp_path):
        content = spec.model_dump()
        content["tuning"]["recipe"]["batch_size"] = 501  # of 500 examples
        failing = RunSpec(**content)
        with pytest.raises(UserError) as error:
            run_job([failing], tmp_path, "cpu")
        assert failing.candidates()[0].run in str(error.value)
        assert "batch_size 501" in str(error.value)
        assert Store(tmp_path).read_finished(failing.run) is None

    def test_each_cell_of_a_job_has_its_own_choice(self, make_tuned, tmp_path):
        specs = [make_tuned(SMALL), make_tuned(GOOD), make_tuned(GOOD, seed=1)]
        found = run_job(specs, tmp_path, "cpu")
        assert [record.numbers.learning_rate for record in found] == [SMALL, GOOD, GOOD]


class TestTunedJson:
    @pytest.fixture
    def path(self, spec, results) -> Path:
        return tuning.write(spec, run_job(spec.candidates(), results, "cpu"), results)

    def test_it_holds_the_choice_and_its_records(self, path, spec, results):
        assert path == results / "store" / spec.cell / "tuned.json"
        content, store = json.loads(path.read_text()), Store(results)
        assert content["learning_rate"] == GOOD
        assert "norm_gain" not in content  # the sweep compares none
        assert content["records"] == {c.run: store.read_finished(c.run).digest for c in spec.candidates()}
        small, huge, good = content["candidates"]
        assert [rate["learning_rate"] for rate in content["candidates"]] == [SMALL, HUGE, GOOD]
        assert huge == {"learning_rate": HUGE, "accuracy": CHANCE, "loss": None, "diverged": 2}
        for rate, place in ((small, 0), (good, 4)):
            last = [store.read_finished(c.run).numbers.history[-1] for c in spec.candidates()[place : place + 2]]
            assert rate["accuracy"] == pytest.approx(sum(row.validation_accuracy for row in last) / 2)
            assert rate["loss"] == pytest.approx(sum(row.validation_loss for row in last) / 2)
            assert rate["diverged"] == 0

    def test_runs_do_not_read_it(self, path, trained, spec, results):
        content = json.loads(path.read_text()) | {"learning_rate": SMALL}
        path.write_text(json.dumps(content))
        (found,) = run_job([trained[0].cells[0].specs[1]], results, "cpu")
        assert found.numbers.learning_rate == GOOD

    def test_without_it_nothing_changes(self, path, spec, results):
        before, digest = snapshot(results), Store(results).read_finished(spec.run).digest
        path.unlink()
        (found,) = run_job([spec], results, "cpu")
        assert (snapshot(results), found.digest) == (before, digest)


def finish_resumed(make: Callable[[], Trainer], step: int, folder: Path) -> Numbers:
    """The numbers of a run that is stopped at a step and resumed from its checkpoint in another trainer."""

    class Stop(Exception):
        pass

    def after_step(run: Trainer) -> None:
        if run.step == step:
            raise Stop

    run = make()
    with pytest.raises(Stop):
        run.train(after_step)
    checkpoint.save(folder, Checkpoint(run.step, {}, *run.state()))
    run = make()
    run.restore(checkpoint.latest([folder], {})[0])
    run.train(lambda run: None)
    return Numbers(**run.finish()[0])


class TestResume:
    def test_a_tuned_run_needs_its_rate(self, spec, dataset):
        with pytest.raises(ValueError, match="a sweep chooses its learning rate, which must be given"):
            Trainer(spec, dataset("spiral"), torch.device("cpu"))

    @pytest.mark.parametrize("step", [1, 7, 10, 19])
    def test_a_tuned_run_resumed_at_any_step_equals_the_uninterrupted_one(self, step, spec, dataset, results, tmp_path):
        def make() -> Trainer:
            return Trainer(spec, dataset("spiral"), torch.device("cpu"), Choice(learning_rate=GOOD))

        assert finish_resumed(make, step, tmp_path) == Store(results).read_finished(spec.run).numbers


class TestNormGains:
    """The same study, whose sweep compares two norm gains at each of two learning rates."""

    RATES, GAINS, RATE = (SMALL, 0.1), (1e-3, 0.5), 0.1

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory) -> tuple[Plan, Path]:
        folder = tmp_path_factory.mktemp("gains")
        tune = {"learning_rates": cls.RATES, "norm_gains": cls.GAINS, "recipe": {"validate_every": 4}}
        recipe = STUDY["recipe"] | {"epochs": 4, "norm_gain": 0.9}  # the sweep overrides it
        (folder / "gains.yaml").write_text(json.dumps(STUDY | {"tune": tune, "recipe": recipe}))
        plan = load(str(folder / "gains.yaml"))
        run_job([plan.cells[0].specs[0]], folder / "results", "cpu")
        return plan, folder / "results"

    @pytest.fixture
    def swept(self, make_tuned) -> RunSpec:
        """A run whose rate is 0.1 or 0.2 and whose gain is 0.5 or 1, each with two seeds."""
        content = make_tuned(0.1, 0.2).model_dump()
        content["recipe"]["norm_gain"] = content["tuning"]["recipe"]["norm_gain"] = None
        content["tuning"]["norm_gains"] = [0.5, 1.0]
        return RunSpec(**content)

    @pytest.mark.parametrize("best", range(4))
    def test_the_best_combination_is_chosen(self, best, swept):
        accuracies = [0.9 if place == best else 0.8 for place in range(4)]
        found = tuning.choose(swept, [record(a) for a in accuracies for _ in "ab"])
        rate, gain = [(0.1, 0.5), (0.1, 1.0), (0.2, 0.5), (0.2, 1.0)][best]
        assert found.choice == Choice(learning_rate=rate, norm_gain=gain)

    def test_rate_and_gain_are_chosen_together(self, swept):
        # On average over gains the first rate is better, and over rates the first gain.
        accuracies = (0.84, 0.8, 0.75, 0.85)
        found = tuning.choose(swept, [record(a) for a in accuracies for _ in "ab"])
        assert found.choice == Choice(learning_rate=0.2, norm_gain=1.0)

    def test_ties_are_broken_by_loss_and_then_the_order_of_candidates(self, swept):
        assert tuning.choose(swept, [record(0.8)] * 8).choice == Choice(learning_rate=0.1, norm_gain=0.5)
        losses = (0.4, 0.3, 0.3, 0.5)
        found = tuning.choose(swept, [record(0.8, loss) for loss in losses for _ in "ab"])
        assert found.choice == Choice(learning_rate=0.1, norm_gain=1.0)

    def test_a_candidate_with_fewer_diverged_runs_comes_first(self, swept):
        diverged = record(None, status="diverged")
        found = tuning.choose(swept, [record(0.9), diverged] * 3 + [record(0.6)] * 2)
        assert found.choice == Choice(learning_rate=0.2, norm_gain=1.0)

    def test_a_disagreement_names_both_values(self, swept):
        records = [record(0.8)] * 2 + [record(0.7)] * 6
        stated = {"learning_rate": 0.1, "norm_gain": 0.5}
        right, other, neither = (
            record(0.8).model_copy(update={"numbers": Numbers(**numbers)})
            for numbers in (stated, stated | {"norm_gain": 1.0}, {})
        )
        chosen = "its sweep chooses learning rate 0.1 and norm gain 0.5"
        said = f"trained with learning rate 0.1 and norm gain 1.0, {chosen}"
        assert tuning.disagreement(swept, right, records) is None
        assert tuning.disagreement(swept, other, records) == said
        assert tuning.disagreement(swept, neither, records) == f"trained with unknown values, {chosen}"

    def test_a_run_trains_with_the_best_of_its_candidates(self, spec, results):
        store, means = Store(results), {}
        for candidate in spec.candidates():
            numbers = store.read_finished(candidate.run).numbers
            key = numbers.learning_rate, numbers.norm_gain
            assert key == (candidate.recipe.learning_rate, candidate.recipe.norm_gain)
            means.setdefault(key, []).append(numbers.history[-1].validation_accuracy)
        assert list(means) == [(rate, gain) for rate in self.RATES for gain in self.GAINS]
        numbers = store.read_finished(spec.run).numbers
        assert (numbers.learning_rate, numbers.norm_gain) == max(means, key=lambda key: sum(means[key]))
        assert (numbers.learning_rate, numbers.norm_gain) == (self.RATE, 0.5)

    def test_its_numbers_equal_those_of_a_recipe_with_that_rate_and_gain(self, spec, results):
        content = spec.model_dump() | {"tuning": None}
        content["recipe"] |= {"learning_rate": self.RATE, "norm_gain": 0.5}
        (outright,) = run_job([RunSpec(**content)], results, "cpu")
        tuned = Store(results).read_finished(spec.run)
        assert (tuned.numbers, tuned.files) == (outright.numbers, outright.files)

    @pytest.mark.parametrize("gain", [0.25, 0.5])
    def test_the_network_starts_with_the_chosen_gain(self, gain, spec, dataset):
        choice = Choice(learning_rate=self.RATE, norm_gain=gain)
        run = Trainer(spec, dataset("spiral"), torch.device("cpu"), choice)
        norms = [module for module in run.network.modules() if isinstance(module, torch.nn.BatchNorm1d)]
        assert len(norms) == 8
        assert all((norm.weight == gain).all() for norm in norms)

    def test_it_needs_its_gain(self, spec, dataset):
        with pytest.raises(ValueError, match="a sweep chooses its norm gain, which must be given"):
            Trainer(spec, dataset("spiral"), torch.device("cpu"), Choice(learning_rate=self.RATE))

    @pytest.mark.parametrize("step", [7, 10])
    def test_resumed_at_any_step_it_equals_the_uninterrupted_run(self, step, spec, dataset, results, tmp_path):
        def make() -> Trainer:
            choice = Choice(learning_rate=self.RATE, norm_gain=0.5)
            return Trainer(spec, dataset("spiral"), torch.device("cpu"), choice)

        assert finish_resumed(make, step, tmp_path) == Store(results).read_finished(spec.run).numbers

    def test_retraining_uses_the_gain_of_the_record(self, spec, results, tmp_path):
        recorded = Store(results).read_finished(spec.run)
        (again,) = retrain_runs([(spec, recorded)], results, tmp_path / "same", "cpu")
        assert record_differences(recorded, again) == []
        assert not any((tmp_path / "same" / "store" / candidate.cell).exists() for candidate in spec.candidates())
        numbers = recorded.numbers.model_copy(update={"norm_gain": 0.25})
        edited = recorded.model_copy(update={"numbers": numbers})
        (other,) = retrain_runs([(spec, edited)], results, tmp_path / "other", "cpu")
        assert other.numbers.norm_gain == 0.25
        assert other.numbers.history != recorded.numbers.history

    @pytest.mark.slow
    @pytest.mark.parametrize("processes", [1, 2])
    def test_processes_hand_the_choice_on(self, processes, spec, tmp_path):
        specs = [RunSpec(**spec.model_dump() | {"processes": processes, "seed": seed}) for seed in (0, 1)]
        choice = Choice(learning_rate=self.RATE, norm_gain=0.25)
        found = parallel.run_job(specs, tmp_path, "cpu", cores=2, known_choices={specs[0].cell: choice})
        assert [record.numbers.norm_gain for record in found] == [0.25, 0.25]
        assert [record.numbers.learning_rate for record in found] == [self.RATE, self.RATE]

    def test_the_file_of_the_choice_states_both(self, spec, results):
        path = tuning.write(spec, run_job(spec.candidates(), results, "cpu"), results)
        content = json.loads(path.read_text())
        assert (content["learning_rate"], content["norm_gain"]) == (self.RATE, 0.5)
        compared = [(one["learning_rate"], one["norm_gain"]) for one in content["candidates"]]
        assert compared == [(rate, gain) for rate in self.RATES for gain in self.GAINS]
        assert set(content["records"]) == {candidate.run for candidate in spec.candidates()}

    def test_the_table_of_sweeps_says_which_combination_was_chosen(self, trained, spec, results):
        records = collect.collect(trained[0], results)[0]
        assert records.loc[0, "norm_gain"] == 0.5
        table = collect.collect_sweep(trained[0], results, records)
        assert table["norm_gain"].tolist() == [gain for _ in self.RATES for gain in self.GAINS for _ in "ab"]
        assert table["learning_rate"].tolist() == [rate for rate in self.RATES for _ in "abcd"]
        assert table["chosen"].tolist() == [False] * 6 + [True] * 2


class TestTables:
    def test_the_table_of_sweeps_holds_the_criteria_of_the_choice(self, trained, spec, results):
        table = collect.collect_sweep(trained[0], results, collect.collect(trained[0], results)[0])
        assert table["sweep_run"].tolist() == [c.run for c in spec.candidates()]
        assert set(table["run"]) == {spec.run}
        assert table["seed"].tolist() == [1000, 1001] * 3
        assert table["learning_rate"].tolist() == [rate for rate in (SMALL, HUGE, GOOD) for _ in "ab"]
        assert table["chosen"].tolist() == [False] * 4 + [True] * 2
        assert table["status"].tolist() == ["completed"] * 2 + ["diverged"] * 2 + ["completed"] * 2
        last = [Store(results).read_finished(c.run).numbers.history for c in spec.candidates()]
        expected = [history[-1].validation_accuracy if history else CHANCE for history in last]
        assert table["accuracy"].tolist() == expected
        assert table["accuracy"].tolist()[2:4] == [CHANCE] * 2

    def test_before_the_first_run_nothing_is_chosen_and_missing_values_have_a_reason(self, trained, spec, results):
        shutil.rmtree(results / "store" / spec.run)
        Store(results).remove_receipt(spec.run)
        Store(results).remove_receipt(spec.candidates()[0].run)
        table = collect.collect_sweep(trained[0], results, collect.collect(trained[0], results)[0])
        assert table["chosen"].tolist() == [None] * 6
        assert table.loc[0, ["status", "reason"]].tolist() == ["missing", "not trained yet"]
        assert math.isnan(table.loc[0, "accuracy"])
        assert (table["status"] != "missing").sum() == 5

    def test_records_hold_the_rate_and_cost_of_each_run(self, trained, spec, results):
        collect.write(trained[0], results)
        table, history, sweep = collect.read("sweep", results)
        numbers = Store(results).read_finished(spec.run).numbers
        for name in ("learning_rate", "iteration_flops", "training_flops", "unit_updates", "steps", "examples"):
            assert table.loc[0, name] == getattr(numbers, name), name
            assert math.isnan(table.loc[1, name]), name  # the other seed is not trained
        assert set(history["run"]) == {spec.run}
        assert len(sweep) == 6

    def test_a_study_without_sweeps_has_an_empty_table(self, study_content, write_study, tmp_path):
        plan = load(write_study(study_content))
        collect.write(plan, tmp_path / "results")
        _, _, sweep = collect.read(plan.name, tmp_path / "results")
        assert sweep.empty
        assert {"learning_rate", "accuracy", "chosen"} <= set(sweep.columns)

    @pytest.mark.parametrize("name", collect.TABLES)
    def test_a_missing_or_damaged_table_is_named(self, name, trained, results):
        collect.write(trained[0], results)
        path = results / "sweep" / f"{name}.parquet"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match=rf"{name}\.parquet: damaged .*; run: rdp collect sweep"):
            collect.read("sweep", results)
        path.unlink()
        with pytest.raises(UserError, match=rf"{name}\.parquet: no such file; run: rdp collect sweep"):
            collect.read("sweep", results)
