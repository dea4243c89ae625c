"""The data of the explorer and of the claims on the page, without a browser."""

import json
from itertools import pairwise

import pytest

from rdp.claims import metrics, phrasing
from rdp.claims.model import Part
from rdp.report import claims_view, explorer, plots
from tests.browser import planted

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.123456789, 0.1235),
        (2.0, 2),
        (123456789.0, 123456789),
        (1.23456e-9, 1.235e-9),
        (float("nan"), None),
        (float("inf"), None),
        (None, None),
    ],
)
def test_numbers_keep_their_digits_and_only_what_is_finite(value: float | None, kept: float | None) -> None:
    assert explorer.numbers([value], 4) == [kept]


def test_embedded_data_is_the_same_data_and_cannot_end_its_element() -> None:
    value = {"<!--": ["</script>", "é & \u2028"]}
    text = explorer.embedded(value)
    assert "<" not in text
    assert json.loads(text) == value


def test_runs_share_names_and_keep_their_own_numbers(tmp_path) -> None:
    plan = planted.make_plan(tmp_path)
    table = planted.make_records(plan, tmp_path)
    found = explorer.content(plan, table, planted.make_history(table))
    runs, names = found["runs"], found["names"]
    rebuilt = [f"{names['cell'][cell]}/seed-{seed:04d}" for cell, seed in zip(runs["cell"], runs["seed"], strict=True)]
    assert rebuilt == table["run"].tolist()
    assert runs["accuracy"] == pytest.approx(table["accuracy"].tolist(), abs=1e-6)
    assert [found["cells"][i]["method"] for i in runs["cell"]] == table["method"].tolist()
    assert len(found["cells"]) == len(plan.cells) == 16
    assert runs["diverged_step"] == [None] * len(table)
    schedule, values = found["curves"]["validation_accuracy"][9]
    assert found["epochs"][schedule] == [4, 8, 12]
    assert values == [0.6, 0.7, 0.8]


def test_a_long_curve_is_thinned_and_keeps_its_ends(tmp_path) -> None:
    plan = planted.make_plan(tmp_path, seeds=1)
    table = planted.make_records(plan, tmp_path)
    found = explorer.content(plan, table, planted.make_history(table, epochs=1000))
    schedule, values = found["curves"]["train_loss"][0]
    epochs = found["epochs"][schedule]
    assert len(epochs) == len(values) == 200
    assert (epochs[0], epochs[-1]) == (1, 1000)
    assert max(b - a for a, b in pairwise(epochs)) <= 6
    assert values[-1] == float(f"{2.3456789 / 1000:.4g}")


def test_every_metric_has_figures_and_every_figure_is_one_of_a_report() -> None:
    of_metrics = [metric.figures for metric in metrics.available().values()]
    assert all(of_metrics)
    assert {name for names in of_metrics for name in names} <= set(plots.available())


def test_evidence_is_of_the_confirmatory_kind_where_that_was_tested() -> None:
    def verdict(word: str) -> dict:
        return {"verdict": word, "line": f"{word}!", "settings": {}, "aggregate": [], "comparisons": [], "beside": []}

    claim = {"name": "X-1", "source": {"paper": None}}
    content = {
        "claims": [
            claim | {"verdicts": {"confirmatory": verdict(one), "exploratory": verdict("supported")}}
            for one in ("inconclusive", "not tested")
        ]
    }
    (ours,) = claims_view.groups(content, {}, ())
    assert ours["ours"]
    assert [found["evidence"]["kind"] for found in ours["claims"]] == ["confirmatory", "exploratory"]
    assert claims_view.tally(content) == {
        "confirmatory": {"supported": 0, "refuted": 0, "inconclusive": 1, "not tested": 1},
        "exploratory": {"supported": 2, "refuted": 0, "inconclusive": 0, "not tested": 0},
    }


def test_a_bound_reads_as_it_does_in_the_evidence(tmp_path) -> None:
    plan = planted.make_plan(tmp_path)
    table = planted.make_records(plan, tmp_path)
    content = planted.save_claims(planted.save(plan, tmp_path, table, planted.make_history(table)))
    (group, *_) = (g for g in claims_view.groups(content, {}, frozenset(table["run"])) if g["paper"] == "2411.09475")
    claim = next(found for found in group["claims"] if found["name"] == "RDP-3")
    (first, *_) = claim["kinds"]["exploratory"]["comparisons"]["rows"]
    part = Part(metric="accuracy", method="residual_droppath", against="vanilla", direction="above", margin=0.0)
    assert first["bound"] == f"{phrasing.bound(part)}; negligible: 0.5 points"
    assert phrasing.bound(part, bare=True) in claim["evidence"]["line"]


def test_runs_that_are_left_out_are_named_with_the_reason(tmp_path) -> None:
    plan = planted.make_plan(tmp_path)
    table = planted.make_records(plan, tmp_path)
    table.loc[0, ["status", "reason", "accuracy"]] = ["failed", "out of memory", float("nan")]
    content = planted.save_claims(planted.save(plan, tmp_path, table, planted.make_history(table)))
    named = frozenset(table["run"]) - {table["run"][0]}
    (group, *_) = claims_view.groups(content, {}, named)
    claim = next(found for found in group["claims"] if found["name"] == "RDP-3")
    row = claim["kinds"]["exploratory"]["comparisons"]["all"][0]
    (partner,) = table[(table["cell"] != table["cell"][0]) & (table["seed"] == 0)]["run"][:1]
    assert row["left_out"] == {
        "out of memory": {table["cell"][0]: [{"run": table["run"][0], "seed": 0, "linked": False}]},
        "the other method's run of this seed has no number": {
            partner.partition("/")[0]: [{"run": partner, "seed": 0, "linked": True}]
        },
    }
    assert [run["seed"] for run in row["cells"][table["cell"][0]]] == [1, 2, 3, 4, 5, 6, 7]
