"""Runs are carried from one store to another whole, and what is damaged on the way enters nothing."""

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from rdp.archive import exporting, importing, tarball
from rdp.claims import preregistration
from rdp.store import Store, adoptions
from rdp.study import Plan
from rdp.study.states import states
from rdp.tables import collect
from rdp.utils import digest
from tests.archive.conftest import contents, refusal

SEEN = {"a" * 32: "2020-01-01T00:00:00Z", "b" * 32: "2021-01-01T00:00:00Z"}


@pytest.fixture
def packed(before: Path, plan: Plan, tmp_path: Path) -> Path:
    """An archive of all runs of the study, with an adoption that they rest on and one that they do not."""
    record = Store(before).read(plan.cells[0].specs[0].run)
    told = {"new": "f" * 64, "stack": record.telemetry["stack"], "runs": [{}], "commit": None, "when": ""}
    adoptions.write(before / "store", told | {"old": record.identity["code"]})
    adoptions.write(before / "store", told | {"old": "e" * 64})
    preregistration.restore(SEEN, before)
    exporting.export([str(plan.file)], before, tmp_path / "runs.tar")
    return tmp_path / "runs.tar"


def repacked(path: Path, change) -> Path:
    """An archive whose manifest was changed, and sealed again."""
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    manifest = json.loads(members[0][1])
    del manifest["seal"]
    change(manifest)
    content = (json.dumps(digest.seal(manifest), indent=1, ensure_ascii=False) + "\n").encode()
    with path.open("wb") as to:
        for name, data in [("manifest.json", content), *members[1:]]:
            tarball._add(to, name, data)
        to.write(bytes(1024))
    return path


def test_what_is_exported_and_imported_is_the_same_to_the_byte(packed, before, plan, tmp_path):
    arrival = importing.take(packed, tmp_path / "there")
    assert len(arrival.entered) == 4
    assert not arrival.kept + arrival.refused
    ours, theirs = contents(before / "store"), contents(tmp_path / "there" / "store")
    receipts = {name for name in ours if Path(name).name.startswith("seed-") and name.endswith(".json")}
    assert ours.keys() - theirs.keys() == {f"adopted/{adoptions.name({'old': 'e' * 64, **_rest(before)})}"}
    assert {name for name in theirs if theirs[name] != ours[name]} <= receipts  # which are of this version now
    assert preregistration.first_seen_times(tmp_path / "there") == SEEN
    assert {state.status for _, state in states(plan, tmp_path / "there", verify=True)} == {"completed", "diverged"}
    table, swept = (collect.collect(plan, folder)[0] for folder in (before, tmp_path / "there"))
    assert table.equals(swept)
    again = importing.take(packed, tmp_path / "there")
    assert (len(again.entered), len(again.kept), len(again.refused)) == (0, 4, 0)
    assert contents(tmp_path / "there" / "store") == theirs


def _rest(before: Path) -> dict:
    told = adoptions.read(next((before / "store" / "adopted").glob("e*.json")))
    return {"new": told["new"], "stack": told["stack"]}


def test_the_same_runs_make_the_same_bytes_which_any_tar_reads(packed, before, plan, tmp_path):
    first = packed.read_bytes()
    for path in (before / "store").rglob("*"):
        path.touch()
    exporting.export([*[spec.run for spec in plan.sweep.values()], *(cell.id for cell in plan.cells)], before, packed)
    assert packed.read_bytes() == first
    with tarfile.open(packed) as tar:
        assert tar.getnames() == ["manifest.json", *sorted(tar.getnames()[1:])]
        assert {(member.isreg(), member.mtime, member.uname) for member in tar} == {(True, 0, "")}


def test_no_flipped_bit_and_no_cut_passes_and_the_store_stays_as_it_is(packed, tmp_path):
    whole, there = packed.read_bytes(), tmp_path / "there"
    places = [*range(0, 1024, 7), *range(1024, len(whole), 401), len(whole) - 1]
    for place in places:
        packed.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert str(packed) in refusal(importing.take, packed, there), place
    for length in [0, 1, 511, 512, 513, *range(1024, len(whole), 4999), len(whole) - 1024, len(whole) - 1]:
        packed.write_bytes(whole[:length])
        assert str(packed) in refusal(importing.take, packed, there), length
    packed.write_bytes(whole + b"\0")
    assert str(packed) in refusal(importing.take, packed, there)
    assert contents(there) == {}


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "logs/snakemake.lock",
        "store/../../evil.json",
        "store/adopted/../../../x.json",
        "store/a-b-c-0123456789ab/seed-0000.lock",
        "store/a-b-c-0123456789ab/seed-0000/../../x.json",
    ],
)
def test_no_file_lands_outside_what_a_store_holds(name, packed, before, tmp_path):
    def change(manifest):
        manifest["files"] = {name: next(iter(manifest["files"].values()))}

    said = refusal(importing.take, repacked(packed, change), tmp_path / "there")
    assert said == f"{packed}: names a file outside the store: {name}"
    assert contents(tmp_path) == {"runs.tar": packed.read_bytes()} | {
        f"before/{path}": content for path, content in contents(before).items()
    }


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_are_refused(kind, packed, tmp_path):
    with tarfile.open(packed) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, (member, data) in enumerate(members):
            if i == 2:
                member.type, member.linkname, member.size, data = kind, "/etc/passwd", 0, b""
            tar.addfile(member, io.BytesIO(data))
    assert f"{packed}: damaged" in refusal(importing.take, packed, tmp_path / "there")
    assert contents(tmp_path / "there") == {}


