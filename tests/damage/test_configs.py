"""A damaged study or claims file is rejected in one line, or plans the same runs, or runs with other names."""

from pathlib import Path
from typing import Any

import pytest

from rdp import study
from rdp.claims import model
from rdp.utils import paths
from tests.damage.conftest import HARMLESS, NAMED, refusal

STUDY = """
title: {title}
seeds: {seeds}
methods:
  vanilla:
  droppath: {{rate: {rate}}}
grids:
  - {{datasets: [spiral], architectures: [{architecture}], recipe: {{epochs: {epochs}, batch_size: 50}}}}
"""
GOOD = {"title": "Small", "seeds": "1", "rate": "0.1", "architecture": "mlp8", "epochs": "1"}


@pytest.mark.parametrize("name", ["quick", "rdp", "pnnh", "pnnh_ablation"])
def test_a_damaged_study_gives_no_run_the_name_of_another(name: str, tmp_path: Path, try_damages: Any) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_bytes(paths.studies()[name].read_bytes())
    runs = {spec.run: spec for spec in study.load(str(path)).specs}

    def look() -> str:
        said = refusal(study.load, str(path))
        if said is not None:
            assert said.startswith(f"{path}: ")
            return NAMED
        for spec in study.load(str(path)).specs:
            assert spec.run not in runs or spec == runs[spec.run]
        return HARMLESS

    try_damages(path, 50, look)


def test_a_damaged_claim_has_another_digest(tmp_path: Path, try_damages: Any) -> None:
    path = tmp_path / "claims.yaml"
    path.write_bytes(paths.claims().read_bytes())
    whole = model.load(path)

    def look() -> str:
        said = refusal(model.load, path)
        if said is not None:
            assert said.startswith(f"{path}: ")
            return NAMED
        found = model.load(path)
        for claim, content in found.claims.items():
            if claim in whole.claims and found.digest(claim) == whole.digest(claim):
                assert content == whole.claims[claim]
                assert set(found.confirmatory) == set(whole.confirmatory)
        return HARMLESS

    try_damages(path, 60, look)


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("title", "2001-99-99", "not a value"),
        ("seeds", "0x_", "not a value"),
        ("seeds", "!!bool maybe", "not a value"),
        ("title", "!!timestamp soon", "not a value"),
        ("seeds", "9" * 5000, "not a value"),
        ("epochs", "1" * 400, "a number too large"),
        ("seeds", "010", "010, which YAML reads as 8; write the number that is meant"),
        ("epochs", "1:30", "1:30, which YAML reads as 90"),
        ("epochs", "yes", "grids[0].recipe.epochs: a number is needed, found a truth value"),
        ("rate", "off", "methods.droppath.rate: a number is needed, found a truth value"),
        ("seeds", "1e3", "seeds: an integer greater than or equal to 1, or a list of seeds, found '1e3'"),
        (
            "architecture",
            "2024_10",
            "2024_10, which YAML reads as 202410; write the number that is meant, or put a text",
        ),
        ("seeds", "2020202020", "seeds: 2,020,202,020 of 2 cells are too many runs"),
        ("seeds", "[4294967296]", "seeds"),
        ("title", r'"\ud800"', "control characters"),
        ("title", r'"\e[2J"', "control characters"),
        ("architecture", r'"mlp8\0"', "control characters"),
        ("architecture", r'"mlp8\n"', r"unknown name 'mlp8\n'; did you mean 'mlp8'?"),
        ("architecture", r'"\u202Emlp8"', r"unknown name '\u202emlp8'; did you mean 'mlp8'?"),
        ("architecture", "../mlp8", "unknown name '../mlp8'"),
        ("architecture", "ml\u0440\u0038", "unknown name"),  # of Cyrillic letters
        ("architecture", "[" * 1000, "nested too deeply"),
        ("rate", "&a [*a]", "methods.droppath.rate"),
        ("rate", "&a [0, 0, 0, 0]\n  # *a" + "x" * 9, "not readable as YAML"),
        ("rate", "!!python/object/apply:os.system [touch executed]", "not readable as YAML"),
    ],
)
def test_a_wrong_yaml_type_gives_one_line(
    key: str, text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(STUDY.format(**GOOD | {key: text}))
    said = refusal(study.load, "small.yaml")
    assert said.startswith("small.yaml: ")
    assert told in said
    assert len(said) <= 2100
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_wrong_value_is_quoted_in_brief(tmp_path: Path) -> None:
    """Ten times ten times ... of a word: written out, it would fill the memory."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    path = tmp_path / "small.yaml"
    path.write_text("title:\n" + "".join(f"  {line}\n" for line in lines))
    assert "title: input should be a valid string, found {" in refusal(study.load, str(path))


def test_the_number_of_runs_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY.format(**GOOD | {"seeds": "50001"}))
    assert "the maximum is 100,000" in refusal(study.load, str(path))
    path.write_text(STUDY.format(**GOOD | {"seeds": "1000"}))
    assert len(list(study.load(str(path)).specs)) == 2000
