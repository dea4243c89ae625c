"""Checkpoints and records: damage is told in a line or a row, or nothing that is read differs by a bit."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from rdp.store import RunRecord, Store, fingerprint
from rdp.study import Plan
from rdp.study.states import states
from rdp.tables import collect
from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint
from tests.damage.conftest import HARMLESS, NAMED, refusal

IDENTITY = {"spec": "a" * 64, "data": "b" * 64, "code": "c" * 64, "stack": "d" * 64}


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_used(tmp_path: Path, try_damages: Any) -> None:
    draw = torch.Generator().manual_seed(0)
    for step in (1, 2):
        tensors = {"w": torch.randn(20, 7, generator=draw), "n": torch.arange(5), "scale": torch.tensor(3.0)}
        state = {"resumed_at": [], "history": [{"epoch": step, "train_loss": 0.1 + 0.2}]}
        checkpoint.save(tmp_path, Checkpoint(step, IDENTITY, tensors, state))
    path = tmp_path / "checkpoint-000000002.safetensors"
    whole, _ = checkpoint.latest([tmp_path], IDENTITY)
    assert whole.step == 2
    tensors = {name: tensor.clone() for name, tensor in whole.tensors.items()}  # the others lie in the file itself

    def look() -> str:
        found, lines = checkpoint.latest([tmp_path], IDENTITY)
        if found.step == 2:
            assert lines == []
            assert (found.state, found.tensors.keys()) == (whole.state, tensors.keys())
            assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
            return HARMLESS
        assert len(lines) == 1
        assert lines[0].startswith(f"{path}: damaged checkpoint")
        assert "\n" not in lines[0]
        return NAMED

    try_damages(path, 150, look)


@pytest.fixture
def store(plan: Plan, results: Path, tmp_path: Path) -> Store:
    """A copy of the planted store, in which the first run has weights too."""
    shutil.copytree(results / "store", tmp_path / "store")
    store, spec = Store(tmp_path), plan.cells[0].specs[0]
    shutil.rmtree(store.folder(spec.run))
    attempt = store.new_attempt(spec.run)
    save_file({"test": np.arange(50, dtype=np.int16) % 10}, attempt / "predictions.safetensors")
    save_file({"w": np.linspace(0, 1, 60, dtype=np.float32)}, attempt / "weights.safetensors")
    numbers = {
        "test_accuracy": 0.75,
        "learning_rate": 0.1,
        "history": [{"epoch": 1, "step": 9, "train_loss": 1e-7, "validation_loss": None}],
    }
    identity = IDENTITY | {"spec": spec.spec_digest, "code": fingerprint.code_of(spec)}
    telemetry = {"seconds": 1.5, "started": "2020-01-01T00:00:00Z", "stack": {"device": "a machine"}}
    content = {"identity": identity, "status": "completed", "numbers": numbers, "telemetry": telemetry}
    record = RunRecord(spec=spec.model_dump(mode="json"), **content)
    store.write_receipt(spec.run, store.commit(spec.run, attempt, record))
    return store


@pytest.mark.parametrize(("receipt", "cases"), [(False, 120), (True, 80)], ids=["record", "receipt"])
def test_a_damaged_record_is_a_row_that_says_so(
    receipt: bool, cases: int, plan: Plan, store: Store, try_damages: Any
) -> None:
    spec, folder = plan.cells[0].specs[0], store.root.parent
    path = store.receipt(spec.run) if receipt else store.folder(spec.run) / "record.json"
    table, history = collect.collect(plan, folder)
    assert table["status"].tolist() == ["completed"] * len(table)

    def look() -> str:
        found, curves = collect.collect(plan, folder)
        row = found.iloc[0]
        state = next(state for other, state in states(plan, folder, verify=True) if other.run == spec.run)
        if row["status"] == "missing":
            assert row["reason"].startswith("damaged: ")
            assert str(path) in row["reason"]
            assert np.isnan(row["accuracy"])
            assert found.iloc[1:].equals(table.iloc[1:].astype(found.dtypes))
            assert spec.run not in set(curves["run"])
            assert state.status == "damaged"
            return NAMED
        assert found.equals(table)
        assert curves.equals(history)
        return HARMLESS

    try_damages(path, cases, look)


@pytest.mark.parametrize("name", ["predictions", "weights"])
def test_damaged_arrays_are_named_and_the_run_is_trained_again(
    name: str, plan: Plan, store: Store, try_damages: Any
) -> None:
    run = plan.cells[0].specs[0].run
    record = store.read_finished(run)
    path = store.folder(run) / f"{name}.safetensors"
    assert store.find(run, record.identity) == record

    def look() -> str:
        assert str(path) in refusal(store.arrays, run, record, name)
        assert store.find(run, record.identity) is None
        return NAMED

    try_damages(path, 40, look)


def test_the_file_that_says_a_sweep_is_done_is_read_by_nobody(plan: Plan, store: Store, try_damages: Any) -> None:
    """Snakemake asks whether it is there; a run chooses its rate from the records of the sweep."""
    folder = store.root.parent
    path = store.root / plan.cells[0].id / "tuned.json"
    path.write_text('{"learning_rate": 0.1, "rates": [], "records": {}}\n')
    table, history = collect.collect(plan, folder)

    def look() -> str:
        found, curves = collect.collect(plan, folder)
        assert found.equals(table)
        assert curves.equals(history)
        return HARMLESS

    try_damages(path, 20, look)


def test_times_that_were_altered_do_not_pass_with_the_next_receipt(plan: Plan, store: Store) -> None:
    """They are in no digest, for they differ from run to run; but when a run began decides what a claim may say."""
    run = plan.cells[0].specs[0].run
    identity, path = store.read(run).identity, store.folder(run) / "record.json"
    path.write_text(path.read_text().replace("2020-01-01", "2030-01-01"))
    assert str(path) in refusal(store.read_finished, run)
    store.remove_receipt(run)
    assert store.find(run, identity) is None  # so it is trained again


def test_predictions_of_another_seed_are_a_damage_that_retry_finds(plan: Plan, store: Store) -> None:
    ours, theirs = (spec.run for spec in plan.cells[0].specs[:2])
    path = store.folder(ours) / "predictions.safetensors"
    whole = path.read_bytes()
    path.write_bytes((store.folder(theirs) / path.name).read_bytes() + b" ")
    try:
        found = {spec.run: state for spec, state in states(plan, store.root.parent, verify=True)}
    finally:
        path.write_bytes(whole)
    assert found[ours].status == "damaged"
    assert str(path) in found[ours].reason
    assert found[theirs].status != "damaged"


@pytest.mark.parametrize("key", ["run", "status", "reason", "digest", "record", "code", "used"])
def test_a_receipt_with_a_name_that_is_misspelt_is_damaged(key: str, plan: Plan, store: Store) -> None:
    run = plan.cells[0].specs[0].run
    path = store.receipt(run)
    path.write_text(path.read_text().replace(f'"{key}"', f'"{key[:-1]}_"'))
    state = next(state for spec, state in states(plan, store.root.parent) if spec.run == run)
    assert state.status == "damaged"
    assert str(path) in state.reason
