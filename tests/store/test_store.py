"""The run store: whole or absent, first come first kept, and every damage named."""

import ast
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rdp.errors import UserError
from rdp.store import Identity, RunRecord, Store
from rdp.store.record import Telemetry, json_schema

IDENTITY = {"spec": "a" * 64, "data": "b" * 64, "code": "c" * 64, "stack": "d" * 64}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "results")


@pytest.fixture
def spec(make_spec):
    return make_spec(seed=3)


@pytest.fixture
def make_record(spec):
    """A record, with changes; like a run's own, but small."""

    def make(**changes) -> RunRecord:
        numbers = {
            "test_accuracy": 0.75,
            "test_loss": 0.1 + 0.2,
            "history": [{"epoch": 1, "step": 1, "train_loss": 1e-7, "validation_loss": None}],
        }
        content = {
            "spec": spec.model_dump(mode="json"),
            "identity": IDENTITY,
            "status": "completed",
            "numbers": numbers,
            "telemetry": {"seconds": 1.5, "host": "here"},
        }
        return RunRecord(**content | changes)

    return make


@pytest.fixture
def attempt(store, spec, make_record):
    """Make an attempt with its files, and commit it."""

    def commit(predictions: tuple[int, ...] = (0, 1, 1, 0), **changes) -> RunRecord:
        folder = store.new_attempt(spec.run)
        save_file({"test": np.array(predictions, np.int16)}, folder / "predictions.safetensors")
        save_file({"w": np.arange(4, dtype=np.float32)}, folder / "weights.safetensors")
        return store.commit(spec.run, folder, make_record(**changes))

    return commit


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def uncovered(record: RunRecord) -> RunRecord:
    """A record without the fields that its digest leaves out."""
    return record.model_copy(update={"telemetry": None, "reason": None})


class TestRoundTrip:
    def test_what_was_committed_is_found_read_and_received(self, store, spec, attempt, make_record):
        committed = attempt()
        assert set(committed.files) == {"predictions.safetensors", "weights.safetensors"}
        assert committed == make_record(files=committed.files)
        store.write_receipt(spec.run, committed)
        assert store.read(spec.run) == committed
        assert store.find(spec.run, Identity(**IDENTITY)) == committed
        assert store.read_finished(spec.run) == committed
        assert store.read(spec.run).digest == committed.digest

    def test_the_arrays_come_back(self, store, spec, attempt):
        record = attempt((1, 2, 3))
        assert store.arrays(spec.run, record, "predictions")["test"].tolist() == [1, 2, 3]
        assert store.arrays(spec.run, record, "weights")["w"].tolist() == [0, 1, 2, 3]

    def test_the_json_schema_accepts_a_stored_record_and_refuses_another_type(self, store, spec, attempt):
        attempt()
        content = json.loads((store.folder(spec.run) / "record.json").read_text())
        jsonschema.validate(content, json_schema())
        content["numbers"]["test_accuracy"] = "high"
        with pytest.raises(jsonschema.ValidationError, match="high"):
            jsonschema.validate(content, json_schema())

    def test_nothing_is_there_before_it_was_committed(self, store, spec, attempt):
        assert store.find(spec.run, Identity(**IDENTITY)) is None
        assert store.read_finished(spec.run) is None
        assert str(store.folder(spec.run) / "record.json") in complaint(store.read, spec.run)
        folder = store.new_attempt(spec.run)
        folder.joinpath("record.json").write_text("{}")
        assert store.find(spec.run, Identity(**IDENTITY)) is None

    def test_a_record_without_a_receipt_may_be_reused_and_is_not_received(self, store, spec, attempt):
        record = attempt()
        assert store.find(spec.run, Identity(**IDENTITY)) == record
        assert store.read_finished(spec.run) is None

    def test_forgetting_a_run_removes_its_receipt_and_keeps_its_record(self, store, spec, attempt):
        store.write_receipt(spec.run, attempt())
        store.remove_receipt(spec.run)
        store.remove_receipt(spec.run)
        assert store.read_finished(spec.run) is None
        assert store.find(spec.run, Identity(**IDENTITY)) is not None

    def test_committing_leaves_no_attempt_behind(self, store, spec, attempt):
        store.new_attempt(spec.run)  # a killed job's
        attempt()
        assert store.attempts(spec.run) == []

    def test_what_a_kill_left_beside_a_record_is_no_part_of_it_and_goes(self, store, spec, attempt):
        record = attempt()
        folder, dead = store.folder(spec.run), store.new_attempt(spec.run)
        left = [folder / "checkpoint-000000009.safetensors", folder / "progress.json", dead / "progress.json"]
        left += [store.receipt(spec.run).with_name(".seed-0003.json.1.part"), folder / ".tmpAbC123"]
        for path in left:
            path.write_text("half")
        assert store.find(spec.run, Identity(**IDENTITY)) == record
        store.remove_leftovers(spec.run)
        assert not any(path.exists() for path in (*left, dead))
        assert store.find(spec.run, Identity(**IDENTITY)) == record

    def test_a_run_that_failed_keeps_its_checkpoints_and_those_before_it(self, store, spec, make_record):
        for step in (1, 2):
            folder = store.new_attempt(spec.run)
            (folder / f"checkpoint-00000000{step}.safetensors").write_text("")
            store.commit(spec.run, folder, make_record(status="failed"))
        found = [path.name for path in store.root.rglob("checkpoint-*")]
        assert sorted(found) == ["checkpoint-000000001.safetensors", "checkpoint-000000002.safetensors"]

    def test_attempts_of_other_seeds_stay(self, store, spec, attempt):
        other = store.new_attempt(spec.model_copy(update={"seed": 30}).run)
        attempt()
        assert other.is_dir()

    def test_telemetry_and_reason_are_not_in_the_digest_and_all_else_is(self, make_record):
        first = make_record()
        assert make_record(telemetry={"seconds": 9.0}).digest == first.digest
        for change in (
            {"spec": {}},
            {"identity": IDENTITY | {"code": "e"}},
            {"status": "diverged"},
            {"numbers": first.numbers.model_copy(update={"test_accuracy": float(np.nextafter(0.75, 1))})},
            {"files": {"weights.safetensors": "0"}},
        ):
            assert make_record(**change).digest != first.digest, change

    def test_a_directory_that_cannot_be_written_is_named(self, tmp_path, spec):
        (tmp_path / "store").write_text("a file where a folder should be")
        assert str(tmp_path / "store") in complaint(Store(tmp_path).new_attempt, spec.run)


