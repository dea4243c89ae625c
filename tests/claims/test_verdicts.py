"""Planted records lead to every verdict of every claim."""

from dataclasses import replace

import pytest

from rdp.claims import model, preregistration, verdict_json
from rdp.claims.model import KINDS
from rdp.utils import paths
from tests.claims.conftest import AS_CLAIMED, CONTRARY, WORLDS
from tests.helpers.planting import SEEDS, SHORT, load, plant

CLAIMS = list(model.load().claims)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("word", WORLDS)
def test_each_verdict_of_each_claim(word, name, kind, decided):
    claim = next(claim for claim in decided[word]["claims"] if claim["name"] == name)
    verdict = claim["verdicts"][kind]
    assert verdict["verdict"] == word, verdict["line"]


def claim_of(content: dict, name: str) -> dict:
    return next(claim for claim in content["claims"] if claim["name"] == name)


def test_a_claim_without_data_is_not_tested_and_has_a_reason(tmp_path):
    digits = [{"datasets": ["digits"], "architectures": ["resnet56"]}]
    plan = load(tmp_path, **SHORT | {"methods": {"vanilla": None, "plain": None}, "grids": digits})
    content = verdict_json.write(plant(plan, tmp_path, AS_CLAIMED))
    lines = {
        claim["name"]: (verdict["verdict"], verdict["line"])
        for claim in content["claims"]
        for verdict in claim["verdicts"].values()
        if verdict is claim["verdicts"]["exploratory"]
    }
    assert lines["PNNH-1"] == ("not tested", "The study has no probe dissipating_inputs.")
    assert lines["PNNH-4"] == ("not tested", "No cell of the study tests it.")
    # Its other parts cannot replace the sweep of learning rates.
    assert lines["PNNH-2"] == ("not tested", "No sweep of learning rates in this setting.")
    assert {claim["verdicts"]["confirmatory"]["verdict"] for claim in content["claims"]} == {"not tested"}


def test_the_best_rate_of_a_sweep_is_that_at_the_best_gain(tmp_path):
    """The first gain of the planted sweep is the worse one, at every rate."""
    found = []
    for name, gains in (("rates", []), ("gains", [0.5, 1.0])):
        (tmp_path / name).mkdir()
        tune = {"learning_rates": [0.05, 0.1], "norm_gains": gains, "seeds": [1000, 1001]}
        content = verdict_json.write(plant(load(tmp_path / name, tune=tune), tmp_path / name, AS_CLAIMED))
        claim = claim_of(content, "PNNH-2")
        verdict = claim["verdicts"]["exploratory"]
        assert verdict["verdict"] == "supported"
        (swept,) = (c for c in verdict["comparisons"] if c["metric"] == "loss_at_best_rate")
        found.append((swept["mean"], swept["n"], claim["cost"]["of_sweeps"]))
    (rates, seeds, of_sweeps), (gains, as_many, of_gains) = found
    assert rates == gains == pytest.approx(0.95)
    assert seeds == as_many == 2
    assert of_gains == 2 * of_sweeps  # twice as many candidates


def test_too_few_seeds_leave_a_claim_open_however_clear_they_are(tmp_path):
    plan = load(tmp_path, seeds=4)
    content = verdict_json.write(plant(plan, tmp_path, replace(AS_CLAIMED, spread=0.001)))
    for name in ("PNNH-4", "PNNH-5", "RDP-3"):
        verdict = claim_of(content, name)["verdicts"]["exploratory"]
        assert verdict["verdict"] == "inconclusive"
        assert {c["reason"] for c in verdict["comparisons"]} == {"4 seeds, at least 5 needed"}


@pytest.mark.parametrize("plain", [0.95, 0.2])
def test_a_setting_whose_condition_does_not_hold_tests_nothing(plain, tmp_path):
    world = replace(AS_CLAIMED, loss={"vanilla": 0.65, "plain": plain})
    content = verdict_json.write(plant(load(tmp_path), tmp_path, world))
    verdict = claim_of(content, "PNNH-2")["verdicts"]["exploratory"]
    vanilla = [c for c in verdict["comparisons"] if c["condition"]]
    assert {c["outcome"] for c in vanilla} == {"fails"}
    assert {c["outcome"] for c in verdict["comparisons"] if not c["condition"]} == {"untested"}
    assert verdict["verdict"] == "not tested", verdict["line"]
    assert "required: below 0.5" in verdict["line"]


