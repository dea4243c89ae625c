"""What of two records of one run differs."""

from typing import Any

from rdp.jobs.retrain import differences
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


def test_nothing_differs_but_code_and_telemetry() -> None:
    other = RunRecord(**CONTENT | {"identity": IDENTITY | {"code": "another"}, "telemetry": {"host": "there"}})
    assert differences(RECORD, other) == []


def test_of_history_the_first_epoch_that_differs_is_told_and_of_weights_the_first() -> None:
    history = [{"epoch": 1, "step": 1, "train_loss": 2.5}, {"epoch": 2, "step": 2, "train_loss": 1.5}]
    found = differences(RECORD, changed(history=history, weights={"stem": "x", "head": "y"}))
    assert found == ["history, epoch 1, train_loss: 2.0 and 2.5", "weights: 2 of 2 tensors, first stem"]
    assert differences(RECORD, changed(history=history[:1])) == ["history: 2 entries and 1 entry"]


def test_status_and_files_count() -> None:
    other = RunRecord(**CONTENT | {"status": "diverged", "files": {"weights.safetensors": "v"}})
    assert differences(RECORD, other) == ["status: completed and diverged", "weights.safetensors: other bytes"]
