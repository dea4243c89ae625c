"""A change of the training code is adopted if retrained runs give the same bits, and only then."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from rdp import study
from rdp.archive import adopt
from rdp.jobs import runner, tuning
from rdp.store import Identity, RunRecord, Store, adoptions, fingerprint, scratch
from rdp.store.adoptions import Adoptions
from rdp.study import Plan
from rdp.study.states import states
from rdp.tables import collect
from rdp.training import trainer
from rdp.utils import digest
from tests.archive.conftest import refusal
from tests.workflow.conftest import Project, copy_project

A, B, C, D = ("abcd"[i] * 64 for i in range(4))
STACK = {"torch": "1.0", "device": "a machine"}
CHANGED = fingerprint.code_of


@pytest.fixture
def other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on every run's code has another digest."""
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: digest.of([CHANGED(spec), "changed"]))


def standing(plan: Plan, results: Path) -> Counter[str]:
    return Counter(state.status for _, state in states(plan, results))


def adopt_quietly(plan: Plan, results: Path, **options) -> list[adopt.Group]:
    return adopt.adopt(plan, results, **options)


def adopted(plan: Plan, results: Path, **options) -> list[adopt.Group]:
    """The groups that were adopted: all but that of the run that diverges."""
    return [group for group in adopt_quietly(plan, results, **options) if group.adoption]


@pytest.mark.usefixtures("other_code")
class TestAdopting:
    def test_runs_of_harmlessly_changed_code_stand_and_nothing_is_trained_again(self, plan, results):
        assert standing(plan, results) == {"stale": 4}
        before = {path: path.read_bytes() for path in results.glob("store/*/seed-*/*")}
        groups = adopt_quietly(plan, results)
        swept, diverged, tuned = by_kind(groups)
        assert [(len(group.runs), len(group.sample)) for group in (swept, tuned)] == [(2, 1), (1, 1)]
        assert all(group.adoption.is_file() and not group.obstacles for group in (swept, tuned))
        assert "which leaves too few numbers to compare" in diverged.obstacles[0]
        assert not (results / "store" / scratch.RETRAINED).exists()
        assert standing(plan, results) == {"completed": 3, "stale": 1}
        for spec, _ in (*tuned.runs, *swept.runs):
            Store(results).remove_receipt(spec.run)  # as Snakemake does before it starts a job
            runner.run_job([spec], results, "cpu", bar=False)
        assert {path: path.read_bytes() for path in results.glob("store/*/seed-*/*")} == before
        assert not list(results.glob("store/*/attempts/*"))
        assert [group.runs for group in adopt_quietly(plan, results)] == [diverged.runs]

    def test_tables_tell_adopted_runs_and_notice_when_an_adoption_is_gone(self, plan, results):
        assert set(collect.write(plan, results)["status"]) == {"missing"}
        adopt_quietly(plan, results)
        table = collect.write(plan, results)
        assert table["adopted"].tolist() == [True, False]
        assert table["status"].tolist() == ["completed", "missing"]
        assert table["code_digest"].iloc[0] == CHANGED(next(plan.specs))
        swept = collect.read(plan.name, results)[2]
        assert swept["adopted"].tolist() == [True, True]
        assert swept["accuracy"].notna().all()
        shutil.rmtree(results / "store" / adoptions.FOLDER)
        assert set(collect.write(plan, results)["status"]) == {"missing"}
        assert set(collect.read(plan.name, results)[2]["status"]) == {"missing"}

    def test_an_adoption_says_which_runs_showed_it(self, plan, results):
        for group in adopted(plan, results):
            told = adoptions.read(group.adoption)
            (shown,) = told["runs"]
            record = Store(results).read(shown["run"])
            assert (shown["digest"], shown["bits"]) == (record.digest, record.bits)
            assert shown["again"] != shown["digest"]  # the code is under the digest
            assert (told["old"], told["new"]) == (record.identity.code, group.new)
            assert digest.of(told["stack"]) == record.identity.stack
            assert told["of"] == len(group.runs)

    def test_more_is_trained_again_where_more_is_asked_for(self, plan, results):
        groups = adopted(plan, results, retrain=4)
        assert all(len(group.sample) == len(group.runs) and not group.obstacles for group in groups)

    def test_harmful_code_is_refused_and_the_first_difference_named(self, plan, results, monkeypatch):
        rate = trainer.learning_rate
        monkeypatch.setattr(trainer, "learning_rate", lambda *arguments: rate(*arguments) * 1.001)
        swept, diverged, tuned = by_kind(adopt_quietly(plan, results))
        assert "history 1, train_loss: " in swept.obstacles[0]
        assert f"{swept.sample[0][0].run}: " in swept.obstacles[0]
        assert f"{tuned.sample[0][0].run}: test_accuracy: 0.543; retraining gives " in tuned.obstacles[0]
        assert diverged.adoption is None
        assert [group.adoption for group in (swept, tuned)] == [None, None]
        assert standing(plan, results) == {"stale": 4}
        assert not (results / "store" / scratch.RETRAINED).exists()

    def test_a_run_whose_sweep_is_not_there_is_refused(self, plan, results):
        swept = next(iter(plan.sweep))
        Store(results).remove_receipt(swept)
        shutil.rmtree(Store(results).folder(swept))
        _, _, tuned = by_kind(adopt_quietly(plan, results))
        assert tuned.adoption is None
        assert f"its sweep is not valid for this checkout: {swept} is missing or not adopted" in tuned.obstacles[0]

    def test_a_sweep_that_would_choose_another_rate_is_found(self, plan, results, monkeypatch):
        found = tuning.choose

        def choose(spec, runs):
            return next(one for one in tuning.candidates(spec, runs) if one != found(spec, runs))

        monkeypatch.setattr(tuning, "choose", choose)
        swept, _, tuned = by_kind(adopt_quietly(plan, results))
        assert swept.adoption
        assert tuned.adoption is None
        trained, chosen = (f"learning rate {rate} and norm gain 0.5" for rate in (0.02, 0.01))
        assert tuned.obstacles[0].endswith(f": trained with {trained}, its sweep chooses {chosen}")

    def test_another_stack_or_other_data_compare_nothing(self, plan, results, monkeypatch):
        stack = fingerprint.stack("cpu")
        with monkeypatch.context() as patch:
            patch.setattr(fingerprint, "stack", lambda device: stack | {"torch": "9.9"})
            groups = adopt_quietly(plan, results)
        assert all(f"another stack (torch {stack['torch']}, here 9.9)" in group.obstacles[0] for group in groups)
        assert len(groups) == 3
        loaded = adopt.prepared.load("spiral", results)
        monkeypatch.setattr(adopt.prepared, "load", lambda *_: type(loaded)(**vars(loaded) | {"digest": "e" * 64}))
        assert all("other data" in group.obstacles[0] for group in adopt_quietly(plan, results))
        assert not (results / "store" / adoptions.FOLDER).exists()

    def test_a_damaged_adoption_is_named_and_not_believed(self, plan, results):
        for group in adopted(plan, results):
            group.adoption.write_text(group.adoption.read_text().replace('"when": "2', '"when": "3'))
        found = [state for _, state in states(plan, results)]
        assert {state.status for state in found} == {"stale"}
        assert all(str(results / "store" / adoptions.FOLDER) in state.reason for state in found)
        assert len(adopted(plan, results)) == 2
        assert standing(plan, results) == {"completed": 3, "stale": 1}


