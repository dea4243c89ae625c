"""What is packed, what comes of it on another machine, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdp import tables
from rdp.archive import bundle, packing, unpacking
from rdp.archive.bundle import Bundle
from rdp.claims import verdict_json
from rdp.claims.evidence import Records
from rdp.data import prepared
from rdp.jobs import tuning
from rdp.report import facts
from rdp.spec import RunSpec
from rdp.store import Store, adoptions, fingerprint, origin
from rdp.study import Plan, states
from rdp.tables import collect, measurements
from rdp.utils import digest
from tests.claims.conftest import AS_CLAIMED
from tests.damage.conftest import refusal
from tests.helpers.planting import EXAMPLES, plant_run

SAME = ("records.parquet", "history.parquet", "sweep.parquet", "speed.parquet", "claims.json")


@pytest.fixture
def rebuilt(packed: Bundle, plan: Plan, tmp_path: Path) -> Path:
    """A results directory that the bundle was unpacked into."""
    results = tmp_path / "rebuilt"
    unpacking.write(packed, bundle.plan(packed, str(packed.study_file)), results)
    return results


def test_tables_and_verdicts_are_those_of_the_machine_that_trained(
    packed: Bundle, plan: Plan, results: Path, rebuilt: Path
) -> None:
    again = bundle.plan(packed, str(packed.study_file))
    collect.write(again, rebuilt)
    verdict_json.write(tables.load(again, rebuilt))
    for name in (*SAME, *(f"probes/{probe}.parquet" for probe in plan.study.probes)):
        assert (rebuilt / plan.name / name).read_bytes() == (results / plan.name / name).read_bytes(), name
    # The runs of 2020 are older than any text.
    assert verdict_json.read(plan.name, rebuilt)["claims"][0]["runs_before_it"] > 0


def test_packing_again_gives_the_same_bytes(packed: Bundle, plan: Plan, results: Path, tmp_path: Path) -> None:
    again = packing.write(plan, results, tmp_path / "elsewhere")
    assert again.files == packed.files
    assert again.seal == packed.seal
    third = packing.write(plan, results, tmp_path / "elsewhere")  # over the one that is there
    assert third.seal == packed.seal
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_unpacking_again_leaves_nothing_of_what_was_there(packed: Bundle, plan: Plan, rebuilt: Path) -> None:
    left = rebuilt / "store" / "another" / "seed-0000.json"
    left.parent.mkdir()
    left.write_text("{}")
    unpacking.write(packed, plan, rebuilt)
    assert not left.exists()
    assert not list(rebuilt.rglob("weights.safetensors"))
    assert not list(rebuilt.rglob("data.safetensors"))


def test_a_bundle_says_where_its_runs_were_trained(packed: Bundle, plan: Plan) -> None:
    manifest = packed.manifest
    assert manifest["runs"] == {"completed": 12, "diverged": 0, "of sweeps": 24}
    assert [machine["stack"] for machine in manifest["machines"]] == [{"device": "a machine"}]
    assert manifest["machines"][0]["runs"] == 36
    assert manifest["packed_on"]["cores"] >= 1
    assert manifest["packed_on"]["versions"]["torch"]
    assert sum(map(len, manifest["cells"].values())) == 36
    assert bundle.size(packed) < 100_000


def test_recorded_results_are_told_in_sentences_and_others_are_not(
    packed: Bundle, plan: Plan, results: Path, rebuilt: Path
) -> None:
    table = collect.write(plan, rebuilt)
    said = " ".join(facts.recording(plan, table, rebuilt))
    assert "12 runs, and 24 of sweeps" in said
    assert "12 runs on a machine" in said
    assert packed.seal[:12] in said
    assert said.endswith("The training code of this checkout is the one that made them.")
    other = table.assign(code_digest=["f" * 64, *table["code_digest"][1:]])
    assert "is not the one that made 1 of the 12 runs" in facts.recording(plan, other, rebuilt)[-1]
    assert facts.recording(plan, table, results) == []


def made_by_other_code(results: Path, spec: RunSpec, **digests: str) -> None:
    """Put a run's record in the store again, as the code of another commit would have left it."""
    store = Store(results)
    record = store.read(spec.run)
    attempt = store.new_attempt(spec.run)
    for name in record.files:
        shutil.copy2(store.folder(spec.run) / name, attempt)
    other = replace(record, identity=record.identity | {"code": "f" * 64} | digests)
    store.write_receipt(spec.run, store.commit(spec.run, attempt, other))


