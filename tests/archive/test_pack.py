"""An archive holds the finished runs of a study, names the missing ones, and refuses what does not fit."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rdp.archive.format import Archive
from rdp.archive.pack import pack
from rdp.data import prepared
from rdp.spec import RunSpec
from rdp.store import Store, fingerprint
from rdp.study import Plan
from rdp.tables import measurements
from tests.archive.conftest import rebuild, refusal
from tests.claims.conftest import AS_CLAIMED
from tests.helpers.planting import load, plant, plant_run


def change_record(results: Path, spec: RunSpec, **changes: object) -> None:
    """Replace a run's record by a changed one."""
    store = Store(results)
    record = store.read(spec.run)
    attempt = store.new_attempt(spec.run)
    for name in record.files:
        shutil.copy2(store.folder(spec.run) / name, attempt)
    shutil.rmtree(store.folder(spec.run))
    store.write_receipt(spec.run, store.commit(spec.run, attempt, record.model_copy(update=changes)))


def made_by_other_code(results: Path, spec: RunSpec, **digests: str) -> None:
    identity = Store(results).read(spec.run).identity
    change_record(results, spec, identity=identity.model_copy(update={"code": "f" * 64} | digests))


def test_packing_again_gives_the_same_bytes(packed: Archive, planted: Plan, own: Path, tmp_path: Path) -> None:
    for path in own.rglob("*"):
        path.touch()
    path = tmp_path / "again" / "planted.tar"
    for _ in range(2):  # the second in place of the first
        assert pack(planted, own, path).seal == packed.seal
        assert path.read_bytes() == packed.path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["planted.tar"]


def test_the_manifest_states_runs_and_machines(packed: Archive) -> None:
    manifest = packed.manifest
    assert manifest.runs == {"completed": 12, "diverged": 0, "sweep": 24, "missing": 0}
    assert manifest.missing == {}
    assert [machine["stack"] for machine in manifest.machines] == [{"device": "a machine"}]
    assert manifest.machines[0]["runs"] == 36
    assert manifest.packed_on["cores"] >= 1
    assert manifest.packed_on["versions"]["torch"]
    assert sum(map(len, manifest.cells.values())) == 36
    assert packed.path.stat().st_size < 100_000


