"""Tables of `rdp status`: states of runs, progress of running ones, and logs of failed ones."""

import io
import json
import os
import re
import time

import pytest
from rich.console import Console

from rdp import study
from rdp.cli import status_view
from rdp.store import RunRecord, Store, fingerprint
from rdp.study.states import Snapshot, states


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def plan(study_content, write_study):
    return study.load(write_study(study_content | {"seeds_per_job": 1}))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def done(store):
    """Write a run's record and receipt."""

    def leave(spec, state: str = "completed", reason: str | None = None, code: str | None = None) -> None:
        identity = {"spec": "", "data": "", "code": code or fingerprint.code_of(spec), "stack": ""}
        content = {"spec": spec.model_dump(mode="json"), "identity": identity, "status": state, "reason": reason}
        record = RunRecord(**content, telemetry={"seconds": 3.0, "device": "cpu"})
        store.write_receipt(spec.run, store.commit(spec.run, store.new_attempt(spec.run), record))

    return leave


@pytest.fixture
def under_way(store):
    """Write progress that is ``age`` seconds old, and return the current time in seconds since the epoch."""

    def leave(spec, step: int = 30, age: float = 1.0, **changes) -> float:
        now = time.time()
        row = {"run": spec.run, "step": step, "steps": 120, "started": now - 61, "host": "node7", "pid": 1}
        path = store.new_attempt(spec.run) / "progress.json"
        path.write_text(json.dumps(row | {"seconds_left": 90.0} | changes))
        os.utime(path, (now - age,) * 2)
        return now

    return leave


def shown(plan, store, **options) -> str:
    console = Console(width=200, file=io.StringIO(), markup=False)
    console.print(*status_view.tables(Snapshot(plan, store.root.parent), **options))
    return console.file.getvalue()


def of(plan, store, spec, **options):
    return next(state for other, state in states(plan, store.root.parent, **options) if other == spec)


def test_a_run_without_files_is_waiting(plan, store):
    assert {state.status for _, state in states(plan, store.root.parent)} == {"waiting"}


@pytest.mark.parametrize("state", ["completed", "diverged", "failed"])
def test_a_receipt_gives_status_and_reason(state, plan, store, done):
    spec = next(plan.specs)
    done(spec, state, "because")
    assert (of(plan, store, spec).status, of(plan, store, spec).reason) == (state, "because")


def test_a_run_made_by_other_code_is_stale(plan, store, done):
    spec = next(plan.specs)
    done(spec, code="e" * 64)
    assert of(plan, store, spec).status == "stale"


def test_records_are_read_only_for_verification(plan, store, done):
    spec = next(plan.specs)
    done(spec)
    (store.folder(spec.run) / "record.json").write_text("damaged")
    assert of(plan, store, spec).status == "completed"
    assert of(plan, store, spec, verify=True).status == "damaged"


def test_an_invalid_receipt_is_damaged(plan, store, done):
    spec = next(plan.specs)
    done(spec)
    store.receipt(spec.run).write_text('{"run": "another"}')
    assert of(plan, store, spec).status == "damaged"


def test_cells_of_one_name_are_listed_with_what_sets_them_apart(study_content, write_study, store):
    lengths = [{"datasets": ["spiral"], "architectures": ["mlp8"], "recipe": {"epochs": epochs}} for epochs in (1, 2)]
    output = shown(study.load(write_study(study_content | {"grids": lengths})), store)
    for cell in ("mlp8/spiral/vanilla, epochs 1", "mlp8/spiral/vanilla, epochs 2", "mlp8/spiral/droppath, epochs 2"):
        assert cell in output
    assert re.search(r"all .* 8 ", output)


def test_a_running_run_shows_host_start_progress_and_end(plan, store, under_way):
    spec = next(plan.specs)
    now = under_way(spec, slurm_job="4711", gpu="2")
    line = next(line for line in shown(plan, store).splitlines() if "node7" in line)
    assert "node7, job 4711, GPU 2" in line
    assert "30/120" in line
    assert "25 %" in line
    assert time.strftime("%H:%M", time.gmtime(now - 61)) in line
    assert time.strftime("%H:%M", time.gmtime(now + 89)) in line


def test_a_running_run_has_the_epochs_that_its_attempt_reports(plan, store, under_way):
    first, second = list(plan.specs)[:2]
    epochs = [{"epoch": i, "step": 10 * i, "train_loss": 1 / i, "validation_accuracy": None} for i in (1, 2)]
    under_way(first, history=epochs)
    assert [dict(epoch) for epoch in of(plan, store, first).progress.history] == [
        epoch | {"train_accuracy": None, "validation_loss": None} for epoch in epochs
    ]
    under_way(second)  # by a version that reports none
    assert of(plan, store, second).progress.history == ()


