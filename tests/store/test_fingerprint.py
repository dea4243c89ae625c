"""The code digest changes with what determines a cell's numbers, and with nothing else.

What it is taken over, the skeleton of a syntax tree, is in test_skeleton.py.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from rdp.methods import available
from rdp.spec import RunSpec
from rdp.store import fingerprint
from rdp.store.fingerprint import NEUTRAL, modules, neutral

FAMILIES = {
    "mlp32": "rdp.models.families.mlp",
    "resnet20": "rdp.models.families.resnet",
    "vit_micro": "rdp.models.families.vit",
}
DROPPING = {"droppath", "droppath_batch", "random_freeze", "residual_droppath"}
TUNED = [("vanilla", "mlp32", "tuned"), ("residual_droppath", "vit_micro", "tuned")]
CELLS = [*((method, family, "") for method in available() for family in FAMILIES), *TUNED]

DIGESTS = """
import json, sys
from rdp.store import fingerprint
assert fingerprint.__file__.startswith(sys.argv[1]), fingerprint.__file__
cells = json.loads(sys.argv[2])
print(json.dumps({"/".join(cell): fingerprint.code_digest(*cell[:2], "digits", tuned=bool(cell[2])) for cell in cells}))
"""


class Copy:
    """A copy of the package that a test may change."""

    def __init__(self, source: Path, folder: Path, run_python) -> None:
        self.folder, self.run_python = folder, run_python
        self.package = folder / "rdp"
        shutil.copytree(source, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.before: dict[str, str] = {}

    def digests(self) -> dict[str, str]:
        """The code digest of every cell, as a process on this copy finds it."""
        script = ("-c", DIGESTS, str(self.folder), json.dumps(CELLS))
        done = self.run_python(*script, cwd=self.folder, PYTHONPATH=str(self.folder))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.package / file
        text = path.read_text()
        assert old in text, f"{file} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))

    def changed(self) -> set[str]:
        """The cells whose digest is no longer that of the unchanged package."""
        after = self.digests()
        return {cell for cell in self.before if self.before[cell] != after[cell]}

    def changed_by(self, file: str, old: str, new: str) -> set[str]:
        """The cells whose digest an edit changes."""
        self.edit(file, old, new)
        return self.changed()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory, run_python) -> Copy:
    """A copy of the package as it is, with its digests."""
    copy = Copy(Path(fingerprint.__file__).parents[1], tmp_path_factory.mktemp("unchanged"), run_python)
    copy.before = copy.digests()
    return copy


@pytest.fixture
def package(unchanged, tmp_path, run_python) -> Copy:
    copy = Copy(unchanged.package, tmp_path, run_python)
    copy.before = unchanged.before
    return copy


# Loaded by a run and not counted: packages that hold no code, and probes, which only measure.
UNCOUNTED = {"rdp.probes", "rdp.training", "rdp.utils"}
EVERY = {"/".join(cell) for cell in CELLS}


def cells_of(methods: Collection[str] | None = None, families: Collection[str] | None = None) -> set[str]:
    """The cells with one of these methods, and one of these families; None for any."""
    return {
        "/".join(cell)
        for cell in CELLS
        if (methods is None or cell[0] in methods) and (families is None or cell[1] in families)
    }


def digest_of(cell: tuple[str, str, str]) -> str:
    return fingerprint.code_digest(*cell[:2], "digits", tuned=bool(cell[2]))


class TestCodeDigest:
    def test_a_copy_has_the_digests_of_the_original(self, unchanged):
        assert unchanged.before == {"/".join(cell): digest_of(cell) for cell in CELLS}

    def test_no_two_cells_share_a_digest_nor_a_tuned_one_with_one_of_a_given_rate(self):
        assert len({digest_of(cell) for cell in CELLS}) == len(CELLS)

    def test_a_runs_digest_is_that_of_its_method_and_architecture_and_whether_it_is_tuned(self, make_spec):
        spec = make_spec("droppath")
        assert fingerprint.code_of(spec) == fingerprint.code_digest("droppath", "mlp8", spec.dataset)
        tuning = {"learning_rates": [0.1], "seeds": [7], "recipe": spec.recipe}
        tuned = RunSpec(**spec.model_dump() | {"tuning": tuning})
        assert fingerprint.code_of(tuned) == fingerprint.code_digest("droppath", "mlp8", spec.dataset, tuned=True)
        assert fingerprint.code_of(tuned.candidates()[0]) == fingerprint.code_of(spec)

    def test_a_new_architecture_changes_nothing(self, package):
        old = '"resnet20": {"blocks": 3, "widths": (16, 32, 64)},'
        new = f'{old}\n    "resnet14": {{"blocks": 2, "widths": (16, 32, 64)}},'
        assert package.changed_by("models/families/resnet.py", old, new) == set()

    def test_an_architectures_arguments_change_its_own_cells_alone(self, package):
        changed = package.changed_by("models/families/mlp.py", '"mlp32": {"depth": 32,', '"mlp32": {"depth": 31,')
        assert changed == cells_of(families=["mlp32"])

    def test_the_rule_of_choice_changes_tuned_cells_alone(self, package):
        assert package.changed_by(
            "jobs/tuning.py", "-candidate.accuracy, candidate.loss", "candidate.loss, -candidate.accuracy"
        ) == {"/".join(cell) for cell in TUNED}

    def test_a_reworded_rule_of_choice_changes_nothing(self, package):
        assert package.changed_by("jobs/tuning.py", "Result of a sweep at", "Outcome of a sweep at") == set()

    def test_another_version_of_timm_changes_the_cells_built_from_it_alone(self, package):
        installed = package.folder / "timm-99.0.dist-info"
        installed.mkdir()
        installed.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 99.0\n")
        assert package.changed() == cells_of(families=["vit_micro"])

    def test_rewording_comments_and_docstrings_and_reflowing_lines_changes_nothing(self, package):
        package.edit("training/trainer.py", '"""The trainer of a run:', '"""How a run is trained:')
        package.edit("training/trainer.py", '"""Train from the current', '"""Continue from the current')
        package.edit(
            "training/trainer.py", "            self.train_step()\n", "\n            self.train_step()  # one\n\n"
        )
        package.edit(
            "training/trainer.py",
            "self.recipe, self.method = spec.recipe,",
            "self.recipe, self.method = \\\n spec.recipe,",
        )
        package.edit(
            "methods/schedules/residual_droppath.py", '"""ResidualDroppath (arXiv', '"""Residual Droppath (arXiv'
        )
        package.edit(
            "models/families/resnet.py", '"""The two layers of a basic block, up to the second normalisation."""', ""
        )
        package.edit(
            "models/families/resnet.py", "class Branch(nn.Sequential):", "class Branch(nn.Sequential):\n    # kept\n"
        )
        assert package.changed() == set()

    def test_moving_a_module_changes_nothing(self, package):
        (package.package / "averages").mkdir()
        (package.package / "averages" / "__init__.py").write_text("")
        (package.package / "training" / "ema.py").rename(package.package / "averages" / "ema.py")
        package.edit("training/trainer.py", "from rdp.training.ema import", "from rdp.averages.ema import")
        (package.package / "training" / "mixup.py").rename(package.package / "averages" / "mixup.py")
        package.edit("training/trainer.py", '"rdp.training.mixup"', '"rdp.averages.mixup"')
        package.edit("store/fingerprint.py", '"rdp.training.mixup"', '"rdp.averages.mixup"')
        assert package.changed() == set()

    def test_a_changed_module_counts_wherever_it_lies(self, package):
        (package.package / "draws.py").write_text((package.package / "utils" / "rng.py").read_text() + "\nX = 1\n")
        old = "from rdp.utils import rng"
        assert package.changed_by("data/batches.py", old, "from rdp import draws as rng") == EVERY

    def test_annotations_change_nothing(self, package):
        package.edit("models/initialisation.py", "import torch\n", "from typing import Any\n\nimport torch\n")
        package.edit("training/trainer.py", "self._metrics = ", "self._metrics: object = ")
        assert package.changed() == set()

    def test_a_new_methods_file_changes_nothing(self, package):
        new = "from rdp.methods import Method\n\n\nclass Another(Method):\n    pass\n"
        (package.package / "methods" / "schedules" / "another.py").write_text(new)
        assert package.changed() == set()

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("training/trainer.py", "return loss.detach(), (logits", "return 2 * loss.detach(), (logits"),
            ("training/evaluation.py", "_BATCH = 500", "_BATCH = 501"),
            ("utils/rng.py", '"little"', '"big"'),
            ("data/batches.py", "flips = draw.random", "flips = 1 - draw.random"),
            ("models/initialisation.py", "2.0 if", "2.5 if"),
            ("models/gates.py", "shortcut + output * scale", "shortcut + scale * output"),
            ("models/units.py", "if p.requires_grad]", "if True]"),
            ("models/blocks.py", "self, block: nn.Module, part: Part", "self, block: nn.Module, /, part: Part"),
            ("training/cost.py", "_EXAMPLES = 2", "_EXAMPLES = 3"),
            ("methods/__init__.py", "return FULL", "return Iteration('full')"),
            ("methods/__init__.py", "rest_trained: bool = True", "rest_trained: bool = False"),
        ],
    )
    @pytest.mark.slow
    def test_what_every_run_goes_through_changes_every_cell(self, file, old, new, package):
        assert package.changed_by(file, old, new) == EVERY

    def test_a_methods_file_changes_its_own_cells_alone(self, package):
        changed = package.changed_by("methods/schedules/residual_droppath.py", "step % 2 == 0", "step % 2 == 1")
        assert changed == cells_of(["residual_droppath"])

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("methods/dropping.py", "uniform < rates", "uniform <= rates"),
            ("methods/dropping.py", "1 / (1 - rates)", "1 / (1 + rates)"),
        ],
    )
    @pytest.mark.slow
    def test_what_some_methods_share_changes_their_cells_alone(self, file, old, new, package):
        assert package.changed_by(file, old, new) == cells_of(DROPPING)

    def test_a_familys_file_changes_its_own_cells_alone(self, package):
        changed = package.changed_by("models/families/resnet.py", "3, stride, padding=1", "3, stride, padding=2")
        assert changed == cells_of(families=["resnet20"])

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("store/record.py", "FORMAT: Final = 2", "FORMAT: Final = 9"),
            ("jobs/locks.py", "_STALE_SECONDS = 120.0", "_STALE_SECONDS = 121.0"),
            ("jobs/runner.py", "import logging", "import logging\nimport math"),
            ("errors.py", "n=1", "n=2"),
            ("data/sources/spiral.py", "_NOISE = 0.1", "_NOISE = 0.2"),  # the data digest sees that one
            ("probes/measures/feature_reuse.py", "APART = 2", "APART = 3"),
            ("models/schedule.py", "import", "import math\nimport"),
            ("bench/measuring.py", "WARM_UP = 2", "WARM_UP = 3"),
        ],
    )
    @pytest.mark.slow
    def test_what_only_keeps_or_tells_changes_nothing(self, file, old, new, package):
        assert package.changed_by(file, old, new) == set()


class TestModuleDigest:
    @pytest.mark.parametrize(
        ("file", "old", "new", "redrawn"),
        [
            ("report/plots/reuse.py", 'cmap="viridis"', 'cmap="magma"', True),
            ("report/plots/common.py", "alpha=0.12", "alpha=0.13", True),
            ("tables/__init__.py", "Not drawn", "Left out", True),
            ("report/templating.py", "StrictUndefined", "Undefined", False),
            ("jobs/tuning.py", "-candidate.accuracy, candidate.loss", "candidate.loss, -candidate.accuracy", False),
        ],
    )
    @pytest.mark.slow
    def test_figures_are_drawn_again_when_what_draws_them_changes_and_only_then(
        self, file, old, new, redrawn, package, unchanged
    ):
        package.edit(file, old, new)
        script = (
            "from rdp.report import plots\nfrom rdp.store import fingerprint\nfrom rdp.utils import digest\n"
            "names = ('rdp.report.figures', *plots.modules())\n"  # as in workflow/rules/analyse.smk
            "print(digest.of([fingerprint.module_digest(name) for name in names]))"
        )
        before, after = (
            copy.run_python("-c", script, cwd=copy.folder, PYTHONPATH=str(copy.folder)).stdout
            for copy in (unchanged, package)
        )
        assert len(before.strip()) == len(after.strip()) == 64
        assert (before != after) == redrawn


class TestClosure:
    def test_it_is_what_one_would_expect(self):
        always = {
            "rdp.training.trainer",
            "rdp.training.determinism",
            "rdp.training.ema",
            "rdp.training.evaluation",
            "rdp.training.metrics",
            "rdp.training.budgets",
            "rdp.training.cost",
            "rdp.utils.rng",
            "rdp.data.batches",
            "rdp.methods",
            "rdp.models",
            "rdp.models.blocks",
            "rdp.models.branch_ends",
            "rdp.models.droppath",
            "rdp.models.finding",
            "rdp.models.gates",
            "rdp.models.graph_sums",
            "rdp.models.recording",
            "rdp.models.splitting",
            "rdp.models.tracing",
            "rdp.models.value_tracing",
            "rdp.models.initialisation",
            "rdp.methods.options",
            "rdp.models.units",
            "rdp.training.optimizers",
            "rdp.training.process_group",
        }
        shared = {"rdp.methods.dropping"}
        paths = {"rdp.models.paths", "rdp.models.coder", "rdp.models.pnnh_width"}
        for method in available():
            own = {f"rdp.methods.schedules.{method}"} | (shared if method in DROPPING else set())
            for architecture, family in FAMILIES.items():
                converted = (
                    {"rdp.models.convert"}
                    | {f"rdp.models.timm_{of}" for of in ("plain", "pnnh", "transformer", "features")}
                    if family in {"rdp.models.families.vit", "rdp.models.families.timm_resnet"}
                    else set()
                )
                assert modules(method, architecture, "digits") == always | own | paths | converted | {family}

    def test_every_name_it_leaves_out_is_that_of_a_module(self):
        package = Path(fingerprint.__file__).parents[1]
        for name in NEUTRAL:
            stem = package.joinpath(*name.split(".")[1:])
            assert stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file(), name

    @pytest.mark.parametrize(
        ("architecture", "dataset"), [("mlp8", "spiral"), pytest.param("vit_micro", "digits", marks=pytest.mark.slow)]
    )
    def test_it_holds_every_module_of_this_package_that_a_real_run_loads(
        self, architecture, dataset, make_spec, run_python, tmp_path
    ):
        script = (
            "import sys, torch; from pathlib import Path; from rdp.spec import RunSpec; "
            "from rdp.data import prepared; from rdp.training.trainer import Trainer; "
            "spec = RunSpec.model_validate_json(sys.argv[1]); "
            "run = Trainer(spec, prepared.load(spec.dataset, Path(sys.argv[2])), torch.device('cpu')); "
            "run.train(lambda run: None); run.finish(); run.state(); "
            "print(*(name for name in sys.modules if name.startswith('rdp.')))"
        )
        small = {"architecture": architecture, "dataset": dataset, "train_size": 100}
        spec = make_spec("residual_droppath", epochs=1, **small)
        done = run_python("-c", script, spec.model_dump_json(), str(tmp_path), OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        loaded = set(done.stdout.split())
        assert {name for name in loaded if not neutral(name)} - UNCOUNTED == modules(
            spec.method, spec.architecture, spec.dataset
        )


class TestStack:
    def test_it_names_the_libraries_the_processor_and_its_instructions(self):
        import torch

        found = fingerprint.stack("cpu")
        assert found["torch"].startswith(torch.__version__.split("+")[0])
        assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert {"numpy", "device"} <= found.keys()
        assert all(found.values())
        assert fingerprint.stack("cpu") == found
