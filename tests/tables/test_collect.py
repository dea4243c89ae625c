"""Collecting a second time: the same tables to the byte, without reading what was read before."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from rdp import study
from rdp.store import Store, fingerprint
from rdp.study import Plan
from rdp.tables import collect
from tests.claims.conftest import AS_CLAIMED as WORLD
from tests.helpers import planting

SMALL = {"probes": [], "speed_rounds": None, "methods": {"vanilla": None, "plain": None}, "seeds": 3}
GRIDS = [{"datasets": ["digits"], "architectures": ["resnet20"]}]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    plan = planting.load(folder, **SMALL, grids=GRIDS)
    planting.plant(plan, folder / "results", WORLD)
    return folder


@pytest.fixture
def folder(planted, tmp_path) -> Path:
    return shutil.copytree(planted, tmp_path / "copy")


@pytest.fixture
def plan(folder) -> Plan:
    return study.load(str(folder / "planted.yaml"))


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often each record was read as JSON."""
    found, read = Counter(), Store.read

    def counted(self, run):
        found[run] += 1
        return read(self, run)

    monkeypatch.setattr(Store, "read", counted)
    return found


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "results" / "planted" / f"{name}.parquet").read_bytes() for name in collect.TABLES}


def afresh(plan: Plan, folder: Path) -> dict[str, bytes]:
    """The tables as they are without any from before."""
    shutil.rmtree(folder / "results" / "planted")
    collect.write(plan, folder / "results")
    return tables(folder)


def spoil(folder: Path, run: str) -> None:
    path = folder / "results" / "store" / run / "record.json"
    path.write_text(path.read_text().replace("completed", "completeD"))


def test_nothing_new_reads_no_record(folder, plan, reads):
    before = tables(folder)
    collect.write(plan, folder / "results")
    assert not reads
    assert tables(folder) == before == afresh(plan, folder)
    assert len(reads) == len(list(plan.specs)) + len(plan.sweep)


def test_a_run_that_was_trained_again_is_the_one_that_is_read(folder, plan, reads):
    store, spec = Store(folder / "results"), plan.cells[1].specs[2]
    shutil.rmtree(store.folder(spec.run))
    world = planting.World(**{**vars(WORLD), "accuracy": {"vanilla": 0.123}})
    planting.plant_run(store, plan.cells[1], spec, world)
    reads.clear()
    table = collect.write(plan, folder / "results")
    assert set(reads) == {spec.run}
    assert table.set_index("run").loc[spec.run, "accuracy"] == pytest.approx(0.123, abs=0.01)
    assert tables(folder) == afresh(plan, folder)


@pytest.mark.parametrize("status", ["diverged", "failed", "missing", "completed"])
def test_what_comes_later_makes_the_tables_that_it_makes_at_once(folder, plan, status, reads):
    """Numbers that are missing make other types of columns."""
    results, spec = folder / "results", plan.cells[0].specs[0]
    store = Store(results)
    shutil.rmtree(store.folder(spec.run))
    store.remove_receipt(spec.run)
    collect.write(plan, results)
    world = planting.World(**{**vars(WORLD), "status": {("vanilla", 0): status}})
    planting.plant_run(store, plan.cells[0], spec, world)
    reads.clear()
    collect.write(plan, results)
    assert set(reads) <= {spec.run}
    assert tables(folder) == afresh(plan, folder)


def test_a_record_that_was_damaged_since_is_named(folder, plan, reads):
    run, swept = plan.cells[0].specs[1].run, next(iter(plan.sweep))
    spoil(folder, run)
    spoil(folder, swept)
    table = collect.write(plan, folder / "results").set_index("run")
    assert table.loc[run, "status"] == "missing"
    assert "damaged" in table.loc[run, "reason"]
    assert set(reads) == {run, swept}
    damaged = tables(folder)
    assert damaged == afresh(plan, folder)


def test_another_label_makes_no_record_be_read(folder, plan, reads):
    content = json.loads((folder / "planted.yaml").read_text())
    content["methods"] = {"baseline": {"method": "vanilla"}, "plain": None}
    (folder / "planted.yaml").write_text(json.dumps(content))
    renamed = study.load(str(folder / "planted.yaml"))
    table = collect.write(renamed, folder / "results")
    assert not reads
    assert set(table["method"]) == {"baseline", "plain"}
    assert tables(folder) == afresh(renamed, folder)


def test_other_code_of_a_cell_is_seen(folder, plan, monkeypatch):
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: "another")
    table = collect.write(plan, folder / "results")
    assert set(table["status"]) == {"missing"}
    assert table["reason"].str.startswith("made by other code").all()


def test_other_code_that_collects_reads_all(folder, plan, reads, monkeypatch):
    monkeypatch.setattr(fingerprint, "package_digest", lambda: "another")
    collect.write(plan, folder / "results")
    assert len(reads) == len(list(plan.specs)) + len(plan.sweep)


@pytest.mark.parametrize("name", collect.TABLES)
def test_damaged_tables_are_made_anew(folder, plan, reads, name):
    before = tables(folder)
    path = folder / "results" / "planted" / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    collect.write(plan, folder / "results")
    assert tables(folder) == before
    assert reads
