"""Studies: every bad input is one line with the file, the key and what is valid; a study is its cells.

What a sweep of learning rates adds to them is in test_sweep_spec.py.
"""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rdp import study
from rdp.errors import UserError
from rdp.study import load
from rdp.study.schema import json_schema
from rdp.utils import paths


def changed(content: dict, path: str, value: object) -> dict:
    """The study with one key, ``a.b.c``, set; list indices are digits."""
    content = copy.deepcopy(content)
    *parents, last = path.split(".")
    place = content
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return content


def complaint(file: str) -> str:
    with pytest.raises(UserError) as error:
        load(file)
    message = str(error.value)
    assert "\n" not in message
    return message


BAD = {
    "unknown architecture": (
        "grids.0.architectures",
        ["resnet_20"],
        ["grids[0].architectures", "'resnet_20'", "did you mean 'resnet20'?", "valid:", "mlp32"],
    ),
    "unknown dataset": ("grids.0.datasets", ["digit"], ["grids[0].datasets", "did you mean 'digits'?", "valid:"]),
    "unknown method": ("methods.vanila", None, ["methods.vanila", "did you mean 'vanilla'?", "residual_droppath"]),
    "unknown method under a label": (
        "methods.mine",
        {"method": "drop_path"},
        ["methods.mine.method", "'drop_path'", "did you mean 'droppath'?"],
    ),
    "unknown method in a grid": (
        "grids.0.methods",
        ["droppat"],
        ["grids[0].methods", "did you mean 'droppath'?", "valid: droppath, vanilla"],
    ),
    "unknown probe": ("probes", ["surviving_neuron"], ["probes", "did you mean 'surviving_neurons'?"]),
    "misspelt key": ("sedes", 2, ["sedes: unknown key", "did you mean 'seeds'?", "valid:", "title"]),
    "misspelt key in a grid": ("grids.0.recipes", {}, ["grids[0].recipes: unknown key", "did you mean 'recipe'?"]),
    "misspelt key in the recipe": (
        "recipe.learning_rat",
        0.1,
        ["recipe.learning_rat: unknown key", "did you mean 'learning_rate'?", "weight_decay"],
    ),
    "misspelt key in a grid's recipe": (
        "grids.0.recipe",
        {"epoch": 3},
        ["grids[0].recipe.epoch: unknown key", "did you mean 'epochs'?"],
    ),
    "misspelt key in a method's recipe": (
        "methods.droppath.recipe",
        {"epoch": 3},
        ["methods.droppath.recipe.epoch: unknown key", "did you mean 'epochs'?"],
    ),
    "misspelt option of a method": (
        "methods.droppath.ratte",
        0.1,
        ["methods.droppath.ratte: unknown key", "did you mean 'rate'?", "schedule"],
    ),
    "negative rate": ("methods.droppath.rate", -0.1, ["methods.droppath.rate", "greater than or equal to 0", "-0.1"]),
    "rate 1": ("methods.droppath.rate", 1, ["methods.droppath.rate", "less than 1"]),
    "rate not a number": ("methods.droppath.rate", float("nan"), ["methods.droppath.rate", "nan"]),
    "unknown choice": ("methods.droppath.schedule", "linea", ["methods.droppath.schedule", "'linear' or 'uniform'"]),
    "no seeds": ("seeds", 0, ["seeds", "greater than or equal to 1", "found 0"]),
    "a seed twice": ("seeds", [3, 4, 3], ["seeds", "twice"]),
    "seeds as text": ("seeds", "ten", ["seeds", "integer", "'ten'"]),
    "negative learning rate": ("recipe.learning_rate", -1, ["recipe.learning_rate", "greater than 0", "-1"]),
    "unknown optimizer": ("recipe.optimizer", "sdg", ["recipe.optimizer", "'sgd' or 'adamw'", "'sdg'"]),
    "unknown device": ("device", "gpu", ["device", "'auto', 'cpu' or 'cuda'", "'gpu'"]),
    "no threads": ("threads", 0, ["threads", "greater than or equal to 1"]),
    "no title": ("title", "", ["title"]),
    "no methods": ("methods", {}, ["methods", "at least 1"]),
    "no grids": ("grids", [], ["grids", "at least 1"]),
    "a grid that is no mapping": ("grids.0", "spiral", ["grids[0]", "'spiral'"]),
    "a method's entry that is no mapping": ("methods.droppath", 0.2, ["methods.droppath", "0.2"]),
    "a label with odd characters": ("methods", {"Drop Path": {"method": "droppath"}}, ["methods", "Drop Path"]),
    "a label that climbs": ("methods", {"../x": {"method": "vanilla"}}, ["methods", "../x"]),
    "a batch larger than the training set": ("recipe.batch_size", 501, ["batch_size 501", "spiral"]),
    "a batch larger than the part trained on": ("recipe.train_size", 49, ["batch_size 50", "spiral"]),
    "Nesterov momentum of adamw": (
        "recipe",
        {"nesterov": True, "optimizer": "adamw", "batch_size": 50},
        ["recipe: nesterov needs sgd with momentum, found adamw"],
    ),
    "Nesterov momentum of 0": (
        "methods.droppath.recipe",
        {"nesterov": True, "momentum": 0},
        ["recipe: nesterov needs sgd with momentum, found momentum 0"],
    ),
    "unknown flips": ("recipe.flip", "alternate", ["recipe.flip", "True or 'alternating', found 'alternate'"]),
    "Cutout of points": ("recipe.cutout", 3, ["recipe: cutout needs images, and spiral holds vectors"]),
    "Cutout of more than an image": (
        "grids.0",
        {"datasets": ["digits"], "architectures": ["resnet20"], "recipe": {"cutout": 9}},
        ["recipe: cutout 9 is larger than the images of digits"],
    ),
    "no cell that makes sense": (
        "grids.0.architectures",
        ["resnet20"],
        ["grids", "no cell", "resnet20 reads images", "holds vectors"],
    ),
    "droppath on a plain path alone": (
        "methods",
        {"droppath": {"path": "plain"}},
        ["no cell", "droppath drops residual branches", "plain"],
    ),
    "two labels of the same runs": (
        "methods",
        {"one": {"method": "droppath"}, "two": {"method": "droppath", "rate": 0.2}},
        ["'one' and 'two' are the same runs", "mlp8", "spiral"],
    ),
}


