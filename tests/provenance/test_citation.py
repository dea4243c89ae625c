"""CITATION.cff conforms to its format and agrees with the project."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "standards" / "citation-file-format-1.2.0.json").read_text())


@pytest.fixture
def citation() -> dict[str, Any]:
    # Dates and numbers that are not quoted are texts to the format.
    return yaml.load((ROOT / "CITATION.cff").read_text(), yaml.SafeLoader)


def test_it_conforms_to_the_schema(citation: dict[str, Any]) -> None:
    assert citation["cff-version"] == "1.2.0"
    jsonschema.Draft7Validator(SCHEMA).validate(citation)


def test_the_schema_rejects_faults(citation: dict[str, Any]) -> None:
    for broken in ({"authors": []}, {"license": "Apache"}, {"versions": "1"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft7Validator(SCHEMA).validate(citation | broken)


def test_version_and_licence_are_the_projects(citation: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_both_papers_are_cited_as_claims_and_readme_name_them(citation: dict[str, Any]) -> None:
    claims = yaml.safe_load((ROOT / "config/claims.yaml").read_text())["claims"].values()
    cited = {r["identifiers"][0]["value"]: r for r in citation["references"]}
    sources = {claim["source"].get("paper") for claim in claims} - {None}
    assert set(cited) == {f"arXiv:{paper}" for paper in sources}
    readme = (ROOT / "README.md").read_text()
    for number, reference in cited.items():
        assert f"arxiv.org/abs/{number.removeprefix('arXiv:')}" in readme
        assert reference["title"].partition(":")[0] in readme


def test_it_has_no_invented_identifiers(citation: dict[str, Any]) -> None:
    """The only identifiers are the papers' numbers: no DOI, ORCID or address exists."""
    text = (ROOT / "CITATION.cff").read_text().lower()
    assert not [word for word in ("doi", "orcid", "http", "email") if word in text]
