"""External names cannot leave a directory, reach a shell or control a terminal. Odd valid names work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rdp import cli, study
from rdp.data import prepared
from rdp.tables import collect
from rdp.utils import paths
from tests.damage.conftest import refusal

ROOT = Path(__file__).parents[2]
TINY = """
title: Tiny
seeds: 1
methods:
  vanilla:
grids:
  - {datasets: [spiral], architectures: [mlp8], recipe: {epochs: 1, batch_size: 50}}
"""
HOSTILE = {
    "climbing": "../x",
    "absolute": "/tmp/x",
    "home": "~/x",
    "space": "a b",
    "quote": "it's",
    "quotes": 'a"b',
    "command": "x; touch HACKED",
    "substitution": "$(touch HACKED)",
    "backticks": "`touch HACKED`",
    "pipe": "x | touch HACKED",
    "line": "x\ntouch HACKED",
    "return": "x\rvanilla",
    "escape": "x\x1b[2J",
    "braces": "{0.__class__}",
    "wildcard": "*",
    "dash": "-x",
    "empty": "",
    "long": "a" * 5000,
    "look-alike": "v\u0430nilla",
    "decomposed": "e\u0301",
    "right to left": "\u202equick",
    "mark": "qui\u200fck",
    "half a pair": "x\udcff",
    "markup": "[/red]",
}
OFTEN = {"climbing", "command", "line", "right to left"}  # tried in every run of the tests
hostile = pytest.mark.parametrize(
    "name",
    [pytest.param(n, id=kind, marks=[] if kind in OFTEN else pytest.mark.slow) for kind, n in HOSTILE.items()],
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, in a folder that would show what left it, with a study in it and nothing else."""
    folder = tmp_path / "around" / "here"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(folder)
    for name in ("RDP_RESULTS", "RDP_DATA", "RDP_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RDP_OFFLINE", "1")
    return folder


def files_around(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*"))


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """What the command prints that is refused: one line that a terminal shows as it is."""
    monkeypatch.setattr(sys, "argv", ["rdp", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (2, "")
    line = said.err.removesuffix("\n")
    assert line.isprintable()
    assert line.startswith("rdp: ")
    assert len(line) < 2100
    return line


@hostile
@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--", "NAME"],
        ["train", "--", "NAME"],
        ["train", "tiny.yaml", "--", "NAME"],
        ["train", "tiny.yaml", "--", "NAME.json"],
        ["probe", "tiny.yaml", "--", "NAME"],
        ["plot", "tiny.yaml", "--", "NAME"],
        ["data", "prepare", "--", "NAME"],
        ["unpack", "--", "NAME"],
    ],
    ids=["study", "study to train", "run", "receipt", "probe", "figure", "dataset", "archive"],
)
def test_an_invalid_name_is_rejected_in_one_line_and_leaves_no_file(
    command: list[str], name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_around(here)
    if "plot" in command:  # tables come before figures
        collect.write(study.load("tiny.yaml"), Path("results"))
        before = files_around(here)
    refused(monkeypatch, capsys, *[word.replace("NAME", name) for word in command])
    assert files_around(here) == before


@hostile
def test_a_study_file_with_an_invalid_name_is_rejected(name: str, here: Path) -> None:
    said = refusal(study.load, f"{name}.yaml")
    assert said is not None
    assert said.isprintable()
    if "/" not in name and name.isprintable() and len(name) < 200:
        (here / f"{name}.yaml").write_text(TINY)
        assert "file name may hold a-z, 0-9 and _" in refusal(study.load, f"{name}.yaml")


@pytest.mark.parametrize("name", sorted(study.RESERVED_NAMES))
def test_a_study_name_cannot_be_that_of_another_results_folder(name: str, here: Path) -> None:
    (here / f"{name}.yaml").write_text(TINY)
    assert refusal(study.load, f"{name}.yaml") == (
        f"{name}.yaml: the name {name} is reserved: results/{name} holds something else"
    )


@hostile
@pytest.mark.parametrize(
    ("key", "old"),
    [("label", "  vanilla:"), ("architecture", "[mlp8]"), ("dataset", "[spiral]")],
    ids=["label", "architecture", "dataset"],
)
def test_a_study_that_uses_an_invalid_name_is_rejected(key: str, old: str, name: str, here: Path) -> None:
    quoted = json.dumps(name)  # which is YAML too
    new = f"  {quoted}: {{method: vanilla}}" if key == "label" else f"[{quoted}]"
    (here / "tiny.yaml").write_text(TINY.replace(old, new))
    said = refusal(study.load, "tiny.yaml")
    assert said.startswith("tiny.yaml: ")
    assert said.isprintable()


@pytest.mark.parametrize("variable", ["RDP_RESULTS", "RDP_DATA"])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("out\nput", r"out\nput: a path must not contain control characters"),
        ("out\x1b[2J", "control characters"),
        ("out\udcff", "control characters"),
        ("a" * 300, "cannot be used (File name too long)"),
        ("a/" * 2000, "cannot be used (File name too long)"),
    ],
    ids=["line", "escape", "bytes", "long", "long path"],
)
def test_an_impossible_directory_is_rejected_before_any_work(
    variable: str, value: str, told: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert told in refusal(paths.results if variable == "RDP_RESULTS" else paths.datasets)
    assert files_around(here) == ["here", "here/tiny.yaml"]


def test_a_directory_with_an_odd_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for name in HOSTILE.values() if name and name.isprintable() and len(name) < 200):
        monkeypatch.setenv("RDP_RESULTS", str(tmp_path / "results" / name.strip("/")))
        prepared.prepare("spiral", paths.results())
        assert prepared.load("spiral", paths.results()).name == "spiral"
    assert not list(tmp_path.rglob("HACKED"))


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder), "RDP_OFFLINE": "1"}
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2", *arguments]
    return subprocess.run(command, cwd=folder, env=env | environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("results", "file", "told"),
    [
        ("out{x}", "tiny.yaml", "out{x}: Snakemake takes braces for wildcards"),
        ("{STUDY}", "tiny.yaml", "{STUDY}: Snakemake takes braces for wildcards"),
        ("out", "in{x}/tiny.yaml", "in{x}/tiny.yaml: Snakemake takes braces for wildcards"),
        ("out\nput", "tiny.yaml", r"out\nput: a path must not contain control characters"),
        ("a" * 300, "tiny.yaml", "cannot be used (File name too long)"),
        ("out", "../../../etc/passwd", "no study '../../../etc/passwd'"),
        ("out", "x; touch HACKED", "no study 'x; touch HACKED'"),
        ("out", "$(touch HACKED).yaml", "no such study file"),
        ("out", "store.yaml", "the name store is reserved"),
    ],
    ids=["braces", "variable", "study in braces", "line", "long", "climbing", "command", "substitution", "taken"],
)
def test_snakemake_rejects_impossible_directories_before_planning(
    results: str, file: str, told: str, here: Path
) -> None:
    (here / "in{x}").mkdir()
    for other in ("in{x}/tiny.yaml", "store.yaml"):
        (here / other).write_text(TINY)
    before = files_around(here)
    done = snakemake(here, "-n", "--config", f"study={file}", RDP_RESULTS=results)
    assert done.returncode != 0
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [name for name in files_around(here) if ".snakemake" not in name and ".cache" not in name] == before


