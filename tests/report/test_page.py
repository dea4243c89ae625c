"""The page shows the numbers of the records. tests/browser covers its behaviour in a browser."""

import base64
import hashlib
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rdp import study, tables
from rdp.errors import UserError
from rdp.report import contents, figures, page, summary
from rdp.study import Plan
from tests.browser.planted import save_claims
from tests.report.conftest import STUDY, Planted, make_plan, make_tables, save

Build = Callable[[Plan, Path, Planted], str]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Write the page of a study. Its figures are drawn once: what they show is not the page's doing."""
    folder = tmp_path_factory.mktemp("drawn")
    plan = make_plan(folder)
    save(plan, folder, make_tables(plan, folder))
    for name in contents.figures(plan):
        figures.write(tables.load(plan, folder), name, folder)

    def write(plan: Plan, results: Path, planted: Planted) -> str:
        save(plan, results, planted)
        save_claims(tables.load(plan, results))
        shutil.copytree(folder / "planted" / "figures", results / plan.name / "figures", dirs_exist_ok=True)
        return page.write(plan, results).read_text()

    return write


@pytest.mark.slow
def test_numbers_come_from_the_records_and_move_with_them(planted: Plan, tmp_path: Path, build: Build) -> None:
    made = make_tables(planted, tmp_path)
    table = made.records
    text = build(planted, tmp_path, made)
    # vanilla 0.95, 0.96, 0.97: mean 96.0, half width 4.302653 x 1 / sqrt(3) = 2.5
    assert "96.0 % [93.5, 98.5]" in text
    assert "+1.0 points [+1.0, +1.0]" in text
    assert "\u221265.0 points" in text
    assert "269,434" in text
    table.loc[(table["method"] == "vanilla") & (table["seed"] == 0), "accuracy"] = 0.80
    assert "96.0 % [93.5, 98.5]" not in build(planted, tmp_path, made)
    written = pd.read_csv(tmp_path / planted.name / "tables" / "accuracy.csv")
    assert written["mean"].round(6).tolist()[0] == 91.0


def test_the_compute_cost_follows_the_records(planted: Plan, tmp_path: Path, build: Build) -> None:
    made = make_tables(planted, tmp_path)
    text = build(planted, tmp_path, made)
    assert "The machines reported no energy." in text
    # 18 runs of 2 s, on a core each
    assert '<th scope="row">the study, each run once</th><td class="n">18</td><td class="n">0</td>' in text
    assert '<td class="n">0.01</td><td class="n">0</td></tr>' in text
    made.records["gpu_joules"], made.records["device_type"] = 3.6e6, "cuda"
    made.records.loc[0, "gpu_joules"] = float("nan")
    text = build(planted, tmp_path, made)
    assert '<td class="n">0</td><td class="n">0.01</td><td class="n">17 kWh (17 of 18 runs)</td></tr>' in text
    assert "the counters of whole devices (GPUs)" in text
    written = pd.read_csv(tmp_path / planted.name / "tables" / "compute_cost.csv").set_index("claim")
    last = written.loc["the study, each run once"]
    assert (last["runs"], last["gpu_joules"], last["gpu_joules_of"]) == (18, 17 * 3.6e6, 17)
    assert last["gpu_hours"] == pytest.approx(0.01)
    assert written["cpu_package_joules"].isna().all()


def test_incomplete_runs_are_listed_and_counted(planted: Plan, tmp_path: Path, build: Build) -> None:
    made = make_tables(planted, tmp_path)
    table = made.records
    table.loc[0, ["status", "accuracy", "reason"]] = ["failed", float("nan"), "RuntimeError: out of <memory>"]
    table.loc[1, ["status", "accuracy", "reason"]] = ["missing", float("nan"), "not trained yet"]
    table.loc[8, ["status", "accuracy", "reason"]] = ["diverged", 0.1, "the loss was not finite at step 7"]
    assert "and adopted" not in build(planted, tmp_path, made)
    table.loc[[2, 5], "adopted"] = True
    text = build(planted, tmp_path, made)
    assert "2 runs of 18 were trained by other code than this checkout&#39;s and adopted" in text
    assert "RuntimeError: out of &lt;memory&gt;" in text
    assert "not trained yet" in text
    assert "the loss was not finite at step 7" in text
    assert '1 of 3, <span class="failed">1 failed</span>, <span class="missing">1 missing</span>' in text
    assert '3 of 3, <span class="diverged">1 diverged</span>' in text


def test_without_a_baseline_nothing_is_said_of_one(planted: Plan, tmp_path: Path, build: Build) -> None:
    made, text = make_tables(planted, tmp_path), planted.file.read_text()
    assert "difference to vanilla" in build(planted, tmp_path, made)
    (tmp_path / "planted.yaml").write_text(text.replace("  vanilla:\n", ""))
    alone = study.load(str(tmp_path / "planted.yaml"))
    kept = [table[table["method"] != "vanilla"].reset_index(drop=True) for table in made[:2]]
    text = build(alone, tmp_path, made._replace(records=kept[0], history=kept[1]))
    _, _, found = text.partition('<section id="accuracy">')  # claims name it, whatever the study has
    found, _, _ = found.partition('<section id="choices">')
    found = re.sub(r'src="data:[^"]*"', "", found)  # its figures are those of the other study
    assert "vanilla" not in found.lower()
    assert "difference to" not in found
    assert "97.0 % [94.5, 99.5]" in text