def test_an_archive_of_a_later_version_is_refused_by_name(packed, tmp_path):
    said = refusal(importing.take, repacked(packed, lambda manifest: manifest.update(schema=7)), tmp_path / "there")
    assert f"{packed}: schema 7 of an archive of runs, made by a later version of rdp" in said


def test_a_record_that_does_not_fit_its_run_is_refused_though_all_checksums_do(packed, plan, tmp_path):
    def change(manifest):
        run = plan.cells[0].specs[0].run
        manifest["runs"][run] = "0" * 64

    said = refusal(importing.take, repacked(packed, change), tmp_path / "there")
    assert "damaged, or made up" in said
    assert contents(tmp_path / "there") == {}


class TestWhatIsThere:
    @pytest.fixture
    def there(self, packed, tmp_path) -> Path:
        importing.take(packed, tmp_path / "there")
        return tmp_path / "there"

    def change(self, there: Path, run: str, **changes) -> None:
        store = Store(there)
        record = store.read(run)
        attempt = store.new_attempt(run)
        for name in record.files:
            shutil.copy2(store.folder(run) / name, attempt)
        shutil.rmtree(store.folder(run))
        store.write_receipt(run, store.commit(run, attempt, replace(record, **changes)))

    def test_another_record_stays_and_the_one_that_came_is_named_and_kept_out(self, there, packed, plan):
        run = plan.cells[0].specs[0].run
        record = Store(there).read(run)
        self.change(there, run, identity=record.identity | {"code": "e" * 64})
        kept = contents(there)
        arrival = importing.take(packed, there)
        assert len(arrival.kept) == 3
        (line,) = arrival.refused
        assert line.startswith(f"{run}: kept out, another record is in its place")
        assert line.endswith("made with other code")
        assert contents(there) == kept

    def test_a_damaged_run_stays_for_somebody_to_look_at(self, there, packed, plan):
        run = plan.cells[0].specs[0].run
        path = there / "store" / run / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        (line,) = importing.take(packed, there).refused
        assert str(path) in line

    def test_a_failed_run_gives_way(self, there, packed, plan):
        run = plan.cells[0].specs[0].run
        self.change(there, run, status="failed", reason="so")
        assert importing.take(packed, there).entered == [run]
        assert Store(there).received(run).status == "completed"

    def test_a_run_without_a_receipt_gets_one_and_an_absent_run_enters(self, there, packed, plan):
        first, second = (cell.specs[0].run for cell in plan.cells)
        Store(there).forget(first)
        Store(there).forget(second)
        shutil.rmtree(Store(there).folder(second))
        arrival = importing.take(packed, there)
        assert arrival.entered == [second]
        assert Store(there).received(first)
        assert Store(there).received(second)

    def test_of_two_times_of_a_claim_the_earlier_one_counts(self, there, packed):
        preregistration.restore({"a" * 32: "2019-01-01T00:00:00Z", "b" * 32: "2026-01-01T00:00:00Z"}, there)
        importing.take(packed, there)
        assert preregistration.first_seen_times(there) == {"a" * 32: "2019-01-01T00:00:00Z", "b" * 32: SEEN["b" * 32]}


class TestExporting:
    def test_a_damaged_run_is_named_and_nothing_written(self, before, plan, tmp_path):
        path = before / "store" / plan.cells[0].specs[0].run / "predictions.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        assert str(path) in refusal(exporting.export, [str(plan.file)], before, tmp_path / "a.tar")
        assert not list(tmp_path.glob("*.tar*"))

    def test_runs_that_are_not_done_are_left_out_and_named(self, before, plan, tmp_path):
        run = plan.cells[0].specs[0].run
        Store(before).forget(run)
        told, left_out = exporting.export([str(plan.file)], before, tmp_path / "a.tar")
        assert left_out == [f"{run}: not done"]
        assert len(told["runs"]) == 3

    @pytest.mark.parametrize("name", ["nothing", "", "../store", "a/b/c", "mlp8-spiral-vanilla-7911f47e1709/seed-0009"])
    def test_a_name_that_means_nothing_is_refused(self, name, before, tmp_path):
        assert "no study, and no cell or run" in refusal(exporting.export, [name], before, tmp_path / "a.tar")

    def test_a_store_that_is_not_there_holds_no_run(self, plan, tmp_path):
        said = refusal(exporting.export, [str(plan.file)], tmp_path, tmp_path / "a.tar")
        assert "no run to export" in said
