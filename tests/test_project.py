"""The files of the project agree with each other."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

from rdp import study
from rdp.provenance import products

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "envs/requirements.lock").read_text()


def locked() -> dict[str, list[str]]:
    """Versions in the lock by package; more than one where they depend on the platform."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, re.M):
        found.setdefault(name, []).append(version)
    return found


def test_the_lock_satisfies_what_pyproject_asks_for() -> None:
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    for text in wanted + PYPROJECT["dependency-groups"]["dev"]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:  # an extra that holds another one
            continue
        versions = locked().get(requirement.name, [])
        assert versions, f"{requirement.name} is not in envs/requirements.lock; run: make lock"
        for version in versions:
            assert requirement.specifier.contains(version), f"{text}: the lock has {version}; run: make lock"


def test_the_wheel_contains_the_sources_of_a_research_object() -> None:
    inside = {str(path.resolve().relative_to(ROOT)) for path in products.sources(study.load("quick")).values()}
    assert {"Snakefile", "LICENSE", "CITATION.cff"} < inside
    packed = tuple(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert [path for path in inside if not any(f"{path}/".startswith(f"{whole}/") for whole in packed)] == []


def test_every_locked_package_has_a_hash_and_no_address() -> None:
    entries = [entry for entry in re.split(r"\n(?=\S)", LOCK.strip()) if entry]
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"^[a-z0-9._-]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in LOCK


def test_this_environment_is_the_locked_one() -> None:
    freeze = [sys.executable, "-m", "uv", "pip", "list", "--format", "freeze", "--python", sys.executable]
    listed = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    installed = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    del installed[PYPROJECT["project"]["name"]]
    for name, version in installed.items():
        assert version in locked().get(name, []), f"{name} {version} is not in the lock"


def test_conda_and_container_install_the_lock() -> None:
    python = PYPROJECT["project"]["requires-python"]
    assert f"python {python}" in (ROOT / "envs/rdp.yaml").read_text()
    assert f"From: python:{python.removeprefix('>=')}" in (ROOT / "envs/rdp.def").read_text()
    for recipe in ("envs/rdp.post-deploy.sh", "envs/rdp.def"):
        text = (ROOT / recipe).read_text()
        assert "--require-hashes --requirement envs/requirements.lock" in text
        assert "--no-deps --no-build-isolation" in text
        assert not re.search(r"[a-z]==\d", text), f"{recipe}: versions belong in the lock alone"


def test_the_container_has_the_files_of_a_wheel() -> None:
    section = (ROOT / "envs/rdp.def").read_text().partition("%files")[2].partition("\n\n")[0]
    placed = dict(line.split() for line in section.strip().splitlines())  # Apptainer takes a source and a place a line
    assert placed == {source: f"/opt/rdp/{source}" for source in placed}
    packed = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    # One by one, since the image itself lies beside them.
    envs = {f"envs/{path.name}" for path in (ROOT / "envs").iterdir() if path.suffix != ".sif"}
    assert set(placed) == {*packed, "rdp", "pyproject.toml", PYPROJECT["project"]["readme"], *envs} - {"envs"}


def test_rules_name_the_environment() -> None:
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        rules = re.findall(r"^ *rule\b.*?(?=^ *rule\b|\Z)", path.read_text(), re.M | re.S)
        for rule in rules:
            assert "../../envs/rdp.yaml" in rule, f"{path.name}: {rule.splitlines()[0]}"
            assert "log:" in rule


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {PYPROJECT['project']['version']}\n" in citation
    assert f"license: {PYPROJECT['project']['license']}\n" in citation
