"""What a study's sweep of learning rates and norm gains asks for, and every way to ask for it wrongly."""

import copy
from typing import Any

import pytest

from rdp.errors import UserError
from rdp.spec import Choice, Recipe, RunSpec, Tuning
from rdp.study import Plan, load

RATES, GAINS, SEEDS = [0.02, 0.05], [0.5, 1.0, 0.2], [1000, 1001]


@pytest.fixture
def tuned_content(study_content) -> dict[str, Any]:
    """The small study, with a sweep over two rates and two seeds and no learning rate of its own."""
    del study_content["recipe"]["learning_rate"]
    return study_content | {"tune": {"learning_rates": RATES, "seeds": SEEDS}}


@pytest.fixture
def plan_of(write_study):
    """The plan of a study's content."""
    return lambda content: load(write_study(content))


@pytest.fixture
def complaint_of(write_study):
    """The one line, after the file's name, that a study's content is refused with."""

    def complain(content: Any) -> str:
        file = write_study(content)
        with pytest.raises(UserError) as error:
            load(file)
        message = str(error.value)
        assert message.startswith(f"{file}: ")
        assert "\n" not in message
        return message.removeprefix(f"{file}: ")

    return complain


def with_grid(content: dict[str, Any], **keys: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    content["grids"][0] |= keys
    return content


def give(content: dict[str, Any], place: str, changes: dict[str, Any]) -> None:
    """Set values of the recipe of the study, its grid, its sweep or each method."""
    if place == "study":
        content["recipe"] |= changes
    elif place == "grid":
        content["grids"][0]["recipe"] = changes
    elif place == "tune":
        content["tune"]["recipe"] = changes
    else:
        content["methods"] = {label: (entry or {}) | {"recipe": changes} for label, entry in content["methods"].items()}


class TestBadTune:
    @pytest.mark.parametrize("seeds", [[1, 7], [5, 0], [0, 1]])
    def test_a_seed_of_the_study_itself_is_refused(self, seeds, tuned_content, complaint_of):
        tuned_content["tune"]["seeds"] = seeds
        shared = min({0, 1} & set(seeds))
        assert complaint_of(tuned_content) == (
            f"tune.seeds: {shared} is also a seed of the study; the sweep needs other seeds"
        )

    def test_so_is_one_that_the_study_lists(self, tuned_content, complaint_of):
        assert complaint_of(tuned_content | {"seeds": [3, 1001]}).startswith("tune.seeds: 1001 is also a seed")

    def test_a_grids_rates_need_a_sweep(self, study_content, complaint_of):
        message = complaint_of(with_grid(study_content, learning_rates=[0.1]))
        assert message == "grids[0].learning_rates: the study has no 'tune'"

    def test_no_learning_rate_at_all_is_refused(self, study_content, complaint_of):
        study_content["recipe"]["learning_rate"] = None
        assert complaint_of(study_content) == "recipe.learning_rate: null, and the study does not tune it"

    @pytest.mark.parametrize("place", ["grid", "method"])
    def test_nor_may_a_grid_or_method_take_it_away(self, place, study_content, complaint_of):
        nothing = {"learning_rate": None}
        if place == "grid":
            content = with_grid(study_content, recipe=nothing)
        else:
            content = study_content | {"methods": {"vanilla": {"recipe": nothing}}}
        assert "learning_rate: null, and the study does not tune it" in complaint_of(content)

    def test_nor_where_the_sweep_leaves_its_grid_out(self, tuned_content, complaint_of):
        content = with_grid(tuned_content, learning_rates=[], recipe={"learning_rate": None})
        assert "learning_rate: null, and the study does not tune it" in complaint_of(content)

    @pytest.mark.parametrize(
        ("tune", "said"),
        [
            ({"learning_rats": RATES}, ["tune.learning_rats: unknown key", "did you mean 'learning_rates'?", "seeds"]),
            ({"seads": [7]}, ["tune.seads: unknown key", "did you mean 'seeds'?", "recipe"]),
            ({"recipe": {"epoch": 3}}, ["tune.recipe.epoch: unknown key", "did you mean 'epochs'?"]),
            ({"recipe": {"epochs": 0}}, ["tune.recipe.epochs", "greater than or equal to 1"]),
            ({"learning_rates": [0.1, 0]}, ["tune.learning_rates[1]", "greater than 0"]),
            ({"learning_rates": [float("inf")]}, ["tune.learning_rates[0]", "inf"]),
            ({"learning_rates": 0.1}, ["tune.learning_rates", "list"]),
            ({"norm_gain": GAINS}, ["tune.norm_gain: unknown key", "did you mean 'norm_gains'?"]),
            ({"learning_rates": RATES, "norm_gains": [0.5, 0]}, ["tune.norm_gains[1]", "greater than 0"]),
            ({"learning_rates": RATES, "norm_gains": 0.5}, ["tune.norm_gains", "list"]),
            ({"learning_rates": RATES, "norm_gains": [0.5, 0.5]}, ["tune: ", "a norm gain", "is listed twice"]),
            ({"norm_gains": GAINS}, ["tune.norm_gains: no grid has learning rates", "add tune.learning_rates"]),
            ({"seeds": []}, ["tune.seeds", "at least 1"]),
            ({"seeds": [-1]}, ["tune.seeds[0]", "greater than or equal to 0"]),
            ([0.1], ["tune", "[0.1]"]),
        ],
    )
    def test_what_is_wrong_in_it_is_named(self, tune, said, study_content, complaint_of):
        message = complaint_of(study_content | {"tune": tune})
        for words in said:
            assert words in message

    def test_a_misspelt_key_of_a_grid_beside_it_is_named(self, tuned_content, complaint_of):
        message = complaint_of(with_grid(tuned_content, learning_rate=[0.1]))
        assert "grids[0].learning_rate: unknown key; did you mean 'learning_rates'?" in message

    def test_a_bad_rate_of_a_grid_is_named(self, tuned_content, complaint_of):
        assert "grids[0].learning_rates[0]" in complaint_of(with_grid(tuned_content, learning_rates=[-1]))

    def test_gains_are_the_studys_and_not_a_grids(self, tuned_content, complaint_of):
        message = complaint_of(with_grid(tuned_content, norm_gains=GAINS))
        assert "grids[0].norm_gains: unknown key" in message

    def test_gains_need_a_grid_with_rates(self, tuned_content, complaint_of, plan_of):
        tuned_content["tune"] |= {"norm_gains": GAINS}
        content = with_grid(tuned_content, learning_rates=[], recipe={"learning_rate": 0.1})
        assert complaint_of(content).startswith("tune.norm_gains: no grid has learning rates to try them with")
        del tuned_content["tune"]["learning_rates"]
        plan = plan_of(with_grid(tuned_content, learning_rates=[0.3]))
        assert len(plan.sweep) == 2 * len(GAINS) * len(SEEDS)

    def test_no_norm_gain_at_all_is_refused(self, tuned_content, complaint_of):
        tuned_content["recipe"]["norm_gain"] = None
        assert complaint_of(tuned_content) == "recipe.norm_gain: null, and the study does not tune it"

    @pytest.mark.parametrize(("key", "value"), [("batch_size", 501), ("train_size", 501), ("train_size", 49)])
    def test_a_size_beyond_the_dataset_is_refused_in_the_sweeps_recipe_too(
        self, key, value, tuned_content, complaint_of
    ):
        tuned_content["tune"]["recipe"] = {key: value}
        message = complaint_of(tuned_content)
        assert "tune" in message
        assert "spiral" in message


class TestWhatIsTuned:
    def test_every_run_holds_its_sweep_and_no_rate(self, tuned_content, plan_of):
        for spec in plan_of(tuned_content).specs:
            assert spec.recipe.learning_rate is None
            assert spec.tuning.learning_rates == tuple(RATES)
            assert spec.tuning.seeds == tuple(SEEDS)

    def test_a_grid_may_name_other_rates_or_none(self, tuned_content, plan_of):
        first = tuned_content["grids"][0]
        tuned_content["grids"] += [
            first | {"architectures": ["mlp16"], "learning_rates": [0.7]},
            first | {"architectures": ["mlp32"], "learning_rates": [], "recipe": {"learning_rate": 0.3}},
        ]
        by_architecture = {cell.architecture: cell.specs[0] for cell in plan_of(tuned_content).cells}
        assert by_architecture["mlp8"].tuning.learning_rates == tuple(RATES)
        assert by_architecture["mlp16"].tuning.learning_rates == (0.7,)
        assert by_architecture["mlp32"].tuning is None
        assert by_architecture["mlp32"].recipe.learning_rate == 0.3

    def test_without_rates_of_its_own_the_sweep_is_of_the_grids_that_name_some(self, tuned_content, plan_of):
        del tuned_content["tune"]["learning_rates"]
        assert [spec.tuning for spec in plan_of(tuned_content).specs] == [None] * 4
        plan = plan_of(with_grid(tuned_content, learning_rates=[0.3]))
        assert {spec.tuning.learning_rates for spec in plan.specs} == {(0.3,)}

    def test_an_empty_list_of_rates_tunes_nothing(self, tuned_content, plan_of):
        tuned_content["tune"]["learning_rates"] = []
        plan = plan_of(tuned_content)
        assert not plan.sweep
        assert {spec.recipe.learning_rate for spec in plan.specs} == {Recipe().learning_rate}

    def test_a_learning_rate_given_beside_the_sweep_changes_no_name(self, tuned_content, plan_of):
        before = [spec.run for spec in plan_of(tuned_content).specs]
        for place in ("study", "grid", "method", "tune"):
            content = copy.deepcopy(tuned_content)
            give(content, place, {"learning_rate": 0.7})
            assert [spec.run for spec in plan_of(content).specs] == before, place

    @pytest.mark.parametrize(
        "change",
        [
            {"learning_rates": [0.02, 0.06]},
            {"learning_rates": [0.05, 0.02]},
            {"seeds": [1000]},
            {"recipe": {"epochs": 1}},
        ],
    )
    def test_another_sweep_is_another_cell(self, change, tuned_content, plan_of):
        before = {cell.id for cell in plan_of(tuned_content).cells}
        tuned_content["tune"] |= change
        assert not before & {cell.id for cell in plan_of(tuned_content).cells}

    def test_a_tuned_cell_is_another_than_one_of_a_given_rate(self, tuned_content, study_content, plan_of):
        tuned = {cell.id for cell in plan_of(tuned_content).cells}
        study_content["recipe"]["learning_rate"] = 0.02
        assert not tuned & {cell.id for cell in plan_of(study_content).cells}


class TestCandidates:
    @pytest.fixture
    def plan(self, tuned_content, plan_of) -> Plan:
        tuned_content["tune"]["recipe"] = {"epochs": 1, "validate_every": 1}
        tuned_content["methods"]["flops"] = {"method": "droppath", "recipe": {"budget": "flops"}}
        return plan_of(tuned_content)

    def test_they_are_every_rate_with_every_seed_and_the_sweeps_recipe(self, plan):
        for cell in plan.cells:
            for spec in cell.specs:
                found = spec.candidates()
                asked = [(rate, seed) for rate in RATES for seed in SEEDS]
                assert [(c.recipe.learning_rate, c.seed) for c in found] == asked
                for candidate in found:
                    assert candidate.tuning is None
                    assert candidate.recipe == spec.recipe.model_copy(
                        update={"learning_rate": candidate.recipe.learning_rate, "epochs": 1}
                    )
                    same = ("dataset", "architecture", "method", "options", "threads", "schema_version")
                    assert all(getattr(candidate, name) == getattr(spec, name) for name in same)

    def test_a_run_of_a_given_rate_has_none(self, make_spec):
        assert make_spec().candidates() == []

    def test_they_carry_no_digest_of_the_run_that_asks(self, plan):
        for spec in plan.specs:
            known = spec.cell, spec.spec_digest, spec.instance  # kept by the run once asked for
            for candidate in spec.candidates():
                assert candidate.cell != known[0]
                assert candidate.spec_digest != known[1]
                fresh = RunSpec(**candidate.model_dump())
                assert (candidate.cell, candidate.spec_digest) == (fresh.cell, fresh.spec_digest)

    def test_every_seed_of_a_cell_has_the_same_and_every_one_a_name_of_its_own(self, plan):
        for cell in plan.cells:
            names = [[c.run for c in spec.candidates()] for spec in cell.specs]
            assert names[0] == names[1]
            assert len(set(names[0])) == 4

    def test_the_plans_sweep_is_all_of_them_once(self, plan):
        assert list(plan.sweep) == [run for cell in plan.cells for run in (c.run for c in cell.specs[0].candidates())]
        assert len(plan.sweep) == 3 * 4
        assert all(spec.run == run for run, spec in plan.sweep.items())
        assert not plan.sweep.keys() & {spec.run for spec in plan.specs}

    def test_they_are_other_runs_than_those_of_the_same_recipe_outside_a_sweep(self, plan, study_content, plan_of):
        assert all(candidate.sweep for candidate in plan.sweep.values())
        assert not any(spec.sweep for spec in plan.specs)
        study_content["recipe"] |= {"learning_rate": 0.05, "epochs": 1}
        outside = list(plan_of(study_content | {"seeds": [1001]}).specs)
        inside = [RunSpec(**spec.model_dump() | {"sweep": True}) for spec in outside]
        assert {spec.run for spec in inside} < plan.sweep.keys()
        assert not {spec.run for spec in outside} & plan.sweep.keys()

    def test_another_order_of_seeds_or_rates_names_the_same_sweep(self, plan, tuned_content, plan_of):
        tuned_content["tune"] |= {"learning_rates": RATES[::-1], "seeds": SEEDS[::-1]}
        assert set(plan_of(tuned_content).sweep) == set(plan.sweep)

    def test_a_sweep_without_rates_or_seeds_is_refused(self):
        for empty in ({"learning_rates": ()}, {"seeds": ()}):
            with pytest.raises(ValueError, match="at least 1"):
                Tuning(**{"learning_rates": (0.1,), "seeds": (7,), "recipe": Recipe()} | empty)


class TestNormGains:
    @pytest.fixture
    def content(self, tuned_content) -> dict[str, Any]:
        tuned_content["tune"] |= {"norm_gains": GAINS}
        return tuned_content

    def test_every_run_holds_its_sweep_and_neither_rate_nor_gain(self, content, plan_of):
        for spec in plan_of(content).specs:
            assert (spec.recipe.learning_rate, spec.recipe.norm_gain) == (None, None)
            assert (spec.tuning.learning_rates, spec.tuning.norm_gains) == (tuple(RATES), tuple(GAINS))
            assert spec.tuning.swept == {"learning_rate": None, "norm_gain": None}

    def test_candidates_are_every_rate_with_every_gain_with_every_seed(self, content, plan_of):
        plan = plan_of(content)
        asked = [
            (0.02, 0.5, 1000), (0.02, 0.5, 1001), (0.02, 1.0, 1000), (0.02, 1.0, 1001), (0.02, 0.2, 1000),
            (0.02, 0.2, 1001), (0.05, 0.5, 1000), (0.05, 0.5, 1001), (0.05, 1.0, 1000), (0.05, 1.0, 1001),
            (0.05, 0.2, 1000), (0.05, 0.2, 1001),
        ]  # fmt: skip
        for spec in plan.specs:
            found = spec.candidates()
            assert [(c.recipe.learning_rate, c.recipe.norm_gain, c.seed) for c in found] == asked
            assert all(c.sweep and c.tuning is None for c in found)
            values = {"learning_rate": 0.05, "norm_gain": 0.2}
            assert found[-1].recipe == spec.recipe.model_copy(update=values)
        assert len(plan.sweep) == len(plan.cells) * len(asked)

    def test_choices_are_the_candidates_without_seeds(self, content, plan_of):
        tuning = plan_of(content).cells[0].specs[0].tuning
        found = [(choice.learning_rate, choice.norm_gain) for choice in tuning.choices()]
        assert found == [(rate, gain) for rate in RATES for gain in GAINS]
        assert str(tuning.choices()[0]) == "learning rate 0.02 and norm gain 0.5"
        assert str(Choice(learning_rate=0.02)) == "learning rate 0.02"

    def test_a_sweep_of_one_gain_is_that_of_a_recipe_with_it(self, content, tuned_content, plan_of):
        alone = plan_of(content | {"tune": content["tune"] | {"norm_gains": [0.5]}})
        tuned_content["tune"] = {"learning_rates": RATES, "seeds": SEEDS, "recipe": {"norm_gain": 0.5}}
        assert set(alone.sweep) == set(plan_of(tuned_content).sweep)

    @pytest.mark.parametrize("place", ["study", "grid", "method", "tune"])
    def test_a_gain_given_beside_the_sweep_changes_no_name(self, place, content, plan_of):
        before = [spec.run for spec in plan_of(content).specs]
        give(content, place, {"norm_gain": 0.7})
        assert [spec.run for spec in plan_of(content).specs] == before

    def test_without_gains_runs_and_candidates_have_the_gain_of_their_recipe(self, tuned_content, plan_of):
        tuned_content["recipe"]["norm_gain"] = 0.7
        for spec in plan_of(tuned_content).specs:
            assert spec.recipe.norm_gain == 0.7
            assert spec.tuning.swept == {"learning_rate": None}
            assert {candidate.recipe.norm_gain for candidate in spec.candidates()} == {0.7}
            assert Choice(learning_rate=0.1).apply(spec.recipe).norm_gain == 0.7

    @pytest.mark.parametrize("gains", [[0.5, 1.0], [0.5, 1.0, 0.3], [1.0, 0.5, 0.2], []])
    def test_other_gains_are_another_cell(self, gains, content, plan_of):
        before = {cell.id for cell in plan_of(content).cells}
        content["tune"]["norm_gains"] = gains
        assert not before & {cell.id for cell in plan_of(content).cells}

    def test_a_grid_without_a_sweep_has_the_gain_of_its_recipe(self, content, plan_of):
        first = content["grids"][0]
        given = {"learning_rate": 0.3, "norm_gain": 0.7}
        content["grids"] += [
            first | {"architectures": ["mlp16"], "learning_rates": [0.7]},
            first | {"architectures": ["mlp32"], "learning_rates": [], "recipe": given},
        ]
        by_architecture = {cell.architecture: cell.specs[0] for cell in plan_of(content).cells}
        assert by_architecture["mlp16"].tuning.norm_gains == tuple(GAINS)
        assert len(by_architecture["mlp16"].candidates()) == len(GAINS) * len(SEEDS)
        assert by_architecture["mlp32"].tuning is None
        assert by_architecture["mlp32"].recipe.norm_gain == 0.7

    def test_the_plan_says_what_is_swept(self, content, tuned_content, study_content, plan_of):
        assert (plan_of(content).norm_gains, plan_of(content).swept) == (GAINS, "learning rates and norm gains")
        del content["tune"]["norm_gains"]
        for other in (content, study_content):
            assert (plan_of(other).norm_gains, plan_of(other).swept) == ([], "learning rates")


class TestBudgets:
    @pytest.mark.parametrize("budget", ["steps", "flops", "updates"])
    def test_a_methods_recipe_sets_its_budget_and_names_other_runs(self, budget, study_content, plan_of):
        study_content["methods"]["other"] = {"method": "droppath", "rate": 0.3, "recipe": {"budget": budget}}
        plan = plan_of(study_content)
        assert [cell.specs[0].recipe.budget for cell in plan.cells] == ["steps", "steps", budget]

    def test_the_default_is_steps_and_writing_it_names_the_same_runs(self, study_content, plan_of):
        before = [spec.run for spec in plan_of(study_content).specs]
        study_content["recipe"]["budget"] = "steps"
        assert [spec.run for spec in plan_of(study_content).specs] == before
        study_content["recipe"]["budget"] = "flops"
        assert not set(before) & {spec.run for spec in plan_of(study_content).specs}

    def test_an_unknown_one_is_named(self, study_content, complaint_of):
        study_content["recipe"]["budget"] = "flop"
        message = complaint_of(study_content)
        assert "recipe.budget" in message
        assert "'steps', 'flops' or 'updates'" in message


class TestVisionTransformers:
    @pytest.fixture
    def content(self, study_content) -> dict[str, Any]:
        study_content["methods"] = {"vanilla": None, "plain": None, "pnnh": None}
        study_content["recipe"]["batch_size"] = 32
        return with_grid(study_content, architectures=["vit_tiny"])

    def left_out(self, plan: Plan) -> dict[tuple[str, str], str]:
        return {(skip.dataset, skip.label): skip.reason for skip in plan.skipped}

    def test_images_that_do_not_fall_into_patches_are_left_out_with_their_size(self, content, plan_of):
        content = with_grid(content, datasets=["digits", "fashion_mnist_14"])
        plan = plan_of(content)
        assert {cell.dataset for cell in plan.cells} == {"digits"}  # 8 x 8 by 4 x 4
        reason = "vit_tiny reads patches of 4 x 4 pixels, and the images have 14 x 14"
        assert self.left_out(plan)["fashion_mnist_14", "vanilla"] == reason

    def test_smaller_patches_fit(self, content, plan_of):
        content = with_grid(content, datasets=["digits", "fashion_mnist_14"], architectures=["vit_micro"])
        assert {cell.dataset for cell in plan_of(content).cells} == {"digits", "fashion_mnist_14"}

    def test_a_variant_that_they_have_no_form_of_is_left_out_with_those_that_they_have(self, content, plan_of):
        content["methods"] = {"plain": None, "pnnh": None, "inner": {"method": "pnnh", "variant": "sum_inner"}}
        plan = plan_of(with_grid(content, datasets=["digits"]))
        assert [cell.label for cell in plan.cells] == ["plain", "pnnh"]
        assert self.left_out(plan) == {
            ("digits", "inner"): "vit_tiny has no sum_inner form; valid: concat, window, sum"
        }

    def test_points_of_the_plane_are_no_images(self, content, complaint_of):
        message = complaint_of(with_grid(content, datasets=["spiral"]))
        assert "no cell can be trained" in message
        assert "vit_tiny reads images, and the dataset holds vectors" in message


def test_the_rdp_study_is_read(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plan = load("rdp")
    assert len(list(plan.specs)) == 10 * len(plan.cells)
    budgets = {cell.label: {spec.recipe.budget for spec in cell.specs} for cell in plan.cells}
    assert budgets["rdp_equal_flops"] == {"flops"}
    assert budgets["rdp_equal_updates"] == {"updates"}
    assert all((cell.specs[0].tuning is None) == (cell.dataset == "spiral") for cell in plan.cells)
    assert not plan.skipped