def by_kind(groups: list[adopt.Group]) -> tuple[adopt.Group, adopt.Group, adopt.Group]:
    """The group of the sweep, that of the run that diverges, and that of the tuned run."""
    swept = next(group for group in groups if group.runs[0][0].sweep)
    tuned = next(group for group in groups if group.runs[0][0].tuning)
    return swept, next(group for group in groups if group not in (swept, tuned)), tuned


class TestChain:
    def write(self, root: Path, old: str, new: str, stack: dict[str, str] = STACK) -> Path:
        runs = [{"run": "a", "digest": A, "again": B, "bits": C}]
        content = {"old": old, "new": new, "stack": stack, "runs": runs, "commit": None, "when": "now"}
        return adoptions.write(root, content)

    def test_adoptions_lead_on_and_never_back_nor_to_another_stack(self, tmp_path):
        for old, new in ((A, B), (B, C), (C, B)):
            self.write(tmp_path, old, new)
        found, here = Adoptions(tmp_path), digest.of(STACK)
        assert found.lead(A, C, here)
        assert found.lead(A, A, here)
        assert not found.lead(B, A, here)
        assert not found.lead(A, D, here)
        assert not found.lead(A, C, digest.of({"torch": "2.0"}))
        assert [(told["old"], told["new"]) for told in found.chain(A, here)] == [(A, B), (B, C), (C, B)]

    @pytest.mark.parametrize("change", ["renamed", "no runs", "flipped", "later", "folder"])
    def test_what_is_no_whole_adoption_is_named(self, change, tmp_path):
        path = self.write(tmp_path, A, B)
        content = json.loads(path.read_text())
        del content["seal"]
        if change == "renamed":
            path = path.rename(path.with_name(path.name.replace("a", "d")))
        elif change == "flipped":
            path.write_text(path.read_text().replace("now", "npw"))
        elif change == "folder":
            path.unlink()
            path.mkdir()
        else:
            changed = content | ({"runs": []} if change == "no runs" else {"format": 9})
            path.write_text(json.dumps(digest.seal(changed)))
        assert str(path) in refusal(adoptions.read, path)
        found = Adoptions(tmp_path)
        assert not found.lead(A, B, digest.of(STACK))
        assert len(found.damaged) == 1


