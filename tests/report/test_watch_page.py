"""The page of `rdp watch`: what it shows of runs in training and finished ones, and when watching ends."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from rdp import study
from rdp.cli import app as cli
from rdp.errors import UserError
from rdp.jobs.progress import RunProgress
from rdp.jobs.runner import run_job
from rdp.report import watch_page
from rdp.store import Store
from rdp.study.states import Snapshot

MARKUP = "</script><script>window.entered = 1</script><!-- & 'quoted'"
HISTORY = [
    {"epoch": 1, "step": 10, "train_loss": 1.25, "train_accuracy": 0.5, "validation_accuracy": None},
    {"epoch": 2, "step": 20, "train_loss": 0.5, "train_accuracy": 0.75, "validation_accuracy": 0.625},
]


@pytest.fixture
def plan(study_content, write_study):
    return study.load(write_study(study_content | {"title": MARKUP}))


@pytest.fixture
def under_way(tmp_path):
    """Report progress as an attempt at a run does."""

    def report(spec, step: int = 25, steps: int = 40, history: list | None = None) -> RunProgress:
        progress = RunProgress(spec.run, Store(tmp_path).new_attempt(spec.run), None)
        progress.update(step, steps, HISTORY if history is None else history)
        return progress

    return report


def written(plan, folder: Path) -> str:
    path = watch_page.write(Snapshot(plan, folder), 5)
    assert path == folder / plan.name / "watch.html"
    return path.read_text()


def content(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def words(page: str) -> str:
    """The text of the body."""
    body = re.sub(r"<script.*?</script>", "", page.partition("<body")[2], flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_runs_in_training_have_their_epochs_and_the_length_of_their_axes(plan, tmp_path, under_way):
    first, second = list(plan.specs)[:2]
    under_way(first)
    under_way(second, step=3, history=[])
    page = written(plan, tmp_path)
    data = content(page)
    assert data["curves"] == {"train_loss": [[0, [1.25, 0.5]], []], "validation_accuracy": [[1, [0.625]], []]}
    assert data["epochs"] == [[1, 2], [2]]
    assert data["ends"] == [2, 2]  # the epochs of the recipe
    text = words(page)
    assert "4 runs 2 running 2 waiting" in text
    assert "vanilla, seed 0: mlp8 on spiral step 25 of 40;" in text
    assert re.search(r"vanilla, seed 1: mlp8 on spiral step 3 of 40; \S+ No epoch has ended\.", text)


def test_finished_runs_have_the_curves_of_their_records_latest_first(plan, tmp_path):
    specs = list(plan.specs)[:2]
    records = run_job(specs, tmp_path, "cpu", bar=False)
    for age, spec in enumerate(specs):
        os.utime(Store(tmp_path).receipt(spec.run), (time.time() - age,) * 2)
    page = written(plan, tmp_path)
    curves = content(page)["curves"]["train_loss"]
    for record, (_, values) in zip(records, curves, strict=True):
        assert values == pytest.approx([epoch.train_loss for epoch in record.numbers.history], rel=1e-3)
    assert f"test accuracy {100 * records[0].numbers.test_accuracy:.1f} %; finished " in words(page)
    os.utime(Store(tmp_path).receipt(specs[0].run), (time.time() - 9,) * 2)
    assert content(written(plan, tmp_path))["curves"]["train_loss"] == curves[::-1]


def test_a_stopped_run_is_listed_with_the_reason(plan, tmp_path, under_way):
    under_way(next(plan.specs)).stop()
    assert "vanilla, seed 0: mlp8 on spiral: stopped , shut down on request; step 25 of 40" in words(
        written(plan, tmp_path)
    )


def test_the_time_left_is_that_of_all_runs_with_those_in_training_at_once(plan, tmp_path, under_way):
    text = words(written(plan, tmp_path))
    assert re.search(
        r"No run is in training\. About \d+ s of training left, .*no such network was measured yet\.", text
    )
    for spec in list(plan.specs)[:2]:
        under_way(spec)
        (path,) = Store(tmp_path).attempts(spec.run)
        row = json.loads((path / "progress.json").read_text())
        (path / "progress.json").write_text(json.dumps(row | {"seconds_left": 7200.0}))
    assert "about 2 h left" in words(written(plan, tmp_path))
    assert "About 2 h left with 2 runs at a time" in words(written(plan, tmp_path))


def test_text_of_a_study_is_no_markup(plan, tmp_path):
    page = written(plan, tmp_path)
    assert "window.entered = 1</script>" not in page
    assert MARKUP in words(page).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("&#39;", "'")


def test_runs_of_sweeps_are_told_apart(study_content, write_study, tmp_path, under_way):
    content = study_content | {"tune": {"learning_rates": [0.01, 0.1], "seeds": [7]}}
    plan = study.load(write_study(content))
    for spec in plan.cells[0].specs[0].candidates():
        under_way(spec)
    text = words(written(plan, tmp_path))
    assert "Sweep of vanilla, learning rate 0.01, seed 7: mlp8 on spiral" in text
    assert "Sweep of vanilla, learning rate 0.1, seed 7: mlp8 on spiral" in text


class TestWatching:
    @pytest.fixture(autouse=True)
    def _results(self, monkeypatch, tmp_path):
        monkeypatch.setenv("RDP_RESULTS", str(tmp_path))

    def watch(self, plan) -> None:
        cli.app(["watch", str(plan.file), "--every", "7"], standalone_mode=False)

    def test_it_ends_when_all_runs_are_done_and_says_the_path_once(self, plan, tmp_path, monkeypatch, capsys):
        path, left, slept = tmp_path / "small" / "watch.html", list(plan.specs), []

        def sleep(seconds: float) -> None:
            """Train the next run while nobody looks."""
            assert 'data-every="7.0"' in path.read_text()
            slept.append(seconds)
            run_job([left.pop(0)], tmp_path, "cpu", bar=False)

        monkeypatch.setattr(watch_page.time, "sleep", sleep)
        self.watch(plan)
        assert slept == [7.0] * 4
        assert capsys.readouterr().out == f"{path}\n"
        page = path.read_text()
        assert "4 runs 4 completed All runs are done." in words(page)
        assert "data-every" not in page.partition("<script")[0]
        assert 'http-equiv="refresh"' not in page

    def test_an_interruption_ends_it_in_order_and_leaves_the_page(self, plan, tmp_path, monkeypatch):
        def sleep(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(watch_page.time, "sleep", sleep)
        self.watch(plan)
        assert [path.name for path in (tmp_path / "small").iterdir()] == ["watch.html"]

    def test_a_page_that_cannot_be_written_is_named(self, plan, tmp_path):
        (tmp_path / "small").write_text("a file, where a folder is wanted\n")
        with pytest.raises(UserError, match=r"/small.*: cannot be written"):
            self.watch(plan)
