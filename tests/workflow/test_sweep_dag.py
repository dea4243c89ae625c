"""The workflow of a study whose sweeps choose learning rates and norm gains."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.conftest import DRY_RUN, Project, copy_project

SWEPT = """
title: Swept
seeds: 2
tune: {learning_rates: [0.01, 0.02], norm_gains: [0.5, 1.0], seeds: [1000], recipe: {epochs: 1}}
probes: [feature_reuse, activation_maps]
probe_seeds: 1
methods:
  vanilla:
  rdp: {method: residual_droppath}
  rdp_flops: {method: residual_droppath, recipe: {budget: flops}}
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 2, batch_size: 50}}
  - datasets: [digits]
    architectures: [vit_micro]
    methods: [vanilla, rdp]
    learning_rates: []
    recipe: {optimizer: adamw, learning_rate: 0.002, epochs: 1, batch_size: 32, train_size: 64}
"""
CELLS, TUNED, SEEDS, CANDIDATES = 5, 3, 2, 4
DATA = {name: f"results/data/{name}/manifest.json" for name in ("spiral", "digits")}


def write_study(project: Project) -> Project:
    (project.root / "config" / "studies" / "swept.yaml").write_text(SWEPT)
    return project


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project and the study, of which nothing is trained. Tests must leave it as it is."""
    return write_study(copy_project(tmp_path_factory.mktemp("fresh")))


def jobs(project: Project, rule: str) -> list[tuple[list[str], list[str]]]:
    """Inputs and outputs of each job of a rule that a dry run would start."""
    done = project.run(*DRY_RUN, "--config", "study=swept")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(rf"^rule {rule}:\n    input: (.*)\n    output: (.*)$", done.stdout + done.stderr, re.M)
    return [(inputs.split(", "), outputs.split(", ")) for inputs, outputs in found]


@pytest.mark.slow
def test_each_tuned_cell_has_a_job_for_its_sweep_and_trains_after_it(fresh: Project) -> None:
    planned = fresh.planned("swept")
    assert planned["tune_cell"] == TUNED
    assert planned["train_cell"] == CELLS
    sweeps = {output for inputs, (output,) in jobs(fresh, "tune_cell") if inputs == [DATA["spiral"]]}
    assert len(sweeps) == TUNED
    awaited = set()
    for inputs, outputs in jobs(fresh, "train_cell"):
        (cell,) = {str(Path(output).parent) for output in outputs}
        assert len(outputs) == SEEDS
        if "spiral" in cell:
            assert inputs == [DATA["spiral"], f"{cell}/tuned.json"]
            awaited.add(inputs[1])
        else:  # trained by a given rate
            assert inputs == [DATA["digits"]]
    assert awaited == sweeps


@pytest.mark.slow
def test_seeds_split_over_jobs_share_one_sweep(fresh: Project, tmp_path: Path) -> None:
    text = SWEPT.replace("seeds: 2", "seeds: 2\nseeds_per_job: 1")
    (tmp_path / "split.yaml").write_text(text)
    planned = fresh.planned(str(tmp_path / "split.yaml"))
    assert planned["tune_cell"] == TUNED
    assert planned["train_cell"] == planned["train_cell_1"] == CELLS


