"""A setting tests a claim only where the claim's conditions hold."""

import json
from dataclasses import replace

import pytest
import yaml

from rdp.claims import model, verdict_json
from rdp.claims.metrics import available
from rdp.utils import paths
from tests.claims.conftest import AS_CLAIMED, CONTRARY
from tests.helpers.planting import SEEDS, SHORT, World, load, plant

METHODS = dict.fromkeys(("vanilla", "residual_droppath", "droppath_batch", "random_freeze"))
GRIDS = [{"datasets": ["digits"], "architectures": ["resnet20", "resnet56"]}]
COMPARED = SHORT | {"methods": METHODS, "grids": GRIDS}


def decide(folder, world: World, **keys) -> dict:
    """The exploratory verdicts by claim, of two networks on digits."""
    content = verdict_json.write(plant(load(folder, **COMPARED | keys), folder, world))
    return {claim["name"]: claim["verdicts"]["exploratory"] for claim in content["claims"]}


def fit(train: float, test: float) -> float:
    return max(100 * train - 99, 100 * (train - test) - 5)


class TestFit:
    @pytest.mark.parametrize(("train", "test"), [(0.85, 0.82), (0.85, 0.6), (0.992, 0.98)])
    def test_it_is_the_larger_of_two_criteria(self, train, test, tmp_path):
        world = replace(AS_CLAIMED, train_accuracy={"resnet20": train}, accuracy={"vanilla": test})
        (c,) = [c for c in decide(tmp_path, world)["RDP-3"]["comparisons"] if is_fit_of(c, "resnet20")]
        assert c["values"] == pytest.approx([fit(train, test)] * SEEDS)
        assert c["outcome"] == ("holds" if train >= 0.99 or round(train - test, 6) >= 0.05 else "fails")

    @pytest.mark.parametrize(("train", "test"), [(0.99, 0.99), (0.75, 0.7)])
    def test_the_thresholds_themselves_are_enough(self, train, test, tmp_path):
        world = replace(AS_CLAIMED, train_accuracy={"resnet20": train}, accuracy={"vanilla": test})
        (c,) = [c for c in decide(tmp_path, world)["RDP-3"]["comparisons"] if is_fit_of(c, "resnet20")]
        assert abs(c["mean"]) < 1e-9
        assert c["outcome"] == "holds"

    def test_a_diverged_run_underfits(self, tmp_path):
        world = replace(AS_CLAIMED, status={("vanilla", 2): "diverged"})
        (c,) = [c for c in decide(tmp_path, world)["RDP-3"]["comparisons"] if is_fit_of(c, "resnet20")]
        assert c["values"][2] == -5
        assert c["values"][1] == pytest.approx(fit(0.999, 0.8))

    def test_its_description_has_the_thresholds_that_a_claims_digest_covers(self):
        definition = available()["fit"].identity()
        assert "99" in definition["description"]
        assert " 5" in definition["description"]


def is_fit_of(comparison: dict, architecture: str) -> bool:
    return comparison["metric"] == "fit" and comparison["architecture"] == architecture


UNDERFITTING = {"resnet20": 0.7}