@pytest.fixture(scope="module", params=["diverged", "failed", "missing"])
def one_bad_run(request, tmp_path_factory):
    """What became of one run, and the comparison that it is a part of."""
    folder = tmp_path_factory.mktemp(request.param)
    world = replace(AS_CLAIMED, status={("pnnh", 2): request.param})
    content = verdict_json.write(plant(load(folder, **SHORT), folder, world))
    (comparison,) = claim_of(content, "PNNH-5")["verdicts"]["exploratory"]["comparisons"]
    return request.param, comparison


class TestOneBadRun:
    """A run that diverged, failed or is missing is in the numbers, or is named as left out of them."""

    def test_it_is_counted_or_named(self, one_bad_run):
        status, comparison = one_bad_run
        (run,) = [
            run
            for run in (*comparison["left_out"], *(run for names in comparison["runs"] for run in names))
            if run.startswith("resnet56-digits-pnnh") and run.endswith("seed-0002")
        ]
        if status == "diverged":
            assert comparison["diverged"] == 1
            assert comparison["n"] == SEEDS
            # At chance, 10 %, where vanilla has 80 %.
            assert comparison["values"][2] == pytest.approx(-70, abs=0.1)
        else:
            assert comparison["n"] == SEEDS - 1
            assert 2 not in comparison["seeds"]
            assert comparison["left_out"][run] == ("planted" if status == "failed" else "not trained yet")

    def test_one_at_chance_leaves_on_par_open(self, one_bad_run):
        status, comparison = one_bad_run
        assert comparison["outcome"] == ("undecided" if status == "diverged" else "holds")


def test_the_other_runs_of_a_pair_without_its_partner_are_named(tmp_path):
    world = replace(AS_CLAIMED, status={("pnnh", 2): "failed"})
    content = verdict_json.write(plant(load(tmp_path, **SHORT), tmp_path, world))
    (comparison,) = claim_of(content, "PNNH-5")["verdicts"]["exploratory"]["comparisons"]
    (left,) = [run for run in comparison["left_out"] if "vanilla" in run]
    assert comparison["left_out"][left] == "the other method's run of this seed has no number"


def test_a_claim_of_ours_is_marked_as_ours_and_no_other_is(decided):
    ours = {claim["name"] for claim in decided["supported"]["claims"] if claim["source"]["ours"]}
    assert ours == {"RDP-5"}
    for claim in decided["supported"]["claims"]:
        assert bool(claim["source"]["paper"]) != claim["source"]["ours"]


def test_every_number_has_the_runs_behind_it(decided):
    for content in decided.values():
        for claim in content["claims"]:
            for verdict in claim["verdicts"].values():
                for c in (*verdict["comparisons"], *verdict["beside"]):
                    assert len(c["runs"]) == len(c["seeds"]) == len(c["values"])
                    if c["metric"] == "throughput":
                        continue
                    assert c["n"] == len(c["values"])
                    assert c["mean"] == pytest.approx(sum(c["values"]) / c["n"])
                    for seed, runs in zip(c["seeds"], c["runs"], strict=True):
                        assert runs
                        assert all(run.endswith(f"seed-{seed:04d}") for run in runs)


def test_comparisons_shown_beside_do_not_affect_the_verdict(decided):
    claim = claim_of(decided["supported"], "RDP-3")
    beside = claim["verdicts"]["exploratory"]["beside"]
    assert {c["budget"] for c in beside} == {"flops", "updates"}
    assert not any(c["decides"] for c in beside)


def test_holm_is_over_the_comparisons_of_a_claim(decided):
    for content in decided.values():
        for claim in content["claims"]:
            for verdict in claim["verdicts"].values():
                tested = [c for c in verdict["comparisons"] if c["outcome"] != "absent" and not c["condition"]]
                if tested:
                    least = min(tested, key=lambda c: c["p"])
                    assert least["p_holm"] == pytest.approx(min(1, least["p"] * len(tested)))


