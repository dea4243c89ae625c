"""Differences between two records of one run."""

from typing import Any

from rdp.jobs.retrain import record_differences
from rdp.store.record import RunRecord

NUMBERS = {
    "steps": 132,
    "test_accuracy": 0.5,
    "history": [{"epoch": 1, "step": 1, "train_loss": 2.0}, {"epoch": 2, "step": 2, "train_loss": 1.0}],
    "weights": {"stem": "a", "head": "b"},
}
IDENTITY = {"spec": "s", "data": "d", "code": "c", "stack": "t"}
CONTENT = {"spec": {}, "identity": IDENTITY, "status": "completed", "numbers": NUMBERS}
CONTENT |= {"files": {"weights.safetensors": "w"}}
RECORD = RunRecord(**CONTENT)


def changed(**numbers: Any) -> RunRecord:
    return RunRecord(**CONTENT | {"numbers": NUMBERS | numbers})


def test_code_and_telemetry_do_not_count() -> None:
    other = RunRecord(**CONTENT | {"identity": IDENTITY | {"code": "another"}, "telemetry": {"host": "another"}})
    assert record_differences(RECORD, other) == []


def test_history_is_reported_up_to_the_first_changed_epoch_and_weights_as_one_line() -> None:
    history = [{"epoch": 1, "step": 1, "train_loss": 2.5}, {"epoch": 2, "step": 2, "train_loss": 1.5}]
    lines = record_differences(RECORD, changed(history=history, weights={"stem": "x", "head": "y"}))
    assert lines == [
        "history 1, train_loss: 2.0; retraining gives 2.5",
        "2 tensors differ, first weights, stem: a; retraining gives x",
    ]
    assert record_differences(RECORD, changed(history=history[:1])) == ["history: 2 entries; retraining gives 1 entry"]


def test_status_and_files_count() -> None:
    other = RunRecord(**CONTENT | {"status": "diverged", "files": {"weights.safetensors": "v"}})
    assert record_differences(RECORD, other) == [
        "status: completed; retraining gives diverged",
        "files, weights.safetensors: w; retraining gives v",
    ]
