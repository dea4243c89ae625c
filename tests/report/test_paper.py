"""The paper shows the numbers of the records and the claims."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pypdf
import pytest

from rdp import models, study, tables
from rdp.claims import verdict_json
from rdp.claims.evidence import Records
from rdp.errors import UserError
from rdp.report import contents, formatting, paper
from rdp.report.paper import render
from rdp.stats import Effect
from rdp.study import Plan
from rdp.utils import paths
from tests.report import conftest
from tests.report.conftest import STUDY, Planted, make_tables, save

pytestmark = pytest.mark.slow

Build = Callable[..., Path]

COMPARED = STUDY.replace("  plain:\n", "  plain:\n  pnnh:\n  rdp: {{method: residual_droppath}}\n")
HOSTILE = '#read("/etc/passwd") *bold* $x$ @cells <cells> \\ #panic() << version >> `raw` // [b] (c) {d}'
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{0}pt" height="90pt"><path d="M 0 0 L 90 90" stroke="black"/></svg>'
)


@pytest.fixture(autouse=True)
def _accuracy_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted runs left no predictions, so that a claim on accuracy goes by the records alone."""
    monkeypatch.setitem(conftest.LEVELS, "pnnh", (0.958, 100, 0.6, 1.0, 1.1))

    def accuracy(self: Records, cell: Any, other: Any, seeds: tuple[int, ...]) -> Effect:
        table = self.tables.records.set_index(["cell", "seed"])["accuracy"] * 100
        return Effect(tuple(float(table[cell.id, seed] - table[other.id, seed]) for seed in seeds))

    monkeypatch.setattr(Records, "_accuracy", accuracy)