def test_records_of_other_code_are_read_where_they_are_recorded_and_nowhere_else(plan: Plan, own: Path) -> None:
    spec = plan.cells[0].specs[0]
    made_by_other_code(own, spec)

    def standing() -> str:
        return next(state.status for other, state in states.states(plan, own) if other.run == spec.run)

    assert collect.collect(plan, own)[0]["status"].tolist() == ["missing"] + 11 * ["completed"]
    assert standing() == "stale"
    origin.mark(own, {}, whole=True)
    table, _ = collect.collect(plan, own)
    assert table["status"].eq("completed").all()
    assert table["code_digest"].eq("f" * 64).tolist() == [True] + 11 * [False]
    assert standing() == "completed"


def test_a_bundle_carries_the_adoptions_that_its_records_rest_on(plan: Plan, own: Path, tmp_path: Path) -> None:
    spec, store, stack = plan.cells[0].specs[0], Store(own), {"device": "a machine"}
    made_by_other_code(own, spec, stack=digest.of(stack))
    told = {"old": "f" * 64, "new": fingerprint.code_of(spec), "runs": [{}], "commit": None, "when": ""}
    path = adoptions.write(store.root, told | {"stack": stack})
    adoptions.write(store.root, told | {"stack": stack, "old": "a" * 64})  # of no record
    found = packing.write(plan, own, tmp_path / "bundle")
    results = tmp_path / "rebuilt"
    unpacking.write(found, plan, results)
    (kept,) = (Store(results).root / adoptions.FOLDER).iterdir()
    assert (kept.name, kept.read_bytes()) == (path.name, path.read_bytes())
    table = collect.write(plan, results)
    assert table["adopted"].tolist() == [True] + 11 * [False]
    assert facts.recording(plan, table, results)[-1].startswith("1 run of 12 was made by other training code")


def test_the_test_sets_own_error_comes_from_the_bundle(plan: Plan, results: Path, rebuilt: Path) -> None:
    collect.write(plan, rebuilt)
    ours, theirs = (Records(tables.load(plan, folder)) for folder in (rebuilt, results))
    for cell in plan.cells:
        assert np.array_equal(ours._rights(cell, 1), theirs._rights(cell, 1))
    assert origin.labels("digits", rebuilt).shape == (EXAMPLES,)
    path = origin.labels_file("digits", rebuilt)
    path.write_bytes(path.read_bytes()[:-2] + b"\7\7")
    assert str(path) in refusal(origin.labels, "digits", rebuilt)


def test_a_run_that_is_missing_or_failed_is_named(plan: Plan, own: Path, tmp_path: Path) -> None:
    cell, to = plan.cells[1], tmp_path / "bundle"
    first, second = cell.specs
    Store(own).forget(first.run)
    assert refusal(packing.write, plan, own, to) == (
        f"{plan.name}: 1 of 36 runs cannot be recorded: 1 missing; {first.run}; "
        f"run: snakemake --cores all --config study={plan.name}"
    )
    shutil.rmtree(Store(own).folder(second.run))
    world = replace(AS_CLAIMED, status={(cell.label, second.seed): "failed"})
    plant_run(Store(own), cell, second, world)
    said = refusal(packing.write, plan, own, to)
    assert "2 of 36 runs cannot be recorded: 1 missing, 1 failed; " in said
    assert said.endswith(f"; run: rdp retry {plan.name}, then snakemake --cores all --config study={plan.name}")
    assert not to.exists()


