"""Stores of earlier versions are read by this one, and those of later versions refused by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rdp.archive import bundle
from rdp.cli import status_view
from rdp.errors import UserError
from rdp.store import Store, adoptions
from rdp.store.record import EarlierRecord
from rdp.study.states import states
from rdp.tables import collect
from rdp.utils import digest, files, schemas
from rdp.utils.schemas import Kind
from tests.archive.conftest import contents, refusal

ROOT = Path(__file__).parents[2]


def first_form(results: Path) -> None:
    """Rewrite a store's JSON as the first version wrote it: no seals, and receipts that say four things."""
    for path in results.glob("store/*/seed-*/record.json"):
        content = files.read_json(path)
        del content["seal"]
        files.write_json(path, content)
    for path in results.glob("store/*/seed-*.json"):
        content = files.read_json(path)
        content["record"] = digest.of_file(path.with_suffix("") / "record.json")
        files.write_json(path, {name: content[name] for name in ("run", "status", "digest", "record")})


@pytest.mark.parametrize("first", [False, True], ids=["the last before receipts had a schema", "the first"])
def test_tables_come_out_of_an_earlier_store_which_stays_as_it_is(first, plan, before, monkeypatch):
    if first:
        first_form(before)
    kept = contents(before / "store")
    found = {spec.run: state for spec, state in states(plan, before, verify=True)}
    assert [found[spec.run].status for spec in plan.specs] == ["completed", "diverged"]
    assert [found[spec.run].status for spec in plan.sweep.values()] == ["completed"] * 2
    assert "not finite" in found[plan.cells[1].specs[0].run].reason
    table = collect.write(plan, before)
    _, history, sweep = collect.read(plan.name, before)
    assert table["test_accuracy"].tolist()[0] == 0.568
    assert table["accuracy"].tolist() == [0.568, 0.5]  # chance, for the one that diverged
    assert table["seconds"].gt(0).all()
    assert history["train_loss"].round(4).tolist() == [2.0991, 1.1204]
    assert sweep["chosen"].tolist() == [False, True]
    shown = list(status_view.tables(status_view.read(plan, before)))
    assert [len(table.rows) for table in shown] == [4, 1]  # the grid, and a note of what diverged
    assert contents(before / "store") == kept


def test_an_earlier_receipt_tells_what_this_one_needs(before, plan):
    store, spec = Store(before), plan.cells[0].specs[0]
    sealed = store.glance(spec.run)
    assert (sealed["schema"], sealed["stack"]) == (2, None)
    first_form(before)
    first = store.glance(spec.run)
    assert {**first, "record": ""} == {**sealed, "record": ""}
    store.write_receipt(spec.run, store.read(spec.run))
    assert store.glance(spec.run)["stack"] == store.read(spec.run).identity["stack"]


def later(path: Path) -> None:
    content = files.read_json(path)
    content.pop("seal", None)
    files.write_json(path, digest.seal(content | {"schema": 7}))


@pytest.mark.parametrize("what", ["record", "receipt"])
def test_a_record_or_receipt_of_a_later_version_is_refused_by_name(what, plan, before):
    store, spec = Store(before), plan.cells[0].specs[0]
    path = store.receipt(spec.run) if what == "receipt" else store.folder(spec.run) / "record.json"
    later(path)
    if what == "record":
        said = refusal(store.read, spec.run)
        assert "made by a later version of rdp" in said
        assert said.startswith(f"{path}: schema 7 of a record")
        content = files.read_json(store.receipt(spec.run))
        content.pop("seal")
        files.write_json(store.receipt(spec.run), digest.seal(content | {"record": digest.of_file(path)}))
    state = {other.run: state for other, state in states(plan, before, verify=True)}[spec.run]
    assert state.status == "damaged"
    assert f"{path}: schema 7 of a {what}, made by a later version of rdp" in state.reason
    row = collect.collect(plan, before)[0].set_index("run").loc[spec.run]
    assert row["status"] == "missing"
    assert "later version" in row["reason"]


def test_a_bundle_of_a_later_version_is_refused_by_name(tmp_path):
    folder = Path(shutil.copytree(ROOT / "results/recorded/cifar_cpu", tmp_path / "bundle"))
    later(folder / bundle.MANIFEST)
    assert "schema 7 of a bundle, made by a later version of rdp" in refusal(bundle.load, folder)


def test_an_adoption_of_a_later_version_is_refused_by_name(tmp_path):
    content = {"old": "a" * 64, "new": "b" * 64, "stack": {}, "runs": [{}], "commit": None, "when": ""}
    path = adoptions.write(tmp_path, content)
    later(path)
    assert "schema 7 of an adoption, made by a later version" in refusal(adoptions.read, path)


def test_a_record_of_an_earlier_schema_keeps_the_digest_that_others_know_it_by(plan, before, monkeypatch):
    """As it will be when the record's schema is raised: read in the form of today, verified in its own."""
    store, spec = Store(before), plan.cells[0].specs[0]
    stated = files.read_json(store.receipt(spec.run))["digest"]

    def step(content, beside):
        numbers = content["numbers"] | {"test_error": 1 - content["numbers"]["test_accuracy"]}
        return content | {"numbers": numbers, "schema": 2}

    monkeypatch.setattr(schemas, "RECORD", replace(schemas.RECORD, schema=2, steps={1: step}))
    monkeypatch.setattr("rdp.store.record.SCHEMA", 2)
    record = store.received(spec.run)
    assert isinstance(record, EarlierRecord)
    assert record.digest == stated
    assert record.schema == 2
    assert record.numbers["test_error"] == pytest.approx(0.432)
    path = store.folder(spec.run) / "record.json"
    path.write_text(path.read_text().replace("0.568", "0.569"))
    assert str(path) in refusal(store.read, spec.run)


def test_steps_are_taken_in_order_and_what_is_no_schema_is_damage():
    steps = {n: lambda content, beside, n=n: content | {"schema": n + 1, "went": [*content["went"], n]} for n in (1, 2)}
    kind = Kind("a thing", 3, steps)
    path = Path("a.json")
    assert kind.present(path, {"schema": 1, "went": []}) == {"schema": 3, "went": [1, 2]}
    assert kind.present(path, {"schema": 3, "went": []}) == {"schema": 3, "went": []}
    for schema in (0, -1, None, "2", 2.0, True):
        with pytest.raises(UserError, match=r"a\.json: damaged: .* is no schema of a thing"):
            kind.check(path, {"schema": schema})
    assert json.dumps(kind.present(path, {"schema": 2, "went": []})) == '{"schema": 3, "went": [2]}'