def test_missing_and_failed_runs_are_named_in_the_manifest(
    planted: Plan, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell = planted.cells[1]
    first, second = cell.specs
    Store(own).remove_receipt(first.run)
    shutil.rmtree(Store(own).folder(second.run))
    plant_run(Store(own), cell, second, replace(AS_CLAIMED, status={(cell.label, second.seed): "failed"}))
    with caplog.at_level(logging.WARNING):
        manifest = pack(planted, own, tmp_path / "a.tar").manifest
    assert "planted: 2 of 36 runs missing: 1 waiting, 1 failed" in caplog.messages
    assert manifest.missing == {cell.id: [first.seed, second.seed]}
    assert manifest.runs == {"completed": 10, "diverged": 0, "sweep": 24, "missing": 2}
    assert cell.id not in manifest.cells


def test_runs_of_other_code_are_missing(
    planted: Plan, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made_by_other_code(own, planted.cells[0].specs[0])
    manifest = pack(planted, own, tmp_path / "a.tar").manifest
    assert "planted: 1 of 36 runs missing: 1 stale" in caplog.messages
    assert manifest.missing == {planted.cells[0].id: [planted.cells[0].specs[0].seed]}


def test_a_study_without_a_finished_run_is_refused(planted: Plan, own: Path, tmp_path: Path) -> None:
    shutil.rmtree(own / "store")
    said = refusal(pack, planted, own, tmp_path / "a.tar")
    assert said.startswith("planted: no run is finished, so there is nothing to pack")
    assert not (tmp_path / "a.tar").exists()


def test_a_damaged_record_or_prediction_is_named(planted: Plan, own: Path, tmp_path: Path) -> None:
    folder = Store(own).folder(planted.cells[0].specs[0].run)
    for name in ("record.json", "predictions.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + b"x" + whole[-8:])
        assert str(path) in refusal(pack, planted, own, tmp_path / "a.tar")
        path.write_bytes(whole)
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize(
    ("table", "remedy"),
    [("probes/feature_reuse", "rdp probe planted feature_reuse"), ("speed", "rdp speed planted")],
)
def test_a_table_that_was_not_measured_is_named_and_no_report_made_without_it(
    table: str, remedy: str, planted: Plan, own: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = own / "planted" / f"{table}.parquet"
    path.unlink()
    archive = pack(planted, own, tmp_path / "planted.tar")
    assert f"{path}: not measured, so not in the archive; run: {remedy}" in caplog.messages
    assert f"holds no {table}.parquet.xz, which the report needs" in refusal(rebuild, archive, tmp_path / "rebuilt")


def test_a_damaged_table_is_named(planted: Plan, own: Path, tmp_path: Path) -> None:
    path = own / "planted" / "speed.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(pack, planted, own, tmp_path / "a.tar").startswith(f"{path}: damaged")


def test_a_probe_of_other_runs_is_named(planted: Plan, own: Path, tmp_path: Path) -> None:
    table = measurements.read("planted", "feature_reuse", own)
    measurements.save("planted", "feature_reuse", own, table.assign(run="elsewhere/seed-0000"))
    assert "runs that the study does not have, first elsewhere/seed-0000" in refusal(
        pack, planted, own, tmp_path / "a.tar"
    )


def test_a_run_at_another_learning_rate_than_its_sweep_chooses_is_named(
    planted: Plan, own: Path, tmp_path: Path
) -> None:
    spec = planted.cells[0].specs[0]
    change_record(own, spec, numbers=Store(own).read(spec.run).numbers.model_copy(update={"learning_rate": 0.05}))
    said = refusal(pack, planted, own, tmp_path / "a.tar")
    assert said.startswith(f"{spec.run}: trained with learning rate 0.05, its sweep chooses learning rate 0.1; ")


def test_a_run_of_another_norm_gain_than_its_sweep_chooses_is_named(tmp_path: Path) -> None:
    tune = {"learning_rates": [0.05, 0.1], "norm_gains": [0.5, 1.0], "seeds": [1000]}
    digits = [{"datasets": ["digits"], "architectures": ["resnet56"]}]
    keys = {"methods": {"vanilla": None}, "grids": digits, "probes": [], "speed_rounds": None}
    plan = load(tmp_path, seeds=2, tune=tune, **keys)
    plant(plan, tmp_path, AS_CLAIMED)
    pack(plan, tmp_path, tmp_path / "a.tar")
    spec = plan.cells[0].specs[0]
    change_record(tmp_path, spec, numbers=Store(tmp_path).read(spec.run).numbers.model_copy(update={"norm_gain": 0.5}))
    chosen = "its sweep chooses learning rate 0.1 and norm gain 1.0; run: snakemake "
    said = refusal(pack, plan, tmp_path, tmp_path / "b.tar")
    assert said.startswith(f"{spec.run}: trained with learning rate 0.1 and norm gain 0.5, {chosen}")


def test_data_other_than_those_of_the_runs_are_named(planted: Plan, own: Path, tmp_path: Path) -> None:
    shutil.rmtree(prepared.folder("digits", own))
    prepared.prepare("digits", own)
    assert "was trained on other data than " in refusal(pack, planted, own, tmp_path / "a.tar")


def test_recorded_results_are_not_packed_again(planted: Plan, rebuilt: Path, tmp_path: Path) -> None:
    assert "holds recorded results" in refusal(pack, planted, rebuilt, tmp_path / "a.tar")


def test_adoptions_of_other_code_are_packed(planted: Plan, own: Path, tmp_path: Path) -> None:
    from rdp.store import adoptions
    from rdp.utils import digest

    spec, store, stack = planted.cells[0].specs[0], Store(own), {"device": "a machine"}
    made_by_other_code(own, spec, stack=digest.of(stack))
    content = {"old": "f" * 64, "new": fingerprint.code_of(spec), "runs": [{}], "commit": None, "when": ""}
    path = adoptions.write(store.root, content | {"stack": stack})
    adoptions.write(store.root, content | {"stack": stack, "old": "a" * 64})  # of no record
    archive = pack(planted, own, tmp_path / "planted.tar")
    assert archive.manifest.missing == {}
    rebuild(archive, tmp_path / "rebuilt")
    (kept,) = (Store(tmp_path / "rebuilt").root / adoptions.FOLDER).iterdir()
    assert (kept.name, kept.read_bytes()) == (path.name, path.read_bytes())
