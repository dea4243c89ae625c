"""Validation, schema and digests of the claims file."""

import json
from pathlib import Path

import pytest
import yaml

from rdp.claims import model
from rdp.errors import UserError
from rdp.utils import extensions, paths

CONTENT = yaml.safe_load(paths.claims().read_text(encoding="utf-8"))


def write(folder: Path, change) -> Path:
    content = json.loads(json.dumps(CONTENT))
    change(content)
    (folder / "claims.yaml").write_text(json.dumps(content), encoding="utf-8")
    return folder / "claims.yaml"


def part(content: dict) -> dict:
    return content["claims"]["PNNH-5"]["parts"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(claim=1), "claim: unknown key"),
        (lambda c: c["claims"]["RDP-1"].pop("tests"), "claims.RDP-1.tests"),
        (lambda c: c["claims"].update({"rdp one": c["claims"]["RDP-1"]}), "rdp one"),
        (lambda c: c["confirmatory"].append("digit"), "confirmatory: unknown name 'digit'; did you mean 'digits'"),
        (lambda c: c["claims"]["RDP-5"]["source"].update(paper="2411.09475"), "give either a paper or ours: true"),
        (lambda c: c["claims"]["RDP-1"]["source"].pop("place"), "name the place in the paper"),
        (lambda c: part(c).update(metric="acuracy"), "metric: unknown name 'acuracy'; did you mean 'accuracy'"),
        (lambda c: part(c).update(method="pnhn"), "method: unknown name 'pnhn'; did you mean 'pnnh'"),
        (lambda c: part(c).update(margin=0), "margin: must be above 0 for the direction within"),
        (lambda c: part(c).update(negligible=0.5), "negligible: applies to the directions above and below"),
        (lambda c: part(c).pop("against"), "against: missing; accuracy is compared with another method's"),
        (lambda c: part(c).update(direction="near"), "direction"),
        (lambda c: c["claims"]["PNNH-5"].update(families=["resnets"]), "families: unknown name 'resnets'"),
        (lambda c: c["claims"]["PNNH-5"].update(parts=[]), "parts"),
        (lambda c: c["claims"]["PNNH-5"].update(minimum_seeds=1), "minimum_seeds"),
        (lambda c: part(c).update(condition=True), "claims.PNNH-5: parts: the first part is a condition"),
        (lambda c: c["claims"]["RDP-3"]["beside"][0].update(condition=True), "beside: a condition belongs to parts"),
        (lambda c: c["claims"]["RDP-3"]["parts"][1].update(condition=""), "claims.RDP-3.parts[1].condition"),
        (lambda c: c["claims"]["RDP-3"]["parts"][1].update(condition=3), "claims.RDP-3.parts[1].condition"),
    ],
)
def test_an_error_is_one_line_that_names_its_place(change, message, tmp_path):
    file = write(tmp_path, change)
    with pytest.raises(UserError) as error:
        model.load(file)
    text = str(error.value)
    assert text.startswith(f"{file}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a list", "a mapping of keys, found list"), ("a: [", "not readable as YAML"), ("a: 1\na: 2", "duplicate key")],
)
def test_a_file_that_is_no_mapping_is_named(text, message, tmp_path):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        model.load(tmp_path / "claims.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"claims\.yaml: cannot be read"):
        model.load(tmp_path / "claims.yaml")


def more(folder: Path, **content) -> Path:
    """A file of claims beside those of the project, in a working directory."""
    path = folder / "extensions" / "claims" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_users_claims_are_added_and_change_no_other(tmp_path, monkeypatch):
    before, mine = model.load(), CONTENT["claims"]["PNNH-5"]
    more(tmp_path, claims={"MINE-1": mine})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extensions, "folders", extensions.folders.__wrapped__)
    found = model.load()
    assert list(found.claims) == [*before.claims, "MINE-1"]
    assert {name: found.digest(name) for name in before.claims} == {n: before.digest(n) for n in before.claims}
    assert found.digest("MINE-1") == before.digest("PNNH-5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"claims": {"RDP-1": CONTENT["claims"]["RDP-1"]}}, "claims.RDP-1: another file defines this claim"),
        ({"claims": CONTENT["claims"], "confirmatory": ["digits"]}, "confirmatory: unknown key"),
        ({"claims": {}}, "claims: "),
    ],
)
def test_an_error_in_the_users_claims_names_its_place(content, message, tmp_path, monkeypatch):
    mine = more(tmp_path, **content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extensions, "folders", extensions.folders.__wrapped__)
    with pytest.raises(UserError) as error:
        model.load()
    assert str(error.value).startswith(f"{mine}: {message}")


def test_the_schema_is_that_of_the_code():
    committed = json.loads((paths.claims().parent / "claims.schema.json").read_text(encoding="utf-8"))
    assert committed == model.json_schema()


def changed(folder: Path, change) -> set[str]:
    """The claims of which a change of the file changes the digest."""
    before, after = model.load(), model.load(write(folder, change))
    return {name for name in before.claims if before.digest(name) != after.digest(name)}


def test_the_digest_depends_on_the_claim(tmp_path):
    assert changed(tmp_path, lambda c: part(c).update(margin=2.0)) == {"PNNH-5"}
    assert changed(tmp_path, lambda c: c["claims"]["PNNH-5"].update(minimum_seeds=4)) == {"PNNH-5"}
    assert changed(tmp_path, lambda c: c["claims"]["PNNH-5"].update(minimum_seeds=model.MINIMUM_SEEDS)) == set()


def test_the_digest_depends_on_the_confirmatory_datasets(tmp_path):
    assert changed(tmp_path, lambda c: c["confirmatory"].append("digits")) == set(model.load().claims)


def test_the_twelve_claims_of_the_design_are_there():
    names = [f"RDP-{i}" for i in range(1, 6)] + [f"PNNH-{i}" for i in range(1, 8)]
    assert list(model.load().claims) == names
