"""What of two records of one run differs."""

from dataclasses import replace
from typing import Any

from rdp.jobs.retrain import differences
from rdp.store.record import RunRecord

NUMBERS = {
    "steps": 132,
    "test_accuracy": 0.5,
    "history": [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}],
    "weights": {"stem": "a", "head": "b"},
}
IDENTITY = {"spec": "s", "data": "d", "code": "c", "stack": "t"}
RECORD = RunRecord({}, IDENTITY, "completed", None, NUMBERS, {}, {"weights.safetensors": "w"})


def changed(**numbers: Any) -> RunRecord:
    return replace(RECORD, numbers=NUMBERS | numbers)


def test_nothing_differs_but_code_and_telemetry() -> None:
    other = replace(RECORD, identity=IDENTITY | {"code": "another"}, telemetry={"host": "there"})
    assert differences(RECORD, other) == []


def test_numbers_that_are_equal_and_written_otherwise_are_no_same_bits() -> None:
    assert differences(RECORD, changed(steps=132.0)) == ["other digests, of equal numbers"]


def test_of_history_the_first_epoch_that_differs_is_told_and_of_weights_the_first() -> None:
    history = [{"epoch": 1, "train_loss": 2.5}, {"epoch": 2, "train_loss": 1.5}]
    found = differences(RECORD, changed(history=history, weights={"stem": "x", "head": "y"}))
    assert found == ["history, epoch 1, train_loss: 2.0 and 2.5", "weights: 2 of 2 tensors, first stem"]
    assert differences(RECORD, changed(history=history[:1])) == ["history: 2 entries and 1 entry"]


def test_status_and_files_count() -> None:
    other = replace(RECORD, status="diverged", files={"weights.safetensors": "v"})
    assert differences(RECORD, other) == ["status: completed and diverged", "weights.safetensors: other bytes"]
