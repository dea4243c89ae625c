"""The workflow on a miniature study, and the jobs that each kind of change reruns."""

import json
import re

import pytest

from tests.workflow.conftest import DRY_RUN, Project

CELLS, SEEDS = 7, 2


@pytest.mark.slow
def test_one_command_writes_the_report_and_the_next_has_nothing_to_do(finished: Project) -> None:
    page = (finished.root / "results/mini/report/index.html").read_text()
    assert "Miniature" in page
    assert "mlp8" in page
    assert len(finished.digests()) == CELLS * SEEDS
    again = finished.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "arguments", "cores"),
    [("seeds: 2\nseeds_per_job: 1", [], 1), ("seeds: 2", ["--set-threads", "train_cell=2"], 2)],
    ids=["a job a seed", "side by side"],
)
def test_other_cores_and_jobs_give_the_same_bits(
    project: Project, changed: str, arguments: list[str], cores: int
) -> None:
    before = project.digests()
    project.narrow("residual_droppath")
    project.edit("config/studies/mini.yaml", "seeds: 2", changed)
    (project.root / "results").rename(project.root / "before")
    done = project.snakemake("--until", "collect_records", *arguments, cores=cores)
    assert done.returncode == 0, done.stdout + done.stderr
    after = project.digests()
    assert len(after) == 2 * SEEDS  # on the spiral, on digits
    assert after.items() <= before.items()


@pytest.mark.slow
def test_the_longest_jobs_come_first_and_request_memory_for_their_parallel_runs(project: Project) -> None:
    def jobs(*arguments: str) -> list[tuple[str, int, int]]:
        """Each training job's network, priority and memory, in a dry run of the study digits, sorted."""
        done = project.run(*DRY_RUN, *arguments, "--config", "study=digits", "results=none")
        said = done.stdout + done.stderr
        found = re.findall(r"cell=(\w+)-.*\n +priority: (\d+)\n(?: +.*\n)*? +resources: .*mem_mb=(\d+)", said)
        assert len(found) == 15, said
        return sorted((network, int(priority), int(memory)) for network, priority, memory in found)

    plain, wide = jobs(), jobs("--set-threads", "train_cell=4", "--cores", "8")
    of = {network: {priority for name, priority, _ in plain if name == network} for network, *_ in plain}
    assert min(of["resnet56"]) > max(of["resnet20"]) > 0
    assert [(network, priority, 4 * memory) for network, priority, memory in plain] == wide


@pytest.mark.slow
def test_a_changed_option_retrains_only_its_cells(project: Project) -> None:
    project.edit("config/studies/mini.yaml", "residual_droppath: {rate: 0.2}", "residual_droppath: {rate: 0.3}")
    assert project.planned()["train_cell"] == 2  # on the spiral, on digits


@pytest.mark.slow
def test_a_new_seed_trains_only_that_seed(project: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in project.root.glob("results/store/*/seed-*/record.json")}
    project.edit("config/studies/mini.yaml", "seeds: 2", "seeds: 3")
    assert project.planned()["train_cell"] == CELLS
    project.narrow("residual_droppath")
    done = project.snakemake("--until", "collect_records")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {path: path.stat().st_mtime_ns for path in project.root.glob("results/store/*/seed-*/record.json")}
    assert len(after) == len(before) + 2  # on the spiral, on digits
    assert {path: after[path] for path in before} == before


@pytest.mark.slow
def test_a_new_title_or_caption_trains_nothing(project: Project) -> None:
    project.edit("config/studies/mini.yaml", "title: Miniature", "title: Another title")
    captions = project.root / "report/captions.yaml"
    captions.write_text(captions.read_text() + "\n# reworded\n")
    planned = project.planned()
    assert "write_report" in planned
    assert not [rule for rule in planned if rule.startswith("train")]


@pytest.mark.slow
def test_a_reworded_comment_reruns_nothing(project: Project) -> None:
    project.edit("rdp/training/trainer.py", '"""The trainer of a run', '"""A trainer of a run')
    path = project.root / "rdp/training/trainer.py"
    path.write_text("# a comment\n" + path.read_text())
    assert not project.planned()


@pytest.mark.slow
def test_a_changed_training_loop_retrains_everything(project: Project) -> None:
    project.edit("rdp/training/trainer.py", "return loss.detach(), (logits", "return 1 * loss.detach(), (logits")
    assert project.planned()["train_cell"] == CELLS


@pytest.mark.slow
def test_a_changed_method_retrains_only_its_cells(project: Project) -> None:
    project.edit("rdp/methods/schedules/droppath.py", ">= rates[:, None]", "> rates[:, None]")
    assert project.planned()["train_cell"] == 1


def _write_method(project: Project, name: str, source: str) -> None:
    """Add a method to the user's folder of extensions."""
    folder = project.root / "extensions/methods"
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text(source)


@pytest.mark.slow
def test_a_changed_extension_retrains_only_its_cells(project: Project) -> None:
    source = (project.root / "rdp/methods/schedules/droppath.py").read_text().replace("class DropPath", "class Copied")
    _write_method(project, "copied", source)
    project.edit("config/studies/mini.yaml", "  plain:\n", "  copied:\n")
    done = project.snakemake("--until", "collect_records")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_cell" not in project.planned()
    project.edit("extensions/methods/copied.py", ">= rates[:, None]", "> rates[:, None]")
    assert project.planned()["train_cell"] == 1


@pytest.mark.slow
def test_a_new_method_is_one_file_and_trains_only_its_cells(project: Project) -> None:
    source = (project.root / "rdp/methods/schedules/vanilla.py").read_text().replace("class Vanilla", "class Copied")
    _write_method(project, "copied", source)
    project.edit("config/studies/mini.yaml", "  plain:\n", "  plain:\n  copied:\n")
    assert project.planned()["train_cell"] == 1


@pytest.mark.slow
def test_two_studies_share_their_runs(project: Project) -> None:
    other = project.study.read_text().replace("title: Miniature", "title: Shared").replace("  plain:\n", "")
    (project.root / "config/studies/other.yaml").write_text(other)
    planned = project.planned("other")
    assert "collect_records" in planned
    assert not [rule for rule in planned if rule.startswith("train")]


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_continue(project: Project) -> None:
    source = (project.root / "rdp/methods/schedules/vanilla.py").read_text().replace("class Vanilla", "class Broken")
    source += """
    def iteration(self, step, training):
        if training.seed == 1 and step == 1:
            raise RuntimeError("broken on purpose")
        return super().iteration(step, training)
"""
    _write_method(project, "broken", source)
    project.narrow("vanilla", "plain")
    project.edit("config/studies/mini.yaml", "  plain: null\n", "  plain: null\n  broken: null\n")
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    page = (project.root / "results/mini/report/index.html").read_text()
    assert "RuntimeError: broken on purpose" in page
    assert "broken on purpose" in project.run("rdp", "status", "mini").stdout
    statuses = [json.loads(p.read_text())["status"] for p in project.root.glob("results/store/*broken*/seed-*.json")]
    assert sorted(statuses) == ["completed", "failed"]
    assert not project.planned()
    assert "1 run forgotten" in project.run("rdp", "retry", "mini").stdout
    assert project.planned()["train_cell"] == 1
