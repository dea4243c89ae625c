"""The figure of `rdp bench` shows verified results of this machine and recorded ones."""

from pathlib import Path

import pandas as pd
import pytest

from rdp import bench
from rdp.bench import start, workflow
from rdp.bench.engine import EngineSpeed
from rdp.bench.measuring import Benchmark, Comparison, Ratio, Setting, table
from rdp.errors import UserError
from rdp.report import contents, figures
from rdp.tables import Tables
from rdp.utils import paths


@pytest.fixture
def nothing_recorded(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
    return tmp_path / "project" / "results" / "recorded" / "bench"


def save(folder: Path, name: str = "engine", median: float = 1.25) -> Path:
    """What `rdp bench NAME` leaves in a results directory."""
    ratio = Ratio(median, median - 0.1, median + 0.1)
    rows = [EngineSpeed("resnet20", "sgd", ratio, ratio, 0.01, 0.1, 0.2)]
    compared = [Comparison("resnet20", ratio, least=0.95), Comparison("resnet56", ratio, least=0.85, most=1.15)]
    setting = Setting.of(device="cpu", threads=1, precision="float32", batch_size=64, rounds=20)
    return Benchmark("this over that", rows, table("this over that"), compared).save(name, setting, folder)


def drawn(plan, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The data of the figure, and the texts in it."""
    tables = Tables(plan, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), folder)
    drawing = figures.draw(tables, contents.BENCHMARKS)
    drawing.figure.draw_without_rendering()
    texts = [text.get_text() for axis in drawing.figure.axes for text in [axis.title, axis.xaxis.label, *axis.texts]]
    return drawing.data, texts


def test_what_was_measured_here_and_elsewhere_is_drawn(planted, tmp_path, nothing_recorded) -> None:
    save(tmp_path, median=1.25)
    save(tmp_path, "seeds", median=1.9)
    (nothing_recorded / "other").mkdir(parents=True)
    save(tmp_path / "elsewhere", median=0.75).rename(nothing_recorded / "other" / "engine.json")
    data, texts = drawn(planted, tmp_path)
    assert data["benchmark"].tolist() == ["engine"] * 4 + ["seeds"] * 2
    assert sorted(data["median"]) == [0.75, 0.75, 1.25, 1.25, 1.9, 1.9]
    assert data["machine"].str.contains("1 thread, torch").all()
    assert {"rdp bench engine", "rdp bench seeds", "this over that", "1.25", "0.75", "1.90"} <= set(texts)


def test_seconds_are_drawn_beside_ratios(planted, tmp_path, nothing_recorded) -> None:
    setting = Setting.of(device="cpu", threads=1, precision="float32", batch_size=64, rounds=20)
    starts = [start.Start("resnet20", dict.fromkeys(start.STAGES, 0.5), 10**9)]
    Benchmark("until a job trains", starts, table("x")).save("start", setting, tmp_path)
    grown = [workflow.Growth(runs, 2, *(runs / 100 + place for place in range(5))) for runs in (100, 1000)]
    Benchmark("by runs", grown, table("x")).save("workflow", setting, tmp_path)
    data, texts = drawn(planted, tmp_path)
    assert data["unit"].tolist() == ["seconds"] * 6
    assert data["median"].tolist() == [2.5, 10, 11, 12, 13, 14]  # of the larger study
    assert {"until a job trains", "Seconds, for a study of 1,000\nruns"} <= set(texts)


def test_none_is_no_error(planted, tmp_path, nothing_recorded) -> None:
    data, _ = drawn(planted, tmp_path)
    assert data.empty
    assert "median" in data


def test_a_damaged_one_is_named_with_what_mends_it(planted, tmp_path, nothing_recorded) -> None:
    path = save(tmp_path)
    path.write_text(path.read_text().replace("0.95", "0.05"))
    with pytest.raises(UserError, match=r"bench/engine\.json: damaged .*; run: rdp bench engine"):
        drawn(planted, tmp_path)


def test_what_is_recorded_in_the_project_is_whole_and_meets_what_it_says() -> None:
    recorded = bench.measured(Path("/nowhere"))
    for path in recorded:
        found = bench.read(path)
        assert not found["setting"]["smoke"]
        assert found["commit"]
        assert {"cores", "memory_bytes", "stack", "system"} <= set(found["machine"])