def test_an_attempt_without_recent_progress_is_stopped(plan, store, under_way):
    spec = next(plan.specs)
    under_way(spec, age=300)
    assert of(plan, store, spec).status == "stopped"
    assert "no progress for 300 s; step 30/120 on node7" in shown(plan, store)


def test_the_latest_of_several_attempts_counts(plan, store, under_way):
    spec = next(plan.specs)
    under_way(spec, age=300)
    under_way(spec, step=31, age=1)
    assert of(plan, store, spec).progress.step == 31


def test_progress_from_the_future_is_not_recent(plan, store, under_way):
    """It is from before the clock was set back: a living attempt writes every few seconds."""
    spec = next(plan.specs)
    under_way(spec, age=-30)
    assert of(plan, store, spec).status == "running"
    under_way(spec, age=-86400)
    assert of(plan, store, spec).status == "stopped"
    assert shown(plan, store)


def test_an_attempt_that_stopped_in_order_shows_at_once(plan, store, under_way):
    spec = next(plan.specs)
    under_way(spec, age=1, stopped=True)
    assert of(plan, store, spec).status == "stopped"


@pytest.mark.parametrize("key", ["started", "seconds_left", "steps", "history"])
@pytest.mark.parametrize("value", ["x", float("nan"), float("inf"), 1e300, -1e300, [], {}])
def test_invalid_progress_does_not_break_the_view(key, value, plan, store, under_way):
    under_way(next(plan.specs), age=1, **{key: value})
    assert shown(plan, store)


def test_a_receipt_that_is_a_folder_is_damaged_and_other_runs_show(plan, store, done):
    first, second = list(plan.specs)[:2]
    store.receipt(first.run).mkdir(parents=True)
    done(second)
    assert of(plan, store, first).status == "damaged"
    assert of(plan, store, second).status == "completed"


@pytest.mark.parametrize("text", ["", "[]", '{"step": "many"}'])
def test_unreadable_progress_is_ignored(text, plan, store):
    spec = next(plan.specs)
    (store.new_attempt(spec.run) / "progress.json").write_text(text)
    assert of(plan, store, spec).status == "waiting"


class TestTrouble:
    @pytest.fixture
    def log(self, plan, store):
        """Write the log of the job that trains the second seed of the first cell."""
        path = store.root.parent / "logs" / "train_cell" / f"{plan.cells[0].id}-1.log"
        path.parent.mkdir(parents=True)
        return path

    def test_a_failed_run_shows_its_reason_and_the_end_of_its_log(self, plan, store, done, log):
        log.write_text("\n".join(["the beginning", *("more" for _ in range(9000)), "the last line", ""]))
        done(plan.cells[0].specs[1], "failed", "OutOfMemoryError: too small")
        text = shown(plan, store)
        assert "OutOfMemoryError: too small" in text
        assert str(log) in text.replace("\n", "")
        assert "the last line" in text
        assert "the beginning" not in text

    def test_a_job_that_ended_before_its_runs_shows_its_error(self, plan, store, log):
        log.write_text("rdp: data/x: no such file\n")
        assert "rdp: data/x: no such file" in shown(plan, store)

    def test_a_job_that_just_started_shows_nothing(self, plan, store, log):
        log.write_text("12:00:00 all 2 GPUs are in use, waiting\n")
        assert "waiting\n" not in shown(plan, store)

    def test_markup_in_a_reason_is_shown_as_text(self, plan, store, done):
        done(plan.cells[0].specs[1], "failed", "ValueError: [red]x[/] [nonsense")
        assert "ValueError: [red]x[/] [nonsense" in shown(plan, store)


def test_the_unfinished_view_leaves_out_finished_cells(plan, store, done):
    for spec in plan.cells[0].specs:
        done(spec)
    whole, short = shown(plan, store), shown(plan, store, unfinished=True)
    assert plan.cells[0].title in whole
    assert plan.cells[0].title not in short
    assert plan.cells[1].title in short


def test_watching_ends_when_all_runs_are_done(plan, store, done, capsys):
    for spec in plan.specs:
        done(spec)
    status_view.watch(plan, store.root.parent, Console(), 0.5)
    assert "4" in capsys.readouterr().out