def test_throughput_of_two_devices_makes_no_ratio(planted: Plan, tmp_path: Path) -> None:
    table = make_tables(planted, tmp_path).records
    table.loc[table["method"] == "plain", "device"] = "another machine"
    ratios = {cell.method: cell.throughput_ratio for cell in summary.cells(planted, table)}
    assert ratios["droppath"] == 0.5
    assert math.isnan(ratios["plain"])


def test_nothing_finished_still_builds_a_page(planted: Plan, tmp_path: Path, build: Build) -> None:
    made = make_tables(planted, tmp_path)
    table = made.records
    table["status"], table["reason"] = "missing", "not trained yet"
    numbers = ["accuracy", "parameters", "forward_flops", "examples_per_second", "seconds"]
    table[numbers] = float("nan")
    table[["commit", "device", "spec_digest"]] = None
    text = build(planted, tmp_path, made._replace(history=made.history.iloc[:0]))
    assert "The records so far test no claim." in text


def test_what_comes_from_outside_is_escaped(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path, title="<script>alert(1)</script>")
    made = make_tables(plan, tmp_path)
    made.records.loc[0, ["status", "reason"]] = ["failed", "</script><!--<script>alert(2)"]
    text = build(plan, tmp_path, made)
    assert "&lt;script&gt;alert(1)" in text
    assert r"\u003c/script>\u003c!--\u003cscript>alert(2)" in text  # in the explorer's data
    assert "&lt;/script&gt;&lt;!--&lt;script&gt;alert(2)" in text  # among what is not there
    assert re.findall("<script.*?>", text) == ['<script type="application/json" id="data">', "<script>"]
    assert text.count("</script>") == 2


def test_the_page_is_one_file_without_addresses_to_load(planted: Plan, tmp_path: Path, build: Build) -> None:
    text = build(planted, tmp_path, make_tables(planted, tmp_path))
    assert 'src="http' not in text
    assert "<link" not in text
    assert text.count("data:image/svg+xml") == len(contents.figures(planted))


def test_the_policy_names_the_style_and_the_script_that_are_there(planted: Plan, tmp_path: Path, build: Build) -> None:
    text = build(planted, tmp_path, make_tables(planted, tmp_path))
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', text)
    for name in ("style", "script"):
        (inline,) = re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src &#39;sha256-{digest}&#39;" in policy
    assert "unsafe" not in policy


def test_what_is_not_there_is_counted_by_cell_however_much_it_is(planted: Plan, tmp_path: Path, build: Build) -> None:
    made = make_tables(planted, tmp_path)
    for i, row in made.records[made.records["architecture"] == "resnet20"].iterrows():
        made.records.loc[i, ["status", "accuracy", "reason"]] = ["failed", float("nan"), f"error {row.seed}"]
    made.records.loc[0, "reason"] = "error 1"
    _, _, section = build(planted, tmp_path, made).partition('<section id="missing">')
    rows = re.findall("<tr><th scope=.row.>(.*?)</tr>", section.partition("</table>")[0])
    assert [row.partition("<")[0] for row in rows] == [f"resnet20/digits/{m}" for m in ("vanilla", "droppath", "plain")]
    assert rows[0].endswith('<td class="n">3</td><td>0 to 2</td><td>error 1; error 2</td>')


def test_without_claims_decided_it_says_how_to(planted: Plan, tmp_path: Path, build: Build) -> None:
    build(planted, tmp_path, make_tables(planted, tmp_path))
    (tmp_path / planted.name / "claims.json").unlink()
    with pytest.raises(UserError, match=r"claims\.json: no such file; run: rdp claims planted"):
        page.write(planted, tmp_path)


def test_a_claim_says_where_the_baseline_underfits(tmp_path: Path, build: Build) -> None:
    text = STUDY.format(title="Planted").replace("plain:", "rdp: {method: residual_droppath}").replace("s: 3", "s: 5")
    (tmp_path / "planted.yaml").write_text(text)
    plan = study.load(str(tmp_path / "planted.yaml"))
    made = make_tables(plan, tmp_path)
    made.records["train_accuracy"] = 0.7
    shown = build(plan, tmp_path, made).partition('id="claim-RDP-3"')[2].partition('id="claim-RDP-4"')[0]
    line = "Underfitting in 2 settings; fit of vanilla is \u221229.0 points (5 seeds; required: above 0)."
    assert f'<span class="from">Exploratory.</span> {line}</span>' in shown
    assert shown.count('<td class="outcome untested">untested</td>') == 2
    assert shown.count('<td class="why">underfitting</td>') == 4  # of two settings, and of the condition in each
    assert "condition: above 0 points" in shown


def test_a_figure_that_is_not_drawn_is_named(planted: Plan, tmp_path: Path, build: Build) -> None:
    build(planted, tmp_path, make_tables(planted, tmp_path))
    (tmp_path / planted.name / "figures" / "differences.svg").unlink()
    with pytest.raises(UserError, match=r"differences\.svg: no such file; run: rdp plot planted differences"):
        page.write(planted, tmp_path)


def test_page_and_paper_import_neither_torch_nor_what_draws() -> None:
    modules = "rdp.report.page, rdp.report.paper, rdp.cli.app"
    code = f"import sys, {modules}; assert not {{'torch', 'matplotlib'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