@pytest.mark.parametrize("claim", ["RDP-3", "RDP-4"])
class TestUnderfitting:
    def test_a_setting_that_underfits_decides_nothing(self, claim, tmp_path):
        verdict = decide(tmp_path, replace(AS_CLAIMED, train_accuracy=UNDERFITTING))[claim]
        assert verdict["verdict"] == "supported"
        assert verdict["settings"] == {"resnet20 on digits": "untested", "resnet56 on digits": "holds"}
        for c in (*verdict["comparisons"], *verdict["beside"]):
            if c["architecture"] == "resnet56":
                assert (c["outcome"], c["reason"]) == ("holds", None)
            else:
                assert c["outcome"] == ("fails" if c["metric"] == "fit" else "untested")
                assert c["reason"] == "underfitting"
        assert verdict["line"].startswith("On digits, 1 of 2 settings holds and 1 is untested (underfitting): ")

    def test_nor_does_it_stand_in_the_way_of_a_refutation(self, claim, tmp_path):
        world = replace(CONTRARY, train_accuracy=UNDERFITTING)
        verdict = decide(tmp_path, world)[claim]
        assert verdict["verdict"] == "refuted", verdict["line"]
        assert verdict["settings"]["resnet20 on digits"] == "untested"

    def test_where_all_underfit_the_claim_is_not_tested_and_says_why(self, claim, tmp_path):
        world = replace(AS_CLAIMED, train_accuracy=dict.fromkeys(("resnet20", "resnet56"), 0.7))
        verdict = decide(tmp_path, world)[claim]
        assert verdict["verdict"] == "not tested"
        assert set(verdict["settings"].values()) == {"untested"}
        assert verdict["line"] == (
            "Underfitting in 2 settings; fit of vanilla is \u221215.0 points (6 seeds; required: above 0)."
        )

    def test_the_correction_is_over_the_tested_comparisons(self, claim, tmp_path):
        verdict = decide(tmp_path, replace(AS_CLAIMED, spread=0.5, train_accuracy=UNDERFITTING))[claim]
        tested = [c for c in verdict["comparisons"] if c["outcome"] != "untested" and not c["condition"]]
        assert {c["architecture"] for c in tested} == {"resnet56"}
        least = min(tested, key=lambda c: c["p"])
        assert least["p_holm"] == pytest.approx(min(1, least["p"] * len(tested)))

    def test_a_condition_has_no_test(self, claim, tmp_path):
        verdict = decide(tmp_path, replace(AS_CLAIMED, train_accuracy=UNDERFITTING))[claim]
        conditions = [c for c in verdict["comparisons"] if c["condition"]]
        assert len(conditions) == 2
        for c in conditions:
            assert c["p"] is c["p_contrary"] is c["p_sign_flip"] is c["detectable"] is None

    def test_too_few_seeds_leave_the_condition_open(self, claim, tmp_path):
        verdict = decide(tmp_path, replace(AS_CLAIMED, train_accuracy=UNDERFITTING), seeds=4)[claim]
        assert verdict["verdict"] == "inconclusive"
        assert {c["reason"] for c in verdict["comparisons"]} == {"4 seeds, at least 5 needed"}


def with_condition(folder, monkeypatch, name: str, **keys) -> None:
    """The claims file with a condition in one claim: vanilla's fit."""
    content = yaml.safe_load(paths.claims().read_text(encoding="utf-8"))
    condition = {"metric": "fit", "method": "vanilla", "direction": "above", "margin": 0.0, "condition": True}
    content["claims"][name]["parts"].append(condition | keys)
    (folder / "claims.yaml").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(paths, "claims", lambda: folder / "claims.yaml")


class TestClaimsAboutAllSettings:
    """RDP-5 must hold in all tested settings."""

    @pytest.mark.parametrize(("world", "word"), [(AS_CLAIMED, "supported"), (CONTRARY, "refuted")])
    def test_those_that_fail_a_condition_do_not_count(self, world, word, tmp_path, monkeypatch):
        with_condition(tmp_path, monkeypatch, "RDP-5")
        verdict = decide(tmp_path, replace(world, train_accuracy=UNDERFITTING))["RDP-5"]
        assert verdict["verdict"] == word
        assert verdict["settings"]["resnet20 on digits"] == "untested"
        assert "1 is untested (the condition does not hold)" in verdict["line"]

    @pytest.mark.parametrize(
        ("direction", "margin", "holds"),
        [
            ("above", 0.9, True),
            ("above", 0.91, False),
            ("below", 0.9, True),
            ("below", 0.89, False),
            ("within", 0.9, True),
            ("within", 0.89, False),
        ],
    )
    def test_a_condition_holds_on_its_side_of_the_margin(self, direction, margin, holds, tmp_path, monkeypatch):
        # Trained to 0.999 and tested at 0.998: the fit is 0.9 points.
        with_condition(tmp_path, monkeypatch, "RDP-5", direction=direction, margin=margin)
        verdict = decide(tmp_path, replace(AS_CLAIMED, accuracy={"vanilla": 0.998}))["RDP-5"]
        assert set(verdict["settings"].values()) == {"holds" if holds else "untested"}


def test_a_condition_is_part_of_a_claims_digest(tmp_path, monkeypatch):
    before = model.load()
    with_condition(tmp_path, monkeypatch, "RDP-5")
    after = model.load()
    assert {name for name in before.claims if before.digest(name) != after.digest(name)} == {"RDP-5"}


def test_a_plain_network_cannot_lose_more_than_the_residual_one_keeps(tmp_path):
    world = replace(AS_CLAIMED, reconstruction={"vanilla": 0.05, "plain": 0.0})
    content = verdict_json.write(plant(load(tmp_path), tmp_path, world))
    verdict = next(claim for claim in content["claims"] if claim["name"] == "PNNH-1")["verdicts"]["exploratory"]
    assert verdict["verdict"] == "not tested"
    assert verdict["line"].startswith("Vanilla keeps too little in ")
