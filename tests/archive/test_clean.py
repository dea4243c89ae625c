"""What nothing needs is shown, and goes when it is asked for; what is in use or might be wanted stays."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rdp.archive import clean, inventory
from rdp.jobs import locks
from rdp.store import Store, adoptions, fingerprint, scratch
from rdp.study import Plan

LONG_AGO = time.time() - 7 * 86400


@pytest.fixture
def store(results: Path) -> Store:
    return Store(results)


@pytest.fixture
def run(plan: Plan) -> str:
    return plan.cells[0].specs[0].run


def put(path: Path, age: float = 7 * 86400) -> Path:
    """A file of some bytes, written so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0123456789")
    for changed in (path, path.parent):
        os.utime(changed, (time.time() - age,) * 2)
    return path


def attempt(store: Store, run: str, *names: str, host: str = "elsewhere", pid: int = 1, age: float = 7 * 86400) -> Path:
    cell, _, seed = run.partition("/")
    folder = store.root / cell / "attempts" / f"{seed}-{host}-{pid}-0123abcd"
    for name in names:
        put(folder / name, age)
    return folder


def removals(store: Store, plan: Plan, *, remove: bool = False, **options) -> dict[str, clean.Removal]:
    """What may go, by the first of its paths within the store, and is not in use; removed where that is asked for."""
    results, found = store.root.parent, {}
    for removal in list(clean.found(results, list(inventory.cells(results, {plan.name: plan})), **options)):
        with clean.held(results, removal) as why:
            if why is None:
                found[str(removal.paths[0].relative_to(store.root))] = removal
                if remove:
                    clean.remove(results, removal)
    return found


def cleaned(store: Store, plan: Plan, **options) -> list[str]:
    return sorted(removals(store, plan, remove=True, **options))


def test_a_clean_store_has_nothing_to_remove(store, plan):
    assert removals(store, plan, stale=True, unneeded=True, attempts=True) == {}


def test_what_killed_processes_left_goes_and_nothing_else(store, plan, run):
    whole = {path for path in store.root.rglob("*") if path.is_file()}
    cell = run.partition("/")[0]
    missing = f"{cell}/seed-0077"  # a run that is not done
    resumable = attempt(store, missing, "checkpoint-000000009.safetensors", "progress.json", pid=2)
    left = [
        attempt(store, run, "checkpoint-000000009.safetensors"),
        attempt(store, missing, "progress.json"),
        put(store.folder(run) / "checkpoint-000000009.safetensors"),
        put(store.folder(run) / ".tmpAbC123"),
        put(store.root / cell / ".seed-0000.json.0123abcd.part"),
        put(store.root / adoptions.FOLDER / ".x.json.0123abcd.part"),
        put(store.root / cell / "seed-0077.lock"),
        put(store.root / scratch.RETRAINED / "0123" / "lock").parent,
        put(store.root / scratch.IMPORTED / "0123" / "lock").parent,
    ]
    replaced = attempt(store, missing, "record.json", pid=3)
    left.append(replaced.rename(replaced.with_name(f"{replaced.name}-replaced")))
    os.utime(store.root / cell / "attempts", (LONG_AGO,) * 2)
    sizes = {name: removal.bytes for name, removal in removals(store, plan).items()}
    assert all(path.exists() for path in left)  # it was only shown
    assert sum(sizes.values()) == 10 * len(left)
    cleaned(store, plan)
    assert [path for path in left if path.exists()] == []
    assert resumable.is_dir()
    assert {path for path in store.root.rglob("*") if path.is_file()} == whole | set(resumable.iterdir())
    assert cleaned(store, plan, attempts=True) == [str(resumable.relative_to(store.root))]
    assert {path for path in store.root.rglob("*") if path.is_file()} == whole
    assert removals(store, plan) == {}


def test_a_failed_runs_checkpoints_stay(store, plan, run):
    record = store.read(run)
    folder = store.new_attempt(run)
    put(folder / "checkpoint-000000009.safetensors")
    identity = record.identity.model_copy(update={"data": "e" * 64})
    failed = record.model_copy(update={"status": "failed", "reason": "so", "identity": identity})
    store.write_receipt(run, store.commit(run, folder, failed))
    kept = put(store.folder(run) / "checkpoint-000000009.safetensors")
    cleaned(store, plan, attempts=True)
    assert kept.exists()
    assert store.read_receipt(run).status == "failed"