def test_a_damaged_record_or_prediction_is_named(plan: Plan, own: Path, tmp_path: Path) -> None:
    folder = Store(own).folder(plan.cells[0].specs[0].run)
    for name in ("record.json", "predictions.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + b"x" + whole[-8:])
        said = refusal(packing.write, plan, own, tmp_path / "bundle")
        assert "1 of 36 runs cannot be recorded: 1 damaged; " in said
        assert str(path) in said
        path.write_bytes(whole)


def test_runs_of_other_code_are_named(plan: Plan, own: Path, tmp_path: Path) -> None:
    spec = plan.cells[0].specs[0]
    made_by_other_code(own, spec)
    said = refusal(packing.write, plan, own, tmp_path / "bundle")
    told_of = f"1 of 36 runs cannot be recorded: 1 stale; {spec.run} (made by other code than this checkout's)"
    assert said == f"{plan.name}: {told_of}; run: snakemake --cores all --config study={plan.name}"


@pytest.mark.parametrize(
    ("absent", "remedy"),
    [
        ("planted/probes/feature_reuse.parquet", "rdp probe planted feature_reuse"),
        ("planted/speed.parquet", "rdp speed planted"),
        ("store/CELL/tuned.json", "rdp tune planted"),
    ],
)
def test_what_was_not_measured_is_named(absent: str, remedy: str, plan: Plan, own: Path, tmp_path: Path) -> None:
    path = own / absent.replace("CELL", plan.cells[0].id)
    path.unlink()
    said = refusal(packing.write, plan, own, tmp_path / "bundle")
    assert said.startswith(f"{path}: ")
    assert said.endswith(f"run: {remedy}")


def test_a_choice_or_a_probe_of_other_runs_is_named(plan: Plan, own: Path, tmp_path: Path) -> None:
    cell = plan.cells[0]
    table = measurements.read(plan.name, "feature_reuse", own)
    measurements.save(plan.name, "feature_reuse", own, table.assign(run="elsewhere/seed-0000"))
    assert "of runs that are not the study's, first elsewhere/seed-0000" in refusal(
        packing.write, plan, own, tmp_path / "bundle"
    )
    measurements.save(plan.name, "feature_reuse", own, table)
    swept = [Store(own).read(spec.run) for spec in cell.specs[0].candidates()]
    swept.reverse()
    path = tuning.write(cell.specs[0], swept, own)
    assert str(path) in refusal(packing.write, plan, own, tmp_path / "bundle")


def test_data_other_than_those_of_the_runs_are_named(plan: Plan, own: Path, tmp_path: Path) -> None:
    shutil.rmtree(prepared.folder("digits", own))
    prepared.prepare("digits", own)
    assert "was trained on other data than those in" in refusal(packing.write, plan, own, tmp_path / "bundle")


def test_a_folder_of_something_else_is_left_as_it_is(plan: Plan, results: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    assert refusal(packing.write, plan, results, tmp_path) == (
        f"{tmp_path}: holds something else than a bundle; name another place with --to"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_results_of_ones_own_are_not_unpacked_over(packed: Bundle, plan: Plan, own: Path) -> None:
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert refusal(unpacking.write, packed, plan, own) == (
        f"{own}: holds results that are not recorded; name another directory with --to"
    )
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_nor_over_products_alone(packed: Bundle, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "logs" / "unpack.log").parent.mkdir()
    (tmp_path / "logs" / "unpack.log").touch()  # as the workflow begins
    (tmp_path / "claims.json").write_text("{}")
    assert "holds results that are not recorded" in refusal(unpacking.write, packed, plan, tmp_path)
    (tmp_path / "claims.json").unlink()
    unpacking.write(packed, plan, tmp_path)


def test_an_unpacking_that_was_cut_short_is_named(plan: Plan, packed: Bundle, rebuilt: Path) -> None:
    origin.mark(rebuilt, packed.manifest, whole=False)
    assert "not all of the bundle was unpacked" in refusal(origin.origin, rebuilt)
    unpacking.write(packed, plan, rebuilt)
    assert origin.origin(rebuilt)["study"] == plan.name


def test_recorded_results_are_not_packed_again(plan: Plan, rebuilt: Path, tmp_path: Path) -> None:
    assert "holds recorded results" in refusal(packing.write, plan, rebuilt, tmp_path / "bundle")