class TestIdentity:
    @pytest.mark.parametrize("part", list(IDENTITY))
    def test_a_record_is_found_for_all_four_digests_and_no_three(self, part, store, spec, attempt):
        attempt()
        assert store.find(spec.run, Identity(**IDENTITY | {part: "e" * 64})) is None

    def test_a_second_attempt_at_the_same_run_keeps_the_first(self, store, spec, attempt):
        first = attempt(telemetry={"seconds": 1.0})
        second = attempt(telemetry={"seconds": 2.0})
        assert second == first
        assert store.read(spec.run).telemetry == Telemetry(seconds=1.0)
        assert store.attempts(spec.run) == []

    @pytest.mark.parametrize(
        "change", [{"numbers": {"test_accuracy": 0.8}}, {"predictions": (0, 1, 1, 1)}, {"status": "diverged"}]
    )
    def test_a_second_attempt_that_differs_is_an_error_and_the_first_stays(self, change, store, spec, attempt):
        first = attempt()
        message = complaint(lambda: attempt(**change))
        assert str(store.folder(spec.run)) in message
        assert "does not compute reproducibly" in message
        assert store.find(spec.run, Identity(**IDENTITY)) == first

    def test_a_record_of_other_code_is_replaced(self, store, spec, attempt):
        attempt(identity=IDENTITY | {"code": "e" * 64})
        newer = attempt(numbers={"test_accuracy": 0.8})
        assert store.find(spec.run, Identity(**IDENTITY)) == newer
        assert store.attempts(spec.run) == []

    def test_a_failed_run_is_read_and_never_found(self, store, spec, attempt):
        failed = attempt(status="failed", reason="MemoryError", numbers={})
        store.write_receipt(spec.run, failed)
        assert store.read_finished(spec.run) == failed
        assert store.find(spec.run, Identity(**IDENTITY)) is None

    def test_a_failed_run_is_replaced_by_the_next_attempt(self, store, spec, attempt):
        attempt(status="failed", reason="MemoryError", numbers={})
        assert store.find(spec.run, Identity(**IDENTITY)) is None
        assert attempt() == store.find(spec.run, Identity(**IDENTITY))

    def test_a_failure_after_a_success_leaves_the_success(self, store, spec, attempt):
        first = attempt()
        assert attempt(status="failed", reason="MemoryError", numbers={}) == first
        assert store.find(spec.run, Identity(**IDENTITY)) == first

    def test_a_diverged_run_is_a_result_and_is_found(self, store, spec, attempt):
        diverged = attempt(status="diverged", reason="the loss was not finite at step 3")
        assert store.find(spec.run, Identity(**IDENTITY)) == diverged