class TestBadInput:
    @pytest.mark.parametrize(("path", "value", "said"), BAD.values(), ids=BAD)
    def test_it_is_named_in_one_line(self, path, value, said, study_content, write_study):
        file = write_study(changed(study_content, path, value))
        message = complaint(file)
        assert message.startswith(f"{file}: ")
        for words in said:
            assert words in message

    @pytest.mark.parametrize("key", ["title", "seeds", "methods", "grids"])
    def test_a_missing_key_is_named(self, key, study_content, write_study):
        del study_content[key]
        assert complaint(write_study(study_content)).endswith(f"{key}: field required")

    @pytest.mark.parametrize("text", ["", "- a\n- b", "3", "text"])
    def test_a_file_that_is_no_mapping_is_named(self, text, write_study):
        file = write_study(text)
        assert complaint(file).startswith(f"{file}: a study is a mapping of keys, found")

    @pytest.mark.parametrize("text", ["a: [", "\ta: 1", "a: b: c", "!!python/object/apply:os.getcwd []", "? [a]\n: b"])
    def test_broken_yaml_is_named_and_runs_nothing(self, text, write_study):
        file = write_study(text)
        assert complaint(file).startswith(f"{file}: not readable as YAML")

    def test_a_binary_file_is_named(self, tmp_path):
        file = tmp_path / "small.yaml"
        file.write_bytes(b"\xff\xfe\x00")
        assert complaint(str(file)).startswith(f"{file}: not readable as YAML")

    @pytest.mark.parametrize("text", ["yes: 1\n", "1: 2\n", "null: 3\n"])
    def test_a_key_that_is_no_text_is_refused(self, text, write_study):
        assert "every key must be text" in complaint(write_study(text))

    @pytest.mark.parametrize(
        "name", ["odd name.yaml", "Small.yaml", "small-1.yaml", "é.yaml", "_a.yaml", f"{'a' * 65}.yaml"]
    )
    def test_a_file_name_with_odd_characters_is_refused(self, name, study_content, write_study):
        message = complaint(write_study(study_content, name))
        assert "a-z, 0-9 and _" in message
        assert Path(name).stem in message

    @pytest.mark.parametrize("name", ["../quick", "../../etc/passwd", "quick/", "", "Quick"])
    def test_a_name_that_is_no_studys_is_refused_with_those_there_are(self, name):
        message = complaint(name)
        assert f"no study '{name}'" in message
        assert "quick" in message

    def test_an_absent_file_is_named(self, tmp_path):
        assert complaint(str(tmp_path / "absent.yaml")) == f"{tmp_path / 'absent.yaml'}: no such study file"

    def test_the_place_of_a_bad_seed_count_is_a_key_of_the_file(self, study_content, write_study):
        assert ": seeds: " in complaint(write_study(study_content | {"seeds": 0}))

    @pytest.mark.parametrize(("seeds", "said"), [([-1], "greater than or equal to 0"), ([], "must not be empty")])
    def test_a_bad_list_of_seeds_is_told_as_a_list(self, seeds, said, study_content, write_study):
        assert said in complaint(write_study(study_content | {"seeds": seeds}))

    @pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "norm_gain"])
    def test_an_infinite_number_is_named_with_its_key(self, key, study_content, write_study):
        content = changed(study_content, f"recipe.{key}", float("inf"))
        assert f"recipe.{key}" in complaint(write_study(content))

    def test_a_misspelt_recipe_of_a_method_is_named_with_the_near_miss(self, study_content, write_study):
        content = changed(study_content, "methods.droppath.recip", {"epochs": 3})
        assert "did you mean 'recipe'?" in complaint(write_study(content))

    def test_a_key_that_stands_twice_is_refused(self, study_content, write_study):
        assert "seeds" in complaint(write_study(yaml.safe_dump(study_content) + "seeds: 3\n"))

    def test_a_training_size_beyond_the_dataset_is_refused(self, study_content, write_study):
        assert "train_size" in complaint(write_study(changed(study_content, "recipe.train_size", 501)))

    def test_the_command_says_it_in_one_line_and_exits_with_2(self, study_content, write_study, run_python):
        file = write_study(study_content | {"sedes": 2})
        for command in ("plan", "status", "train"):
            done = run_python("-m", "rdp.cli", command, file)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"rdp: {file}: sedes: unknown key")
            assert done.stderr.count("\n") == 1


