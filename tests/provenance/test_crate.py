"""A research object says of every file what it is, and is valid by the profiles that it names."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rdp import study, tables
from rdp.archive import bundle, packing, unpacking
from rdp.claims import verdict_json
from rdp.errors import UserError
from rdp.provenance import crate, products
from rdp.store import Store, origin
from rdp.study import Plan
from rdp.tables import collect
from rdp.utils import extensions, paths
from tests.provenance import validator

# Recommendations that only somebody's name, affiliation or address could meet, of which the records have none.
NOT_MET = {
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The Action SHOULD have an agent that is a Person or Organization",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the `author` of the RO-Crate",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
    "The author SHOULD have an organizational affiliation.",
    "The author SHOULD have a Contextual Entity which specifies the organizational `affiliation`.",
    "The organization SHOULD have a URL.",
}


@pytest.fixture(scope="session")
def packed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's research object. Tests must leave it as it is."""
    results = Path(shutil.copytree(plan.file.parent, tmp_path_factory.mktemp("packed") / "results"))
    return crate.write(plan, results).parent


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(packed, tmp_path / "crate"))


def entities(packed: Path) -> dict[str, dict[str, Any]]:
    """What is described, by its name; each once."""
    graph = json.loads((packed / crate.METADATA).read_text())["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def references(value: Any) -> list[str]:
    return [each["@id"] for each in (value if isinstance(value, list) else [value])]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_described_with_its_checksum_and_no_other(packed: Path) -> None:
    contents = files_of(packed)
    del contents[crate.METADATA]
    described = {name: e for name, e in entities(packed).items() if "File" in e["@type"]}
    assert described.keys() == contents.keys()
    for name, content in contents.items():
        assert described[name]["sha256"] == hashlib.sha256(content).hexdigest(), name
        assert described[name]["contentSize"] == str(len(content)), name
        assert described[name]["encodingFormat"], name
    assert len(references(entities(packed)["./"]["hasPart"])) == len(contents)


def test_the_run_of_the_workflow_made_the_results_from_the_data(packed: Path, plan: Plan) -> None:
    found = entities(packed)
    run, workflow = found["#run"], found["Snakefile"]
    assert run["instrument"] == {"@id": "Snakefile"}
    assert run["startTime"] == run["endTime"] == found["./"]["datePublished"] == "2020-01-01T00:00:00+00:00"
    assert run["actionStatus"] == "http://schema.org/CompletedActionStatus"
    made, used = references(run["result"]), references(run["object"])
    assert {"records.parquet", "claims.json", "report/index.html", "report/paper.pdf", "weights.csv"} <= set(made)
    assert {"report/checklist.html", "figures/accuracy.svg", "tables/cost.csv", "recorded/manifest.json"} <= set(made)
    assert {"data/digits/manifest.json", "#data-digits", "config/studies/planted.yaml"} <= set(used)
    values = [found[name] for name in used if found[name]["@type"] == "PropertyValue"]
    given = {value["name"]: value["value"] for value in values}
    assert given == {"study": "planted", "device": "auto", "records": "trained", "results": "results"}
    for name in (*made, *[name for name in used if not name.startswith("#data")]):
        formal = found[name]["exampleOfWork"]["@id"]
        assert {"@id": formal} in [*workflow["input"], *workflow["output"]], name
        assert name in references(found[formal]["workExample"]), name
    assert found["#data-digits"]["license"] == {"@id": "#licence-digits"}
    assert found["#licence-digits"]["name"] == "CC BY 4.0"
    manifest = json.loads((packed / "data/digits/manifest.json").read_text())
    assert found["#data-digits"]["identifier"] == f"sha256:{manifest['digest']}"
    assert "envs/requirements.lock" in references(workflow["softwareRequirements"])
    language = found[workflow["programmingLanguage"]["@id"]]
    assert f"snakemake=={language['version']} " in (packed / "envs/requirements.lock").read_text()


def test_claims_of_ones_own_are_packed_too(plan: Plan, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results.parent)
    monkeypatch.setattr(extensions, "folders", extensions.folders.__wrapped__)
    mine = Path("extensions/claims/mine.yaml")
    mine.parent.mkdir(parents=True)
    shutil.copyfile(paths.ROOT / "docs/examples/claims.yaml", mine)
    packed = crate.write(plan, results).parent
    assert (packed / mine).read_bytes() == mine.read_bytes()
    used = references(entities(packed)["#run"]["object"])
    assert {"config/claims.yaml", str(mine)} <= set(used)


def test_weights_are_named_and_not_there(packed: Path, plan: Plan) -> None:
    table = pd.read_csv(packed / crate.WEIGHTS)
    store = Store(plan.file.parent)
    for spec in plan.specs:
        rows = table[table["run"] == spec.run]
        assert dict(zip(rows["file"], rows["sha256"], strict=True)) == {
            f"store/{spec.run}/{name}": digest for name, digest in store.read(spec.run).files.items()
        }
    assert not list(packed.rglob("*.safetensors"))


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(plan: Plan, packed: Path, results: Path) -> None:
    assert files_of(crate.write(plan, results).parent) == files_of(packed)
    assert files_of(crate.write(plan, results).parent) == files_of(packed)  # in the place of the first


@pytest.mark.slow
def test_the_report_is_made_again_from_what_is_in_it(packed: Path, tmp_path: Path) -> None:
    """As its README says, with the verdicts and tables that it has."""
    found = bundle.find(str(packed / "recorded/planted.yaml"))
    again = bundle.plan(found, str(found.study_file))
    unpacking.write(found, again, tmp_path)
    collect.write(again, tmp_path)
    verdict_json.write(tables.load(again, tmp_path))
    for name in ("records.parquet", "history.parquet", "sweep.parquet", "claims.json"):
        assert (tmp_path / "planted" / name).read_bytes() == (packed / name).read_bytes(), name
    assert f"rdp unpack recorded/{again.name}.yaml" in (packed / "README.md").read_text()


@pytest.mark.slow
def test_runs_that_failed_are_told_and_leave_no_bundle(plan: Plan, results: Path) -> None:
    lost = list(plan.specs)[1]
    Store(results).remove_receipt(lost.run)
    collect.write(plan, results)
    verdict_json.write(tables.load(plan, results))
    packed = crate.write(plan, results).parent
    run = entities(packed)["#run"]
    assert run["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert "seed 1: missing (not trained yet)" in run["error"]
    assert not (packed / "recorded").exists()
    assert "no bundle" in (packed / "README.md").read_text()
    assert lost.run not in (packed / crate.WEIGHTS).read_text()


@pytest.mark.slow
def test_recorded_results_carry_the_bundle_that_they_came_from(plan: Plan, results: Path, tmp_path: Path) -> None:
    made = packing.write(plan, plan.file.parent, tmp_path / "recorded" / plan.name)
    rebuilt = tmp_path / "rebuilt"
    again = bundle.plan(made, str(made.study_file))
    unpacking.write(made, again, rebuilt)
    shutil.copytree(results / plan.name, rebuilt / plan.name, dirs_exist_ok=True)
    packed = crate.write(again, rebuilt).parent
    assert files_of(packed / "recorded") == files_of(made.folder)
    found = entities(packed)
    assert found["#value-records"]["value"] == "recorded"
    assert "Nothing was trained or measured to make this report." in found["#run"]["description"]
    # Another bundle in its place is not the one that these results came from.
    mark = origin.read(rebuilt)
    origin.write(rebuilt, mark | {"seal_of_bundle": "0" * 64}, complete=True)
    with pytest.raises(UserError, match="is not the bundle that"):
        crate.write(again, rebuilt)


def test_a_crate_is_whole_or_as_it_was(plan: Plan, results: Path) -> None:
    target = crate.write(plan, results).parent
    before = files_of(target)
    drawing = results / plan.name / "figures/accuracy.svg"
    drawing.write_bytes(drawing.read_bytes().replace(b"</svg>", b" </svg>"))
    with pytest.raises(UserError, match=r"accuracy\.svg: damaged .*run: rdp report planted"):
        crate.write(plan, results)
    drawing.unlink()
    with pytest.raises(UserError, match=r"figures/accuracy\.svg: cannot be read .*run: rdp report planted"):
        crate.write(plan, results)
    assert files_of(target) == before
    assert not list(target.parent.glob(".*"))


def test_what_is_no_crate_is_left_alone(plan: Plan, results: Path) -> None:
    mine = results / plan.name / "crate" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(UserError, match="crate: holds something else"):
        crate.write(plan, results)
    assert mine.read_text() == "mine"


def test_without_a_record_there_is_nothing_to_pack(plan: Plan, results: Path) -> None:
    shutil.rmtree(results / "store")
    collect.write(plan, results)
    verdict_json.write(tables.load(plan, results))
    with pytest.raises(UserError, match="planted: no run has left a record yet; first: snakemake --cores all"):
        crate.write(plan, results)


def test_every_product_has_a_format_and_a_kind() -> None:
    for name in paths.studies():
        found = study.load(name)
        for path in (*products.products(found), *products.sources(found)):
            assert "/" in products.encoding(path)


@pytest.mark.slow
def test_the_validator_finds_no_requirement_and_no_other_recommendation_unmet(packed: Path, cache: Path) -> None:
    found = validator.validate(packed, cache, "RECOMMENDED")
    profiles = {"process-run-crate-0.5", "workflow-run-crate-0.5", "workflow-ro-crate-1.0", "ro-crate-1.1"}
    assert profiles <= set(found["statistics"]["profiles"])
    assert found["statistics"]["total_skipped_checks"] == 0
    assert found["statistics"]["total_checks_by_severity"]["REQUIRED"] > 50
    assert [issue for issue in found["issues"] if issue["severity"] == "REQUIRED"] == []
    assert {issue["message"] for issue in found["issues"]} == NOT_MET


def _without(packed: Path, name: str, key: str) -> None:
    path = packed / crate.METADATA
    content = json.loads(path.read_text())
    (entity,) = [entity for entity in content["@graph"] if entity["@id"] == name]
    del entity[key]
    path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["file", "licence", "instrument"])
def test_the_validator_finds_a_fault(copy: Path, cache: Path, fault: str) -> None:
    if fault == "file":
        (copy / "records.parquet").unlink()
    else:
        _without(copy, *{"licence": ("./", "license"), "instrument": ("#run", "instrument")}[fault])
    found = validator.validate(copy, cache)
    assert not found["passed"]
    said = " ".join(issue["message"] for issue in found["issues"])
    expected = {"file": "records.parquet", "licence": "license", "instrument": "instrument"}
    assert expected[fault] in said
