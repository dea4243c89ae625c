"""Run specifications: digests that change with every field, and readable names."""

import json

import pytest

from rdp.spec import Recipe, RunSpec

OTHER_RECIPE = {
    "optimizer": "adamw",
    "learning_rate": 0.03,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.2,
    "epochs": 3,
    "budget": "flops",
    "batch_size": 51,
    "crop_padding": 1,
    "flip": True,
    "cutout": 2,
    "precision": "bfloat16",
    "channels_last": True,
    "norm_gain": 0.5,
    "train_size": 100,
    "validate_every": 2,
    "accumulate": 5,
    "ema": 0.9,
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "cutmix": 1.0,
    "resized_crop": 0.08,
    "randaugment": "rand-m9-mstd0.5",
    "compile": True,
}
OTHER_SPEC = {
    "dataset": "digits",
    "architecture": "mlp16",
    "method": "residual_droppath",
    "options": {"path": "residual", "rate": 0.3, "schedule": "linear"},
    "threads": 2,
    "processes": 2,
    "seed": 1,
    "tuning": {"learning_rates": [0.1], "seeds": [1000], "recipe": {"learning_rate": None}},
    "sweep": True,
}


class TestRunSpec:
    def test_every_field_is_covered(self):
        assert OTHER_RECIPE.keys() == Recipe.model_fields.keys()
        assert OTHER_SPEC.keys() == RunSpec.model_fields.keys() - {"recipe", "schema_version"}

    @pytest.mark.parametrize("field", [*OTHER_SPEC, *OTHER_RECIPE])
    def test_its_digest_changes_with_each_field(self, field, make_spec):
        spec = make_spec("droppath")
        content = spec.model_dump()
        if field in OTHER_SPEC:
            content[field] = OTHER_SPEC[field]
        else:
            content["recipe"] |= {field: OTHER_RECIPE[field]}
        altered = RunSpec(**content)
        assert altered.spec_digest != spec.spec_digest
        assert altered.run != spec.run
        assert (altered.cell == spec.cell) == (field == "seed")

    def test_it_survives_json_with_the_same_digest(self, make_spec):
        spec = make_spec("pnnh", learning_rate=0.1 + 0.2, weight_decay=1e-300)
        again = RunSpec(**json.loads(json.dumps(spec.model_dump(mode="json"))))
        assert again == spec
        assert again.spec_digest == spec.spec_digest

    def test_its_name_is_readable(self, make_spec):
        spec = make_spec("droppath", seed=3)
        assert spec.cell.startswith("mlp8-spiral-droppath-")
        assert spec.run == f"{spec.cell}/seed-0003"

    def test_its_digest_is_pinned(self, make_spec):
        # Stores are addressed by it: a change here orphans every record there is.
        assert make_spec("droppath", seed=3).spec_digest[:16] == "985506ee0697d182"