ODD = 'it\'s "odd"; touch HACKED $(touch HACKED) `touch HACKED` & caf\u00e9 [a]#!%'


@pytest.mark.slow
def test_odd_directories_work_from_training_to_the_report(here: Path) -> None:
    folder = here / f"in {ODD}"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY)
    config = [f"study={folder.name}/tiny.yaml", f"results=out {ODD}"]
    done = snakemake(here, "--config", *config)
    assert done.returncode == 0, done.stdout + done.stderr
    made = here / f"out {ODD}"
    assert (made / "tiny" / "report" / "index.html").is_file()
    assert (made / "tiny" / "report" / "paper.pdf").is_file()
    assert len(list(made.glob("store/*/seed-0000.json"))) == 1
    again = snakemake(here, "-n", "--config", *config)
    assert "Nothing to be done" in again.stdout + again.stderr
    assert not list(here.parent.rglob("HACKED"))
    found = {path.name for path in here.iterdir()} - {".snakemake", ".cache", ".config"}
    assert found == {"tiny.yaml", folder.name, made.name}


@pytest.mark.slow
@pytest.mark.parametrize("results", ["-x", ".", "./out//x/../", "*?"])
def test_directories_that_look_like_something_else_work(results: str, here: Path) -> None:
    (here / "-in").mkdir()
    (here / "-in" / "tiny.yaml").write_text(TINY)
    done = snakemake(here, "--until", "collect_records", "--config", "study=-in/tiny.yaml", RDP_RESULTS=results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / results / "tiny" / "records.parquet").is_file()


@pytest.mark.slow
def test_an_empty_results_directory_means_the_default(here: Path) -> None:
    """And not the root of the file system."""
    done = snakemake(here, "--summary", "--config", "study=tiny.yaml", "results=")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/tiny/records.parquet" in done.stdout + done.stderr


def test_every_external_word_in_a_rule_is_quoted() -> None:
    """Wildcards are held to a-z, 0-9, _ and -, threads and GPUs are numbers; all else has :q."""
    safe = {"wildcards.cell", "wildcards.probe", "wildcards.dataset", "threads", "resources.gpu"}
    lines = [
        line.strip()
        for file in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
        for line in file.read_text().splitlines()
        if re.match(r"""\s*['"]rdp """, line)
    ]
    assert len(lines) >= 9
    for line in lines:
        words = set(re.findall(r"\{(.*?)\}", line))
        assert all(word.endswith(":q") or word in safe for word in words), line
        assert set(re.findall(r"\$\w+|.\$\w+.", line)) <= {'"$RDP_STUDY"', '"$RDP_RESULTS"'}, line
