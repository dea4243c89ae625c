"""Runs of an archive enter a store whole, or a report is rebuilt from them; what is there already is never replaced."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from rdp import study, tables
from rdp.archive import format as archive_format
from rdp.archive import unpack
from rdp.archive.format import Archive
from rdp.archive.pack import pack
from rdp.claims import preregistration, verdict_json
from rdp.claims.evidence import Records
from rdp.data import prepared
from rdp.jobs import parallel, runner
from rdp.report import facts
from rdp.store import Store, adoptions, origin
from rdp.store.record import WEIGHTS
from rdp.study import Plan, states
from rdp.tables import collect
from tests.archive.conftest import contents, rebuild, refusal
from tests.archive.test_pack import made_by_other_code
from tests.helpers.planting import EXAMPLES

SEEN = {"a" * 32: "2020-01-01T00:00:00Z", "b" * 32: "2021-01-01T00:00:00Z"}
TABLES = ("records.parquet", "history.parquet", "sweep.parquet", "speed.parquet", "claims.json")


@pytest.fixture
def archive(results: Path, plan: Plan, tmp_path: Path) -> Archive:
    """The archive of the trained study, with weights, an adoption of its code and one of other code."""
    record = Store(results).read(plan.cells[0].specs[0].run)
    content = {"new": "f" * 64, "stack": record.telemetry.stack, "runs": [{}], "commit": None, "when": ""}
    adoptions.write(results / "store", content | {"old": record.identity.code})
    adoptions.write(results / "store", content | {"old": "e" * 64})
    preregistration.restore(SEEN, results)
    return pack(plan, results, tmp_path / "carried.tar", weights=True)


def statuses(plan: Plan, results: Path) -> list[str]:
    return [state.status for _, state in states.states(plan, results, verify=True)]


class TestIntoStore:
    @pytest.fixture
    def site(self, archive: Archive, tmp_path: Path) -> Path:
        """The results directory of another site, with all runs of the archive."""
        unpack.into_store(archive, tmp_path / "site")
        return tmp_path / "site"

    def test_a_store_is_the_same_to_the_byte(self, archive: Archive, results: Path, plan: Plan, tmp_path: Path) -> None:
        site = tmp_path / "site"
        outcome = unpack.into_store(archive, site)
        assert (len(outcome.added), outcome.present, outcome.rejected) == (4, [], [])
        ours, theirs = contents(results / "store"), contents(site / "store")
        (other,) = ours.keys() - theirs.keys()
        assert other.startswith("adopted/eee")
        assert theirs == {name: content for name, content in ours.items() if name != other}
        assert preregistration.first_seen_times(site).items() >= SEEN.items()
        assert statuses(plan, site) == statuses(plan, results) == ["completed", "completed", "completed", "diverged"]
        assert collect.collect(plan, results)[0].equals(collect.collect(plan, site)[0])
        again = unpack.into_store(archive, site)
        assert (again.added, len(again.present), again.rejected) == ([], 4, [])
        assert contents(site / "store") == theirs

    def test_a_study_unknown_here_comes_with_its_file(self, archive: Archive, plan: Plan, tmp_path: Path) -> None:
        outcome = unpack.into_store(archive, tmp_path / "site")
        assert outcome.study == tmp_path / "site" / "carried" / "carried.yaml"
        assert [spec.run for spec in study.load(str(outcome.study)).specs] == [spec.run for spec in plan.specs]

    def test_training_goes_on_with_the_missing_runs_of_an_unfinished_study(
        self, results: Path, plan: Plan, tmp_path: Path
    ) -> None:
        tuned, diverged = (cell.specs[0] for cell in plan.cells)
        Store(results).remove_receipt(tuned.run)
        archive = pack(plan, results, tmp_path / "carried.tar")
        assert archive.manifest.missing == {tuned.cell: [tuned.seed]}
        site = tmp_path / "site"
        assert len(unpack.into_store(archive, site).added) == 3
        assert statuses(plan, site) == ["completed", "completed", "waiting", "diverged"]
        before = contents(site / "store")
        shutil.copytree(results / "data", site / "data")
        for spec in (*plan.sweep.values(), diverged):
            runner.run_job([spec], site, "cpu", bar=False)  # trains nothing
        assert contents(site / "store") == before
        (record,) = parallel.run_job([tuned], site, "cpu", cores=1)
        assert record.digest == Store(results).read(tuned.run).digest
        assert statuses(plan, site) == ["completed", "completed", "completed", "diverged"]
        assert unpack.into_store(pack(plan, site, tmp_path / "back.tar"), results).rejected == []

    def test_runs_of_a_shorter_study_enter_the_store_of_a_longer_one(
        self, archive: Archive, plan: Plan, tmp_path: Path
    ) -> None:
        content = yaml.safe_load(plan.file.read_text()) | {"seeds": 2}
        (tmp_path / "carried.yaml").write_text(yaml.safe_dump(content))
        longer = study.load(str(tmp_path / "carried.yaml"))
        unpack.into_store(archive, tmp_path / "site")
        assert statuses(longer, tmp_path / "site").count("waiting") == 2

    def test_without_weights_runs_stand_and_weights_may_follow(
        self, archive: Archive, results: Path, plan: Plan, tmp_path: Path
    ) -> None:
        light = pack(plan, results, tmp_path / "light.tar")
        assert light.path.stat().st_size < archive.path.stat().st_size
        site, run = tmp_path / "site", plan.cells[0].specs[0].run
        unpack.into_store(light, site)
        store = Store(site)
        assert statuses(plan, site) == ["completed", "completed", "completed", "diverged"]
        assert store.find(run, store.read(run).identity) is not None
        path = store.folder(run) / WEIGHTS
        assert refusal(store.arrays, run, store.read(run), "weights").startswith(
            f"{path}: the run was unpacked without"
        )
        shutil.copytree(results / "data", site / "data")
        assert "was unpacked without weights" in refusal(pack, plan, site, tmp_path / "a.tar", weights=True)
        assert pack(plan, site, tmp_path / "a.tar").manifest.cells == light.manifest.cells
        assert unpack.into_store(archive, site).rejected == []
        assert path.read_bytes() == (Store(results).folder(run) / WEIGHTS).read_bytes()
        unpack.into_store(light, site)
        assert path.exists()
        path.unlink()  # now it is damage
        assert store.find(run, store.read(run).identity) is None

    def test_another_record_stays_and_the_new_one_is_named(self, site: Path, archive: Archive, plan: Plan) -> None:
        spec = plan.cells[0].specs[0]
        made_by_other_code(site, spec, code="d" * 64)
        before = contents(site)
        outcome = unpack.into_store(archive, site)
        assert len(outcome.present) == 3
        (line,) = outcome.rejected
        assert line.startswith(f"{spec.run}: not added: the store holds another record")
        assert line.endswith("of other code")
        assert contents(site) == before

    def test_a_damaged_run_stays(self, site: Path, archive: Archive, plan: Plan) -> None:
        path = Store(site).folder(plan.cells[0].specs[0].run) / WEIGHTS
        path.write_bytes(path.read_bytes()[:-1])
        (line,) = unpack.into_store(archive, site).rejected
        assert str(path) in line

    def test_a_failed_run_is_replaced(self, site: Path, archive: Archive, plan: Plan) -> None:
        run, store = plan.cells[0].specs[0].run, Store(site)
        record = store.read(run)
        attempt = store.new_attempt(run)
        shutil.rmtree(store.folder(run))
        store.write_receipt(
            run, store.commit(run, attempt, record.model_copy(update={"status": "failed", "reason": "no memory"}))
        )
        assert unpack.into_store(archive, site).added == [run]
        assert store.read_finished(run).status == "completed"

    def test_a_run_without_a_receipt_gets_one(self, site: Path, archive: Archive, plan: Plan) -> None:
        first, second = (cell.specs[0].run for cell in plan.cells)
        Store(site).remove_receipt(first)
        Store(site).remove_receipt(second)
        shutil.rmtree(Store(site).folder(second))
        assert unpack.into_store(archive, site).added == [second]
        assert Store(site).read_finished(first)
        assert Store(site).read_finished(second)

    def test_of_two_times_of_a_claim_the_earlier_one_counts(self, site: Path, archive: Archive) -> None:
        preregistration.restore({"a" * 32: "2019-01-01T00:00:00Z", "b" * 32: "2026-01-01T00:00:00Z"}, site)
        unpack.into_store(archive, site)
        assert (
            preregistration.first_seen_times(site).items()
            >= {"a" * 32: "2019-01-01T00:00:00Z", "b" * 32: SEEN["b" * 32]}.items()
        )

    def test_tables_are_added_where_absent(self, packed: Archive, planted: Plan, tmp_path: Path) -> None:
        speed = tmp_path / "planted" / "speed.parquet"
        speed.parent.mkdir()
        speed.write_text("mine")
        unpack.into_store(packed, tmp_path)
        assert speed.read_text() == "mine"
        for probe in planted.study.probes:
            path = Path("probes") / f"{probe}.parquet"
            assert (speed.parent / path).read_bytes() == (planted.file.parent / "planted" / path).read_bytes()

    def test_recorded_results_take_no_runs(self, packed: Archive, rebuilt: Path) -> None:
        assert "holds recorded results" in refusal(unpack.into_store, packed, rebuilt)

    def test_damaged_weights_leave_the_store_unchanged(self, archive: Archive, plan: Plan, tmp_path: Path) -> None:
        place = archive.offsets[archive_format.weights_name(plan.cells[0].specs[0].run)] + 600
        whole = archive.path.read_bytes()
        archive.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "damaged: weights/" in refusal(unpack.into_store, archive, tmp_path / "site")
        assert not (tmp_path / "site").exists()


class TestAsRecorded:
    def test_tables_and_verdicts_are_those_of_the_machine_that_trained(self, planted: Plan, rebuilt: Path) -> None:
        plan, results = study.load(str(rebuilt / "planted.yaml")), planted.file.parent
        collect.write(plan, rebuilt)
        verdict_json.write(tables.load(plan, rebuilt))
        for name in (*TABLES, *(f"probes/{probe}.parquet" for probe in planted.study.probes)):
            assert (rebuilt / plan.name / name).read_bytes() == (results / plan.name / name).read_bytes(), name
        # Runs of 2020 are older than any text of a claim.
        assert verdict_json.read(plan.name, rebuilt)["claims"][0]["runs_before_it"] > 0

    def test_a_report_states_its_missing_runs(self, planted: Plan, own: Path, tmp_path: Path) -> None:
        Store(own).remove_receipt(planted.cells[0].specs[0].run)
        plan = rebuild(pack(planted, own, tmp_path / "planted.tar"), tmp_path / "rebuilt")
        table = collect.write(plan, tmp_path / "rebuilt")
        assert table["status"].tolist() == ["missing"] + 11 * ["completed"]
        verdict_json.write(tables.load(plan, tmp_path / "rebuilt"))

    def test_unpacking_again_leaves_nothing_from_before(self, packed: Archive, rebuilt: Path) -> None:
        before = contents(rebuilt)
        stale = rebuilt / "store" / "another" / "seed-0000.json"
        stale.parent.mkdir()
        stale.write_text("{}")
        rebuild(packed, rebuilt)
        assert contents(rebuilt) == before

    def test_no_weights_and_no_images_are_unpacked(self, archive: Archive, tmp_path: Path) -> None:
        rebuild(archive, tmp_path / "rebuilt")
        names = {path.name for path in (tmp_path / "rebuilt").rglob("*.safetensors")}
        assert names == {"predictions.safetensors", "labels.safetensors"}

    def test_the_report_states_that_results_are_recorded(self, packed: Archive, planted: Plan, rebuilt: Path) -> None:
        table = collect.write(planted, rebuilt)
        text = " ".join(facts.recording(planted, table, rebuilt))
        assert "12 runs, and 24 of sweeps" in text
        assert "12 runs on a machine" in text
        assert packed.seal[:12] in text
        assert text.endswith("The training code of this checkout is the code that trained them.")
        other = table.assign(code_digest=["f" * 64, *table["code_digest"][1:]])
        assert "differs from the code that trained 1 of the 12 runs" in facts.recording(planted, other, rebuilt)[-1]
        fewer = table.assign(**{name: [None, *table[name][1:]] for name in ("code_digest", "spec_digest")})
        text = " ".join(facts.recording(planted, fewer, rebuilt))
        assert "The records are of 11 runs" in text  # one of the study's 12 is missing
        assert text.endswith("The training code of this checkout is the code that trained them.")
        assert facts.recording(planted, table, planted.file.parent) == []

    def test_records_of_other_code_are_read_only_among_recorded_results(self, planted: Plan, own: Path) -> None:
        spec = planted.cells[0].specs[0]
        made_by_other_code(own, spec)

        def status() -> str:
            return next(state.status for other, state in states.states(planted, own) if other.run == spec.run)

        assert collect.collect(planted, own)[0]["status"].tolist() == ["missing"] + 11 * ["completed"]
        assert status() == "stale"
        origin.write(own, {}, complete=True)
        table, _ = collect.collect(planted, own)
        assert table["status"].eq("completed").all()
        assert table["code_digest"].eq("f" * 64).tolist() == [True] + 11 * [False]
        assert status() == "completed"

    def test_labels_come_from_the_archive(self, planted: Plan, rebuilt: Path) -> None:
        collect.write(planted, rebuilt)
        ours, theirs = (Records(tables.load(planted, folder)) for folder in (rebuilt, planted.file.parent))
        for cell in planted.cells:
            assert np.array_equal(ours._predictions(cell, 1), theirs._predictions(cell, 1))
        assert origin.labels("digits", rebuilt).shape == (EXAMPLES,)
        path = origin.labels_path("digits", rebuilt)
        path.write_bytes(path.read_bytes()[:-2] + b"\7\7")
        assert str(path) in refusal(origin.labels, "digits", rebuilt)

    def test_other_results_are_not_replaced(self, packed: Archive, own: Path) -> None:
        before = contents(own)
        assert refusal(rebuild, packed, own) == (
            f"{own}: holds results that are not recorded; name another directory with --to"
        )
        assert contents(own) == before

    def test_products_are_not_replaced_and_logs_may_be_there(self, packed: Archive, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "unpack.log").touch()  # as the workflow begins
        (tmp_path / "claims.json").write_text("{}")
        assert "holds results that are not recorded" in refusal(rebuild, packed, tmp_path)
        (tmp_path / "claims.json").unlink()
        rebuild(packed, tmp_path)

    def test_an_interrupted_unpacking_is_named(self, packed: Archive, rebuilt: Path) -> None:
        origin.write(rebuilt, packed.manifest.model_dump(mode="json"), complete=False)
        assert "the archive is not completely unpacked" in refusal(origin.read, rebuilt)
        rebuild(packed, rebuilt)
        assert origin.read(rebuilt)["study"] == "planted"

    def test_the_manifest_of_the_data_is_kept(self, planted: Plan, rebuilt: Path) -> None:
        for name in ("digits", "fashion_mnist_14"):
            paths = (prepared.folder(name, folder) / "manifest.json" for folder in (rebuilt, planted.file.parent))
            assert len({path.read_bytes() for path in paths}) == 1
