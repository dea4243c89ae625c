"""Differences between two records of one run."""

from dataclasses import replace
from typing import Any

from rdp.jobs.retrain import record_differences
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


def test_code_and_telemetry_do_not_count() -> None:
    other = replace(RECORD, identity=IDENTITY | {"code": "another"}, telemetry={"host": "there"})
    assert record_differences(RECORD, other) == []


def test_equal_numbers_of_another_type_are_another_digest() -> None:
    assert record_differences(RECORD, changed(steps=132.0)) == ["equal numbers, but another digest"]


def test_history_is_reported_up_to_the_first_changed_epoch_and_weights_as_one_line() -> None:
    history = [{"epoch": 1, "train_loss": 2.5}, {"epoch": 2, "train_loss": 1.5}]
    lines = record_differences(RECORD, changed(history=history, weights={"stem": "x", "head": "y"}))
    assert lines == [
        "history 1, train_loss: 2.0; retraining gives 2.5",
        "2 tensors differ, first weights, stem: a; retraining gives x",
    ]
    assert record_differences(RECORD, changed(history=history[:1])) == ["history: 2 entries; retraining gives 1 entry"]


def test_status_and_files_count() -> None:
    other = replace(RECORD, status="diverged", files={"weights.safetensors": "v"})
    assert record_differences(RECORD, other) == [
        "status: completed; retraining gives diverged",
        "files, weights.safetensors: w; retraining gives v",
    ]