class TestInUse:
    def test_an_attempt_that_gave_a_sign_of_late_stays(self, store, plan, run):
        fresh = attempt(store, run, "progress.json", age=30)
        elsewhere = attempt(store, run, "progress.json", pid=2, age=1800)
        assert removals(store, plan) == {}
        for path in (fresh, elsewhere):
            for part in (path, *path.iterdir()):
                os.utime(part, (LONG_AGO,) * 2)
        assert len(cleaned(store, plan)) == 2

    def test_an_attempt_of_a_living_process_of_this_host_stays(self, store, plan, run):
        ours = attempt(store, run, "progress.json", host=socket.gethostname(), pid=os.getpid())
        assert removals(store, plan) == {}
        dead = ours.rename(ours.with_name(ours.name.replace(f"-{os.getpid()}-", "-99999999-")))
        assert cleaned(store, plan) == [str(dead.relative_to(store.root))]

    def test_a_run_whose_lock_is_held_stays(self, store, plan, run):
        attempt(store, run, "progress.json")
        with locks.lock_run(store, run):
            assert removals(store, plan, unneeded=True) == {}
        assert len(removals(store, plan)) == 1

    def test_a_place_where_runs_are_trained_again_stays(self, store, plan):
        with scratch.temporary_folder(store, scratch.RETRAINED) as there:
            os.utime(there, (LONG_AGO,) * 2)
            assert removals(store, plan) == {}

    def test_a_half_that_was_just_begun_stays(self, store, plan, run):
        path = put(store.receipt(run).with_name(".seed-0000.json.0123abcd.part"), age=1)
        assert removals(store, plan) == {}
        os.utime(path, (LONG_AGO,) * 2)
        assert len(removals(store, plan)) == 1

    def test_a_cell_that_a_snakemake_works_on_stays(self, store, plan, tmp_path):
        cell = plan.cells[1].id
        script = (
            "import sys, time; from pathlib import Path; from rdp.jobs import locks; "
            "locks.hold_names([sys.argv[1]], Path(sys.argv[2])); print('held', flush=True); time.sleep(60)"
        )
        held = [sys.executable, "-c", script, cell, str(store.root.parent / "logs" / "snakemake.lock")]
        with subprocess.Popen(held, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            other = plan.__class__(plan.name, plan.file, plan.study, plan.cells[:1], ())
            assert removals(store, other, unneeded=True) == {}
            process.kill()
        assert [removal.run for removal in removals(store, other, unneeded=True).values()] == [f"{cell}/seed-0000"]


def test_runs_that_no_study_asks_for_go_where_that_is_asked_for(store, plan):
    other = plan.__class__(plan.name, plan.file, plan.study, plan.cells[1:], ())
    assert removals(store, other) == {}
    assert len(cleaned(store, other, unneeded=True)) == 3  # a run, and two of its sweep
    assert sorted(path.name for path in store.root.iterdir()) == [plan.cells[1].id]
    assert store.read_finished(plan.cells[1].specs[0].run).status == "diverged"


def test_runs_of_other_code_go_where_that_is_asked_for(store, plan, run, monkeypatch):
    before = fingerprint.code_of
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: "f" * 64 if spec.run == run else before(spec))
    (cell,) = [c for c in inventory.cells(store.root.parent, {plan.name: plan}) if c.name == plan.cells[0].id]
    assert [(kept.run, kept.status) for kept in cell.runs] == [(run, "stale")]
    assert removals(store, plan) == {}
    assert cleaned(store, plan, stale=True) == [f"{run}.json"]
    assert not (store.root / cell.name).exists()  # what its sweep chose is of no use alone


def test_a_study_whose_file_is_not_found_is_named_before_its_runs_count_as_unneeded(store, plan):
    results = store.root.parent
    (results / "gone").mkdir()
    (results / "gone" / "records.parquet").write_text("")
    assert inventory.strangers(results, [plan]) == [results / "gone"]


def test_the_list_says_how_runs_stand_and_who_wants_them(store, plan, run):
    by_name = {cell.name: cell for cell in inventory.cells(store.root.parent, {plan.name: plan})}
    assert len(by_name) == 4
    assert all(cell.wanted.keys() == {plan.name} and not cell.unneeded for cell in by_name.values())
    cell = by_name[plan.cells[0].id]
    assert cell.statuses == {"completed": 1}
    there = [store.receipt(run), *store.folder(run).iterdir()]
    assert cell.bytes == sum(path.stat().st_size for path in there)
    store.remove_receipt(run)
    (store.root / plan.cells[1].id / "seed-0000" / "record.json").unlink()
    attempt(store, f"{plan.cells[1].id}/seed-0009", "progress.json")
    by_name = {cell.name: cell for cell in inventory.cells(store.root.parent, {})}
    assert by_name[plan.cells[0].id].statuses == {"unreceived": 1}
    assert by_name[plan.cells[1].id].statuses == {"damaged": 1, "begun": 1}
    assert len(by_name[plan.cells[1].id].unneeded) == 2
    store.receipt(run).mkdir()  # which Snakemake takes for one
    (kept,) = next(cell.runs for cell in inventory.cells(store.root.parent, {}) if cell.name == plan.cells[0].id)
    assert (kept.status, kept.reason) == ("damaged", f"{store.receipt(run)}: cannot be read (Is a directory)")