class TestCells:
    def test_a_study_is_every_dataset_with_every_architecture_and_method(self, study_content, write_study):
        content = changed(study_content, "grids.0.architectures", ["mlp8", "mlp16"])
        content["grids"].append({"datasets": ["digits"], "architectures": ["resnet20"], "methods": ["vanilla"]})
        plan = load(write_study(content))
        assert [(c.dataset, c.architecture, c.label) for c in plan.cells] == [
            ("spiral", "mlp8", "vanilla"),
            ("spiral", "mlp8", "droppath"),
            ("spiral", "mlp16", "vanilla"),
            ("spiral", "mlp16", "droppath"),
            ("digits", "resnet20", "vanilla"),
        ]
        assert [spec.seed for spec in plan.specs] == [0, 1] * 5
        assert len({spec.run for spec in plan.specs}) == 10

    def test_what_makes_no_sense_is_skipped_with_its_reason(self, study_content, write_study):
        content = changed(study_content, "grids.0.architectures", ["mlp8", "resnet20"])
        plan = load(write_study(content))
        assert {c.architecture for c in plan.cells} == {"mlp8"}
        assert {(s.architecture, s.reason) for s in plan.skipped} == {
            ("resnet20", "resnet20 reads images, and the dataset holds vectors")
        }

    def test_recipes_are_merged_from_study_to_grid_to_method(self, study_content, write_study):
        content = changed(study_content, "grids.0.recipe", {"epochs": 3, "warmup": 0})
        content["methods"]["droppath"]["recipe"] = {"epochs": 4}
        vanilla, droppath = (cell.specs[0].recipe for cell in load(write_study(content)).cells)
        assert (vanilla.epochs, vanilla.warmup, vanilla.batch_size) == (3, 0, 50)
        assert (droppath.epochs, droppath.warmup, droppath.batch_size) == (4, 0, 50)

    def test_a_method_may_stand_under_several_labels(self, study_content, write_study):
        content = study_content | {"methods": {f"drop{r}": {"method": "droppath", "rate": r / 10} for r in (1, 2)}}
        plan = load(write_study(content))
        assert [(c.label, c.specs[0].method, c.specs[0].options["rate"]) for c in plan.cells] == [
            ("drop1", "droppath", 0.1),
            ("drop2", "droppath", 0.2),
        ]

    def test_a_cell_that_two_grids_ask_for_is_one(self, study_content, write_study):
        study_content["grids"] *= 2
        assert len(load(write_study(study_content)).cells) == 2

    def test_adding_a_seed_or_a_method_keeps_every_other_runs_name(self, study_content, write_study):
        before = {spec.run for spec in load(write_study(study_content)).specs}
        content = changed(study_content | {"seeds": 3, "title": "other"}, "methods.plain", None)
        after = {spec.run for spec in load(write_study(content)).specs}
        assert before < after
        assert len(after) == 9

    def test_leaving_out_a_default_names_the_same_runs_as_writing_it(self, study_content, write_study):
        spelled = changed(study_content, "methods.droppath", {"rate": 0.2, "schedule": "linear", "path": "residual"})
        spelled["recipe"] = spelled["recipe"] | {"momentum": 0.9, "weight_decay": "5e-4"}
        one, other = (load(write_study(content)) for content in (study_content, spelled))
        assert [spec.spec_digest for spec in one.specs] == [spec.spec_digest for spec in other.specs]

    @pytest.mark.parametrize(
        ("seeds", "per_job", "batches"),
        [
            (3, None, [[0, 1, 2]]),
            (5, 2, [[0, 1], [2, 3], [4]]),
            ([7, 3, 9], 2, [[7, 3], [9]]),
            (2, 10, [[0, 1]]),
            (3, 1, [[0], [1], [2]]),
        ],
    )
    def test_seeds_are_split_over_jobs_and_no_run_changes(self, seeds, per_job, batches, study_content, write_study):
        plan = load(write_study(study_content | {"seeds": seeds, "seeds_per_job": per_job}))
        assert plan.seed_batches() == batches
        together = load(write_study(study_content | {"seeds": seeds}))
        assert [spec.run for spec in plan.specs] == [spec.run for spec in together.specs]

    def test_the_quick_study_is_read(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        plan = load("quick")
        assert len(plan.cells) == 25
        assert len(list(plan.specs)) == 125


class TestSchema:
    def test_the_file_for_editors_is_what_the_models_give(self, root):
        file = root / "config" / "study.schema.json"
        assert json.loads(file.read_text()) == json_schema(), "run: rdp schema > config/study.schema.json"

    def test_every_study_of_this_project_obeys_it(self):
        jsonschema.Draft202012Validator.check_schema(json_schema())
        for file in paths.studies().values():
            jsonschema.validate(yaml.safe_load(file.read_text()), json_schema())

    @pytest.mark.parametrize("path", ["sedes", "grids.0.recipes", "recipe.epoch", "grids.0.recipe"])
    def test_a_misspelt_key_does_not(self, path, study_content):
        content = changed(study_content, path, {"epoch": 1} if path == "grids.0.recipe" else 1)
        content["methods"]["vanilla"] = {}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content, json_schema())


def test_studies_in_the_working_directory_come_first(study_content, tmp_path, monkeypatch):
    folder = tmp_path / "config" / "studies"
    folder.mkdir(parents=True)
    folder.joinpath("quick.yaml").write_text(yaml.safe_dump(study_content))
    monkeypatch.chdir(tmp_path)
    assert study.load("quick").study.title == "a small study"