class TestFixedBeforeTheRuns:
    @pytest.fixture
    def planted(self, tmp_path):
        return plant(load(tmp_path, **SHORT), tmp_path, AS_CLAIMED)

    def test_a_claim_seen_before_the_runs_is_not_late(self, planted, monkeypatch):
        # The planted runs began in 2020.
        monkeypatch.setattr("rdp.claims.preregistration.timestamp", lambda seconds: "2019-01-01T00:00:00Z")
        preregistration.record_claims(planted.results)
        monkeypatch.undo()
        claim = claim_of(verdict_json.write(planted), "PNNH-5")
        assert claim["first_seen"] == "2019-01-01T00:00:00Z"
        assert claim["runs_before_it"] == 0

    def test_one_first_seen_after_them_is(self, planted):
        claim = claim_of(verdict_json.write(planted), "PNNH-5")
        assert claim["runs_before_it"] == 4 * SEEDS  # two methods on two datasets

    def test_an_edited_claim_is_another(self, planted, monkeypatch, tmp_path):
        monkeypatch.setattr("rdp.claims.preregistration.timestamp", lambda seconds: "2019-01-01T00:00:00Z")
        preregistration.record_claims(planted.results)
        monkeypatch.undo()
        text = paths.claims().read_text(encoding="utf-8").replace("within, margin: 1.0", "within, margin: 2.0")
        edited = tmp_path / "claims.yaml"
        edited.write_text(text, encoding="utf-8")
        monkeypatch.setattr(paths, "claims", lambda: edited)
        content = verdict_json.write(planted)
        assert claim_of(content, "PNNH-5")["runs_before_it"] == 4 * SEEDS
        assert claim_of(content, "PNNH-7")["runs_before_it"] == 4 * SEEDS  # it says the same of accuracy
        assert claim_of(content, "PNNH-4")["runs_before_it"] == 0


def test_the_first_entry_of_a_method_is_the_one_that_counts(tmp_path):
    methods = {"vanilla": None, "first": {"method": "pnnh"}, "second": {"method": "pnnh", "variant": "sum"}}
    plan = load(tmp_path, **SHORT | {"methods": methods})
    content = verdict_json.write(plant(plan, tmp_path, AS_CLAIMED))
    for verdict in claim_of(content, "PNNH-5")["verdicts"].values():
        assert {c["method"] for c in verdict["comparisons"]} == {"first"}


@pytest.mark.parametrize(
    ("diverged", "reason"), [((2,), "in 1 of 6 seeds both"), (range(SEEDS), "in 6 of 6 seeds both")]
)
def test_two_methods_that_diverge_together_are_not_on_par(diverged, reason, tmp_path):
    world = replace(AS_CLAIMED, status={(label, s): "diverged" for label in ("vanilla", "pnnh") for s in diverged})
    content = verdict_json.write(plant(load(tmp_path, **SHORT), tmp_path, world))
    verdict = claim_of(content, "PNNH-5")["verdicts"]["exploratory"]
    assert verdict["verdict"] == "inconclusive"
    assert verdict["comparisons"][0]["reason"].startswith(reason)


def test_two_methods_at_chance_are_not_on_par(tmp_path):
    world = replace(AS_CLAIMED, accuracy={"vanilla": 0.11, "pnnh": 0.11})
    content = verdict_json.write(plant(load(tmp_path, **SHORT), tmp_path, world))
    (comparison,) = claim_of(content, "PNNH-5")["verdicts"]["confirmatory"]["comparisons"]
    assert (comparison["outcome"], comparison["reason"]) == ("undecided", "neither method is above chance")


def test_a_part_that_fails_refutes_whatever_another_lacks(tmp_path):
    # Without networks narrowed to PNNH's parameters, that it is 10 points below vanilla is enough.
    content = verdict_json.write(plant(load(tmp_path, **SHORT), tmp_path, CONTRARY))
    verdict = claim_of(content, "PNNH-7")["verdicts"]["confirmatory"]
    assert verdict["verdict"] == "refuted"
    reasons = {c["outcome"]: c["reason"] for c in verdict["comparisons"]}
    assert reasons["absent"] == "the study has no cell for pnnh minus vanilla (same_parameters) in accuracy"


def test_what_is_counted_is_tested_by_nothing_and_has_no_effect_size(decided):
    for c in claim_of(decided["supported"], "PNNH-7")["verdicts"]["exploratory"]["comparisons"]:
        if c["metric"] == "parameters":
            assert (c["p_holm"], c["size"], c["p_sign_flip"]) == (0.0, None, None)


def test_networks_that_seeds_share_widen_the_interval(decided):
    # Each seed's reference is the next seed's network, so that the error may be sqrt(2 * 5 / 4) of independent ones'.
    (c,) = [
        c
        for c in claim_of(decided["inconclusive"], "RDP-1")["verdicts"]["exploratory"]["comparisons"]
        if "resnet56" in c["setting"]
    ]
    assert c["error"] == pytest.approx(c["spread"] / SEEDS**0.5 * (2 * 5 / 4) ** 0.5)


def test_throughput_names_what_was_timed_and_when_it_was_late(decided):
    claim = claim_of(decided["supported"], "PNNH-6")
    (c,) = claim["verdicts"]["exploratory"]["comparisons"]
    assert [run.split("-")[2] for run in c["measured_on"]] == ["pnnh", "vanilla"]
    assert claim["runs_before_it"] == 4  # on either kind of data; planted runs began in 2020