class TestDamage:
    @pytest.fixture
    def done(self, store, spec, attempt) -> Path:
        """A finished run's directory."""
        store.write_receipt(spec.run, attempt())
        return store.folder(spec.run)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'"text"', b"\xff\xfe", b'{"digest": 1}'])
    def test_a_record_that_is_none_is_named(self, content, done, store, spec):
        (done / "record.json").write_bytes(content)
        assert str(done / "record.json") in complaint(store.read, spec.run)
        assert store.find(spec.run, Identity(**IDENTITY)) is None

    @pytest.mark.parametrize("kind", ["record", "receipt"])
    def test_another_format_is_refused(self, kind, done, store, spec):
        path = done / "record.json" if kind == "record" else store.receipt(spec.run)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
        message = complaint(store.read if kind == "record" else store.read_receipt, spec.run)
        assert message.startswith(f"{path}: {kind} format 99; this version of rdp reads format ")

    def test_an_altered_number_is_named(self, done, store, spec):
        path = done / "record.json"
        path.write_text(path.read_text().replace("0.75", "0.76"))
        assert str(path) in complaint(store.read, spec.run)
        assert store.find(spec.run, Identity(**IDENTITY)) is None

    def test_no_flipped_bit_passes_wherever_in_a_record(self, done, store, spec, flip_byte):
        path = done / "record.json"
        whole, genuine = path.read_bytes(), store.read(spec.run)
        for position in range(0, len(whole), 3):
            flip_byte(path, position, 1 << position % 8)
            assert str(path) in complaint(store.read_finished, spec.run)
            found = store.find(spec.run, Identity(**IDENTITY))
            # Telemetry is under no digest of its own: the receipt's covers it.
            assert found is None or uncovered(found) == uncovered(genuine)
            path.write_bytes(whole)

    @given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_no_changed_byte_of_a_record_passes(self, done, store, spec, place, byte):
        path = done / "record.json"
        whole = path.read_bytes()
        position = place % len(whole)
        if whole[position] != byte:
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            try:
                assert str(path) in complaint(store.read_finished, spec.run)
            finally:
                path.write_bytes(whole)

    @pytest.mark.parametrize("number", ["1e999", "NaN", '"\\ud800"'])
    def test_a_record_with_what_is_not_json_is_named(self, number, done, store, spec):
        path = done / "record.json"
        path.write_text(path.read_text().replace("0.75", number))
        assert str(path) in complaint(store.read, spec.run)

    @pytest.mark.parametrize("name", ["predictions", "weights"])
    @pytest.mark.parametrize("damage", ["flipped", "truncated", "absent"])
    def test_a_damaged_file_is_named_and_its_record_not_reused(self, name, damage, done, store, spec, flip_byte):
        path, record = done / f"{name}.safetensors", store.read(spec.run)
        if damage == "flipped":
            flip_byte(path, -1)
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            path.unlink()
        assert str(path) in complaint(store.arrays, spec.run, record, name)
        assert store.find(spec.run, Identity(**IDENTITY)) is None

    def test_a_run_with_a_damaged_file_is_replaced_by_the_next_attempt(self, done, store, spec, attempt, flip_byte):
        flip_byte(done / "weights.safetensors", -1)
        assert store.find(spec.run, Identity(**IDENTITY)) is None
        assert attempt() == store.find(spec.run, Identity(**IDENTITY))

    def test_a_receipt_for_another_run_is_named(self, done, store, spec):
        other = spec.model_copy(update={"seed": 4})
        store.receipt(spec.run).rename(store.receipt(other.run))
        done.rename(store.folder(other.run))
        message = complaint(store.read_finished, other.run)
        assert str(store.receipt(other.run)) in message

    def test_a_receipt_for_an_earlier_record_is_named(self, done, store, spec, attempt):
        attempt(identity=IDENTITY | {"code": "e" * 64})
        message = complaint(store.read_finished, spec.run)
        assert str(store.receipt(spec.run)) in message
        assert str(done / "record.json") in message

    def test_a_receipt_without_a_record_is_named(self, done, store, spec):
        (done / "record.json").unlink()
        assert str(done / "record.json") in complaint(store.read_finished, spec.run)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "{}",
            "[]",
            "null",
        ],
    )
    def test_a_broken_receipt_is_named(self, content, done, store, spec):
        store.receipt(spec.run).write_text(content)
        assert str(store.receipt(spec.run)) in complaint(store.read_finished, spec.run)


def test_nothing_in_this_package_reads_or_writes_pickles(root):
    """No import of a module that unpickles, and no call of a function that does unless it is told not to."""
    forbidden = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    calls = {("torch", "load"), ("torch", "save"), ("np", "load"), ("np", "save"), ("numpy", "load")}
    attributes = {"read_pickle", "to_pickle", "allow_pickle"}
    for file in sorted((root / "rdp").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            found = set()
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names} & forbidden
            elif isinstance(node, ast.ImportFrom):
                found = {(node.module or "").partition(".")[0]} & forbidden
            elif isinstance(node, ast.Attribute):
                found = {node.attr} & attributes
                if isinstance(node.value, ast.Name):
                    found |= {(node.value.id, node.attr)} & calls
            elif isinstance(node, ast.keyword):
                found = {node.arg} & attributes
            assert not found, f"{file}:{node.lineno}: {found}"