@pytest.mark.slow
def test_a_study_without_a_sweep_has_no_such_jobs(fresh: Project) -> None:
    assert not [rule for rule in fresh.planned("mini") if rule.startswith("tune")]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The study, run to its report. Tests must leave it as it is."""
    project = write_study(copy_project(tmp_path_factory.mktemp("swept")))
    done = project.snakemake(study="swept")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


@pytest.fixture
def change(swept: Project, tmp_path: Path) -> Callable[[str, str, str], Project]:
    """A finished copy with one file edited."""

    def make(file: str, old: str, new: str) -> Project:
        shutil.copytree(swept.root, tmp_path / "project", symlinks=True)
        project = Project(tmp_path / "project")
        project.edit(file, old, new)
        return project

    return make


@pytest.mark.slow
class TestFinished:
    def test_it_ends_with_a_report_its_tables_and_its_figures(self, swept: Project) -> None:
        home = swept.root / "results" / "swept"
        page = (home / "report" / "index.html").read_text()
        for told in (
            "Three fair comparisons",
            "Sweeps of the learning rate",
            "Redundancy index",
            "Activation maps, rdp",
        ):
            assert told in page
        sweep = pd.read_parquet(home / "sweep.parquet")
        assert len(sweep) == TUNED * CANDIDATES
        assert set(sweep["status"]) == {"completed"}
        assert sweep.groupby("run")["chosen"].sum().tolist() == [1] * TUNED
        for _, candidates in sweep.groupby("run"):
            compared = list(zip(candidates["learning_rate"], candidates["norm_gain"], strict=True))
            assert compared == [(0.01, 0.5), (0.01, 1.0), (0.02, 0.5), (0.02, 1.0)]
        for name in ("learning_rates", "differences", "redundancy", "lesions", "activation_maps_rdp_flops"):
            assert (home / "figures" / f"{name}.svg").stat().st_size > 1000
        assert pd.read_csv(home / "tables" / "comparisons.csv")["budget"].tolist() == ["steps", "flops"]

    def test_every_run_trains_with_the_rate_and_gain_chosen_for_its_cell(self, swept: Project) -> None:
        records = pd.read_parquet(swept.root / "results" / "swept" / "records.parquet")
        assert set(records["status"]) == {"completed"}
        files = list(swept.root.glob("results/store/*/tuned.json"))
        assert len(files) == TUNED
        for file in files:
            content = json.loads(file.read_text())
            of_cell = records[records["cell"] == file.parent.name]
            assert of_cell["learning_rate"].tolist() == [content["learning_rate"]] * SEEDS
            assert of_cell["norm_gain"].tolist() == [content["norm_gain"]] * SEEDS
        given = records[records["dataset"] == "digits"]
        assert set(given["learning_rate"]) == {0.002}
        assert set(given["norm_gain"]) == {1.0}

    def test_a_second_run_has_nothing_to_do(self, swept: Project) -> None:
        assert not swept.planned("swept")
        again = swept.snakemake(study="swept")
        assert again.returncode == 0
        assert "Nothing to be done" in again.stdout + again.stderr

    def test_status_and_plan_count_the_sweeps_runs(self, swept: Project) -> None:
        told = swept.run("rdp", "status", "swept").stdout
        assert re.search(rf"sweeps of learning rates and norm gains\s*│\s*{TUNED * CANDIDATES}\s*│", told)
        told = swept.run("rdp", "plan", "swept").stdout
        assert f"{CANDIDATES}/{CANDIDATES}" in told
        runs, of_sweeps = CELLS * SEEDS, TUNED * CANDIDATES
        assert f"{runs} runs (and {of_sweeps} of sweeps), {runs + of_sweeps} done" in told
        assert " 0 examples to train on" in told

    def test_another_rate_reruns_only_the_tuned_cells(self, change: Callable) -> None:
        planned = change("config/studies/swept.yaml", "[0.01, 0.02]", "[0.01, 0.02, 0.05]").planned("swept")
        assert planned["tune_cell"] == planned["train_cell"] == TUNED

    def test_another_gain_reruns_only_the_tuned_cells(self, change: Callable) -> None:
        planned = change("config/studies/swept.yaml", "[0.5, 1.0]", "[0.5, 1.0, 0.2]").planned("swept")
        assert planned["tune_cell"] == planned["train_cell"] == TUNED

    def test_another_rule_of_choice_reruns_only_the_tuned_cells(self, change: Callable) -> None:
        planned = change(
            "rdp/jobs/tuning.py", "-candidate.accuracy, candidate.loss", "candidate.loss, -candidate.accuracy"
        ).planned("swept")
        assert planned["tune_cell"] == planned["train_cell"] == TUNED

    def test_a_new_seed_tunes_nothing(self, change: Callable) -> None:
        planned = change("config/studies/swept.yaml", "seeds: 2", "seeds: 3").planned("swept")
        assert planned["tune_cell"] == 0
        assert planned["train_cell"] == CELLS

    def test_a_lost_choice_is_restored_from_records_without_training(self, swept: Project, tmp_path: Path) -> None:
        shutil.copytree(swept.root, tmp_path / "project", symlinks=True)
        project = Project(tmp_path / "project")
        file = next(project.root.glob("results/store/*/tuned.json"))
        before, digests = file.read_bytes(), project.digests()
        file.unlink()
        done = project.run("rdp", "tune", "swept", file.parent.name)
        assert done.returncode == 0, done.stderr
        chosen = "learning rate {learning_rate} and norm gain {norm_gain}".format(**json.loads(before))
        assert done.stdout == f"{file.parent.name}: {chosen}\n"
        assert file.read_bytes() == before
        assert project.digests() == digests