def test_one_run_of_each_form_is_chosen_and_the_cheapest(tmp_path):
    (tmp_path / "forms.yaml").write_text("""
title: Forms
seeds: 3
recipe: {learning_rate: 0.02, batch_size: 50}
methods:
  concat: {method: pnnh, variant: concat}
  sum: {method: pnnh, variant: sum}
  weak: {method: pnnh, variant: sum, recipe: {learning_rate: 0.5}}
  adamw: {method: pnnh, variant: sum, recipe: {optimizer: adamw}}
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 9}}
  - {datasets: [spiral], architectures: [mlp8], methods: [concat], recipe: {epochs: 2}}
""")
    plan = study.load(str(tmp_path / "forms.yaml"))
    content = {"spec": {}, "identity": dict.fromkeys(Identity.model_fields, "")}
    done = RunRecord(**content, status="completed")
    group = adopt.Group(A, B, C, sample=[(spec, done) for spec in reversed(list(plan.specs))])
    adopt.choose([group], None)
    chosen = [(spec.options["variant"], spec.recipe.optimizer, spec.recipe.epochs) for spec, _ in group.sample]
    assert sorted(chosen) == [("concat", "sgd", 2), ("sum", "adamw", 9), ("sum", "sgd", 9)]
    assert {spec.seed for spec, _ in group.sample} == {0}
    group.sample = [(spec, done) for spec in plan.specs]
    adopt.choose([group], 5)
    assert len({spec.run for spec, _ in group.sample}) == 5
    diverged = RunRecord(**content, status="diverged", reason="so")
    group.sample = [(spec, diverged if spec.seed == 0 else done) for spec in plan.specs]
    adopt.choose([group], None)
    assert {spec.seed for spec, _ in group.sample} == {1}


MINI = """
title: Miniature
seeds: 2
recipe: {learning_rate: 0.02, epochs: 2, batch_size: 50}
methods: {vanilla: , plain: }
grids: [{datasets: [spiral], architectures: [mlp8]}]
"""


@pytest.mark.slow
def test_snakemake_trains_nothing_of_an_adopted_study_and_all_of_a_refused_one(tmp_path):
    project: Project = copy_project(tmp_path / "project")
    project.study.write_text(MINI)
    done = project.snakemake("--until", "collect_records")
    assert done.returncode == 0, done.stdout + done.stderr
    written = {path: path.stat().st_mtime_ns for path in project.root.glob("results/store/*/seed-*/record.json")}
    assert len(written) == 4

    project.edit("rdp/training/trainer.py", "return loss.detach(), (logits", "return 1 * loss.detach(), (logits")
    adopted = project.run("rdp", "adopt", "mini")
    assert adopted.returncode == 0, adopted.stdout + adopted.stderr
    assert adopted.stdout.count("adopted, 1 of 2 retrained") == 2
    done = project.snakemake("--until", "collect_records")
    assert done.returncode == 0, done.stdout + done.stderr
    for path in project.root.glob("results/logs/train_cell/*.log"):
        assert path.read_text().count("already completed, skipped") == 2
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert not {"train_cell", "collect_records"} & project.planned().keys()

    steps = "learning_rate(self.recipe, self.step, self.steps{})"
    project.edit("rdp/training/trainer.py", steps.format(""), steps.format(" + 1"))
    refused = project.run("rdp", "adopt", "mini")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "not adopted" in refused.stderr
    assert "history 1, train_loss" in refused.stderr
    assert "4" in project.run("rdp", "status", "mini").stdout.split("made by other code")[0]
    assert project.planned()["train_cell"] == 2