def make_plan(folder: Path, title: str = "Planted", text: str = COMPARED) -> Plan:
    file = folder / "planted.yaml"
    file.write_text(text.format(title=json.dumps(title)[1:-1]))
    return study.load(str(file))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Write the paper of a study from planted tables, with figures of nothing."""

    def write(
        plan: Plan, planted: Planted, results: Path = tmp_path, change: Callable[[Any], None] | None = None
    ) -> Path:
        save(plan, results, planted)
        content = verdict_json.write(tables.load(plan, results))
        if change is not None:
            change(content)
            verdict_json.save(plan.name, results, content)
        for place, name in enumerate(contents.figures(plan)):
            contents.save_drawing(plan, name, results / plan.name / "figures", SVG.format(300 + 100 * (place % 3)))
        return paper.write(plan, results)

    return write


def text_of(path: Path) -> str:
    return " ".join(" ".join(page.extract_text() for page in pypdf.PdfReader(path).pages).split())


def nothing_finished(made: Planted) -> Planted:
    table = made.records
    table["status"], table["reason"] = "missing", "not trained yet"
    numbers = ["accuracy", "parameters", "forward_flops", "training_flops", "steps", "examples_per_second", "seconds"]
    table[[*numbers, "unit_updates", "learning_rate"]] = float("nan")
    table[["commit", "device", "spec_digest"]] = None
    return made._replace(history=made.history.iloc[:0])


def test_a_number_moves_with_its_record(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    made = make_tables(plan, tmp_path)
    text = text_of(build(plan, made))
    # vanilla 0.95, 0.96, 0.97: mean 96.0, half width 4.302653 x 1 / sqrt(3) = 2.5
    assert "96.0 % [93.5, 98.5]" in text
    assert "vanilla 96.0 \u00b1 2.5 96.0 \u00b1 2.5" in text  # depths 20 and 56, in the table of accuracies
    assert "269,434" in text
    made.records.loc[0, "accuracy"] = 0.8  # of vanilla and resnet20
    text = text_of(build(plan, made))
    assert "91.0 % [67.3, 114.7]" in text
    assert "vanilla 91.0 \u00b1 23.7 96.0 \u00b1 2.5" in text
    assert text.count("96.0 % [93.5, 98.5]") == 1  # of the other architecture, in the appendix


def test_the_compute_cost_is_shown(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    made = make_tables(plan, tmp_path)
    text = text_of(build(plan, made))
    assert "The machines reported no energy." in text
    assert "the study, each run once 30 0 21 0.0167 0" in text  # 30 runs of 2 s
    made.records["cpu_package_joules"] = 360.0
    text = text_of(build(plan, made))
    assert "whole devices (processor packages)" in text
    assert "the study, each run once 30 0 21 0.0167 0 3 Wh" in text


def test_every_claim_is_shown_and_ours_is_marked(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    for claim in verdict_json.read(plan.name, tmp_path)["claims"]:
        assert re.search(rf"{claim['name']}[.,] {re.escape(claim['title'])}", text)
        assert claim["digest"] in text.replace(" ", "")
    assert "ResidualDroppath costs no more than vanilla training (ours)" in text
    assert "Source: this project." in text
    assert "Source: arXiv 2411.09475, abstract." in text
    assert "training FLOP of residual_droppath relative to vanilla; claimed below 0 %" in text


def test_a_form_is_described_by_what_it_changes(tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conftest.LEVELS, "narrow", conftest.LEVELS["vanilla"])
    plan = make_plan(
        tmp_path,
        text=COMPARED.replace("  plain:\n", "  plain:\n  narrow: {{method: vanilla, form: same_parameters}}\n"),
    )
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    widths = {
        name: models.architecture(f"{name}_same_parameters").arguments["widths"] for name in ("resnet20", "resnet56")
    }
    said = "; ".join(f"{name} with widths {', '.join(map(str, found))}" for name, found in widths.items())
    assert f"narrow vanilla {said}" in text


def test_the_main_text_has_results_and_the_appendix_the_claims(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    main, _, appendix = text.partition("[1] S. Park")
    for heading in ("1 Introduction", "Related work.", "4.1 Verdicts", "4.2 Accuracy", "5 Limitations"):
        assert heading in main
    assert "method 20 56" in main  # the table of accuracies
    assert re.search(r"On digits, .{,160} so PNNH-7 is refuted at this scale\.", main)
    assert "A.1 RDP-3. ResidualDroppath improves" in appendix
    assert "claimed above 5 points" in appendix
    assert "claimed above 5 points" not in main
    assert "Confirmatory: not tested" not in text  # the study has no such data


def test_each_kind_of_data_has_its_own_verdicts(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path, text=COMPARED.replace("[digits]", "[digits, fashion_mnist_14]"))
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    content = verdict_json.read(plan.name, tmp_path)
    for kind in verdict_json.KINDS:
        words = [claim["verdicts"][kind]["verdict"] for claim in content["claims"]]
        assert re.search(
            rf"On {kind} data \([^)]+\): {words.count('supported')} of {len(words)} claims supported", text
        )
    assert "RDP-5, confirmatory data" in text
    assert "RDP-5, exploratory data" in text


def test_a_claim_says_where_the_baseline_underfits(tmp_path: Path, build: Build) -> None:
    seeds = COMPARED.replace("seeds: 3", "seeds: 5")
    plan = make_plan(tmp_path, text=seeds)
    made = make_tables(plan, tmp_path)
    underfits = made.records["architecture"] == "resnet20"
    made.records.loc[underfits, "train_accuracy"] = 0.7
    text = text_of(build(plan, made))
    assert "RDP-3. ResidualDroppath improves" in text
    assert "1 is untested (underfitting)" in text
    assert "fit of vanilla; condition: above 0 points" in text
    assert re.search(r"resnet20 on digits underfitting .{,30} untested", text)
    made.records["train_accuracy"] = 0.7
    text = text_of(build(plan, made))
    assert "RDP-3. ResidualDroppath improves" not in text
    assert re.search(r"RDP-3, .{,160} Underfitting in 2 settings; fit of vanilla is \u221229.0 points", text)


def test_incomplete_runs_are_listed_and_counted(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    made = make_tables(plan, tmp_path)
    columns = ["status", "accuracy", "reason"]
    made.records.loc[0, columns] = ["failed", float("nan"), "RuntimeError: #panic() of [memory]"]
    made.records.loc[1, columns] = ["missing", float("nan"), "not trained yet"]
    made.records.loc[8, columns] = ["diverged", 0.1, "the loss was not finite at step 7"]
    made.records.loc[2, "adopted"] = True
    text = text_of(build(plan, made))
    assert "1 run of 30 was trained by other code" in text
    assert "3 runs have no result: 1 diverged, 1 failed and 1 is missing" in text
    assert "1 run diverged and counts as chance accuracy. 1 run failed and 1 is missing" in text
    assert "resnet20/digits/vanilla failed 1 0 RuntimeError: #panic() of [memory]" in text.replace("\u200b", "")
    assert "missing 1 1 not trained yet" in text
    assert "the loss was not finite at step 7" in text


def test_nothing_finished_still_builds(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    text = text_of(build(plan, nothing_finished(make_tables(plan, tmp_path))))
    assert "30 runs have no result: 0 diverged, 0 failed and 30 are missing" in text
    assert "records test no claim" in text
    assert "The records so far test no claim." in text
    assert "No run has a record yet." in text
    assert not re.search(r"\b(nan|None)\b", text)


def test_without_a_baseline_nothing_is_compared_with_one(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path, text=COMPARED.replace("  vanilla:\n", ""))
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    assert "The study has no baseline" in text
    assert "paired by seed, the" not in text


def test_budgets_sweeps_and_probes_are_shown(tuned: Plan, tmp_path: Path, build: Build, make_probe_rows: Any) -> None:
    def reuse(cell: Any, seed: int, stage: str) -> list[dict[str, Any]]:
        quantities = {"redundancy": 0.5, "redundancy_independent": 0.3, "lesion": 0.9, "lesion_last": 0.95}
        return [{"quantity": q, "layer": 0, "other": 0, "value": v + 0.01 * seed} for q, v in quantities.items()]

    conftest.save_probe(tuned, tmp_path, "feature_reuse", make_probe_rows(tuned, reuse))
    text = text_of(build(tuned, make_tables(tuned, tmp_path)))
    assert "equal steps FLOP equal FLOP FLOP equal updates FLOP" in text
    assert "swept over 0.02, 0.05 and 0.1" in text
    assert "with seeds 1000 to 1001" in text
    assert "redundancy beyond chance of vanilla; claimed above 0 CKA" in text
    assert re.search(r"See Figure \d+\.", text)  # redundancy, beside its claim


def test_swept_norm_gains_are_shown(tmp_path: Path, build: Build) -> None:
    text = conftest.TUNED.replace("probes: [feature_reuse, activation_maps]\n", "")
    text = text.replace("  plain:", "  plain: {recipe: {norm_gain: 0.9}}").partition("  - {datasets: [spiral]")[0]
    gains = text.replace("tune: {", "tune: {norm_gains: [0.5, 1.0], ")
    for name, content in {"rates": text, "gains": gains}.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    tuned, tuned_gains = (study.load(str(tmp_path / f"{name}.yaml")) for name in ("rates", "gains"))
    made = make_tables(tuned_gains, tmp_path)
    made.records.loc[made.records["method"] == "plain", "norm_gain"] = 0.7
    text = text_of(build(tuned_gains, made))
    assert "norm_gain swept over 0.5 and 1" in text
    assert "norm_gain 0.9" not in text  # the sweep overrides it
    assert "the same sweep chooses the learning rate and the norm gain of each method" in text
    assert "rate gain parameters" in text
    assert "0.02 0.7 269,434" in text  # of plain, in the table of all cells
    without = text_of(build(tuned, make_tables(tuned, tmp_path)))
    assert "the same sweep chooses the learning rate of each method" in without
    assert "rate parameters" in without
    assert "norm_gain 0.9" in without
    assert "0.02 269,434" in without


def test_a_long_table_breaks_under_its_head(tmp_path: Path, build: Build) -> None:
    def multiply(content: dict[str, Any]) -> None:
        claim = next(claim for claim in content["claims"] if claim["name"] == "RDP-5")
        rows = claim["verdicts"]["exploratory"]["comparisons"]
        rows[:] = [rows[0] | {"setting": f"resnet{i} on nowhere"} for i in range(120)]

    plan = make_plan(tmp_path)
    path = build(plan, make_tables(plan, tmp_path), change=multiply)
    pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    with_rows = [text for text in pages if text.count("on nowhere") > 2]  # not the abstract
    assert len(with_rows) > 1
    assert all("p against" in text and "claimed below" in text for text in with_rows)
    assert sum(text.count(" on nowhere") for text in pages) >= 120


def test_every_reference_is_cited(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    text = text_of(build(plan, make_tables(plan, tmp_path)))
    listed = (paths.templates() / "paper_layout.typ.j2").read_text(encoding="utf-8").count("  @article{")
    assert listed > 20
    assert f"[{listed}]" in text  # only cited references are listed
    assert f"[{listed + 1}]" not in text


def test_what_comes_from_outside_is_no_source(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path, title=HOSTILE)
    first = pypdf.PdfReader(build(plan, make_tables(plan, tmp_path))).pages[0].extract_text()
    assert HOSTILE in " ".join(first.split())
    assert "root:" not in first


def test_letters_that_the_fonts_lack_are_named(tmp_path: Path, build: Build, caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(tmp_path, text=COMPARED + "description: Gr\u00fc\u00dfe, \u03a9, \u6f22\u5b57 \U0001f642\n")
    path = build(plan, make_tables(plan, tmp_path))
    (line,) = (line for line in caplog.messages if "fonts" in line)
    named = "\u5b57 (U+5B57), \u6f22 (U+6F22), \U0001f642 (U+1F642)"
    assert line == f"{path}: its fonts lack {named}; the page shows them"
    text = text_of(path)
    assert "Gr\u00fc\u00dfe, \u03a9," in text
    assert "\u6f22" not in text


def test_the_papers_own_letters_have_glyphs(tmp_path: Path, build: Build, caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(tmp_path)
    source = build(plan, make_tables(plan, tmp_path)).with_suffix(".typ").read_text()
    assert not source.isascii()
    assert not [line for line in caplog.messages if "fonts" in line]
    many = "".join(map(chr, range(0x4E00, 0x4E80)))
    assert paper.missing_letters(f"a\u00e9 {many}\n") == many


def test_a_value_that_is_missing_stops_the_build_by_name(tmp_path: Path, build: Build) -> None:
    with pytest.raises(UserError, match=r"paper\.typ\.j2: a value is missing: '\w+' is undefined"):
        render({})
    plan = make_plan(tmp_path)
    with pytest.raises(UserError, match=r"a value is missing: .*'reading'"):
        build(plan, make_tables(plan, tmp_path), change=lambda content: content["claims"][4].pop("reading"))
    assert not (tmp_path / plan.name / "report" / "paper.pdf").exists()


def test_margins_and_p_values_are_formatted() -> None:
    row = {"metric": "parameters", "relative": True, "unit": "", "direction": "below", "margin": -0.4, "n": 3}
    row |= {"reason": None, "p_holm": 0.0, "negligible": 0.0}
    row |= {"method": "pnnh", "against": "vanilla", "budget": "steps", "stage": "trained"}
    assert formatting.bound(row) == "below \u221240 %"
    assert formatting.bound(row | {"negligible": 0.1}) == "below \u221240 %, and refuted if above \u221250.0 %"
    above = {"metric": "accuracy", "direction": "above", "margin": 0.0, "negligible": 0.5}
    assert formatting.bound(row | above) == "above 0 points, and refuted if below 0.5 points"
    assert formatting.p(row, "p_holm") == "exact"  # it is counted, so that no test speaks for it
    row |= {"metric": "accuracy", "relative": False, "unit": "points", "direction": "within", "margin": 1.0}
    assert formatting.bound(row) == "within 1 point of 0"
    assert formatting.p(row, "p_holm") == "< 0.001"
    assert formatting.p(row | {"p_holm": 0.0421}, "p_holm") == "0.042"
    assert formatting.p(row | {"p_sign_flip": None}, "p_sign_flip") == "\u2013"  # rounds have no signs to flip
    assert formatting.p(row | {"reason": "3 seeds, at least 5 needed"}, "p_holm") == "\u2013"


@pytest.mark.parametrize("name", ["abstract", "limits"])
def test_no_number_is_typed_by_hand(name: str) -> None:
    text = (paths.templates() / f"paper_{name}.typ.j2").read_text(encoding="utf-8")
    prose = re.sub(r"<%.*?%>|<<.*?>>|<#.*?#>", "", text, flags=re.DOTALL)
    assert set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w|\.\d)", prose)) <= {"0"}  # lengths have their unit behind them


def test_a_number_without_a_format_is_refused() -> None:
    for value in (0.1, None):
        with pytest.raises(TypeError, match="without a format filter"):
            paper._shown(value)


def test_the_same_records_give_the_same_bytes(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    made = make_tables(plan, tmp_path)
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        path = build(plan, made, folder, lambda content: [claim.update(first_seen=None) for claim in content["claims"]])
        found.append((path.with_suffix(".typ").read_bytes(), path.read_bytes()))
    assert found[0] == found[1]
    assert b"CreationDate" not in found[0][1]


def test_a_figure_that_cannot_be_set_leaves_no_paper(tmp_path: Path, build: Build) -> None:
    plan = make_plan(tmp_path)
    report = build(plan, make_tables(plan, tmp_path)).parent
    figure = report.parent / "figures" / "differences.svg"
    for file in report.iterdir():
        file.unlink()
    contents.save_drawing(plan, "differences", figure.parent, "<svg")
    with pytest.raises(UserError, match=r"paper\.pdf: Typst cannot compile it"):
        paper.write(plan, tmp_path)
    assert list(report.iterdir()) == []
    figure.unlink()
    with pytest.raises(UserError, match=r"differences\.svg: no such file; run: rdp plot planted differences"):
        paper.write(plan, tmp_path)
