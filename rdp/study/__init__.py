"""Read a study from its YAML file and list its cells and runs.

This package does not import torch, to keep planning and every evaluation of the Snakefile fast.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rdp import data, models
from rdp.errors import UserError, choices, os_errors
from rdp.spec import Recipe, RunSpec, Tuning
from rdp.study.schema import Device, Grid, Study
from rdp.utils import paths
from rdp.utils.validation import parse_mapping, read_mapping, validate

_WHAT = "a study is a mapping"
VANILLA = "vanilla"  # the default baseline
RESERVED_NAMES = frozenset({"bench", "data", "logs", "rebuilt", "recorded", "reports", "store"})


@dataclass(frozen=True)
class Cell:
    """Architecture x dataset x method with one recipe: one job, or several if the study splits its seeds."""

    dataset: str
    architecture: str  # as in the grid. Runs of a method with a form train another one, see `RunSpec.architecture`
    label: str  # the study's name for the method with its options, which figures and tables show
    specs: tuple[RunSpec, ...]  # one per seed
    probes: tuple[str, ...]  # those that measure its networks

    @property
    def title(self) -> str:
        """The cell's name in commands and tables: architecture/dataset/method."""
        return f"{self.architecture}/{self.dataset}/{self.label}"

    @property
    def id(self) -> str:
        """The cell's name in the store."""
        return self.specs[0].cell


@dataclass(frozen=True)
class Skipped:
    """A cell that cannot be trained, and the reason."""

    dataset: str
    architecture: str
    label: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A study read from its file, with its cells."""

    name: str
    file: Path
    study: Study
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]

    @property
    def specs(self) -> Iterator[RunSpec]:
        """Every run of the study."""
        return (spec for cell in self.cells for spec in cell.specs)

    @property
    def device(self) -> str:
        """``auto``, ``cpu`` or ``cuda``: the value of ``RDP_DEVICE``, or of the study."""
        device = os.environ.get("RDP_DEVICE") or self.study.device
        if device not in get_args(Device):
            raise UserError(f"device: {choices(device, get_args(Device))}; found '{device}'")
        return device

    @property
    def sweep(self) -> dict[str, RunSpec]:
        """Every run of the sweeps, by name in the store."""
        return {spec.run: spec for cell in self.cells for spec in cell.specs[0].candidates()}

    @property
    def norm_gains(self) -> list[float]:
        """The norm gains that the sweeps compare; empty if they compare none."""
        return self.study.tune.norm_gains if self.study.tune else []

    @property
    def swept(self) -> str:
        """What the sweeps compare, in words."""
        return "learning rates and norm gains" if self.norm_gains else "learning rates"

    def seed_batches(self) -> list[list[int]]:
        """The seeds of each job of a cell."""
        seeds = self.study.seed_list()
        size = self.study.seeds_per_job or len(seeds)
        return [seeds[i : i + size] for i in range(0, len(seeds), size)]


def load(name: str) -> Plan:
    """Read the study called ``name`` (``config/studies/NAME.yaml``, or a path to a YAML file).

    Raises:
        UserError: the file is absent or invalid; the message names the key and the valid values.
    """
    file = _find(name)
    return _plan(file, read_mapping(file, _WHAT))


def parse(file: Path, text: bytes) -> Plan:
    """Read a study from the content of its file, which need not exist.

    Raises:
        UserError: as `load`.
    """
    _check_name(file)
    return _plan(file, parse_mapping(file, text, _WHAT))


def _plan(file: Path, content: dict[str, Any]) -> Plan:
    try:
        study = validate(Study, content, "")
        cells: dict[str, Cell] = {}
        skipped = []
        for cell in _cells(study):
            if isinstance(cell, Skipped):
                skipped.append(cell)
            elif cells.setdefault(cell.id, cell).label != cell.label:
                raise ValueError(
                    f"methods '{cells[cell.id].label}' and '{cell.label}' are the same runs on "
                    f"{cell.architecture}, {cell.dataset}"
                )
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if study.speed_rounds and not any(is_baseline(study, cell) for cell in cells.values()):
        raise UserError(f"{file}: speed_rounds: no cell is the baseline of the measurement; set 'baseline'")
    if not cells:
        reasons = "; ".join(sorted({skip.reason for skip in skipped}))
        raise UserError(f"{file}: grids: no cell can be trained ({reasons})")
    return Plan(file.stem, file, study, tuple(cells.values()), tuple(skipped))


def is_baseline(study: Study, cell: Cell) -> bool:
    """Whether other cells are compared with this one: it has the study's baseline method, or by default vanilla."""
    return cell.label == study.baseline if study.baseline else cell.specs[0].method == VANILLA


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        file = paths.parse(name)
        with os_errors(file):  # the name may be too long
            if not file.is_file():
                raise UserError(f"{file}: no such study file")
    else:
        studies = paths.studies()
        if name not in studies:
            raise UserError(f"config/studies: no study '{name}'; {choices(name, studies)}")
        file = studies[name]
    _check_name(file)
    return file


def _check_name(file: Path) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", file.stem):
        raise UserError(f"{file}: a study's file name may hold a-z, 0-9 and _, found '{file.stem}'")
    if file.stem in RESERVED_NAMES:
        raise UserError(f"{file}: the name {file.stem} is reserved: results/{file.stem} holds something else")


def _cells(study: Study) -> Iterator[Cell | Skipped]:
    for grid in study.grids:
        for dataset in grid.datasets:
            for architecture in grid.architectures:
                for label in grid.methods or study.methods:
                    yield _cell(study, grid, dataset, architecture, label)


def _cell(study: Study, grid: Grid, dataset: str, architecture: str, label: str) -> Cell | Skipped:
    method, form = study.instance(label), study.methods[label].form
    network = f"{architecture}_{form}" if form else architecture
    info = data.info(dataset)
    if network not in models.architectures():
        return Skipped(dataset, architecture, label, f"{architecture} has no form {form}")
    reason = method.conflict() or models.architecture(network).mismatch(
        method.path, info.kind, info.shape, method.path_options()
    )
    if reason:
        return Skipped(dataset, architecture, label, reason)
    changes = study.recipe | grid.recipe | study.methods[label].recipe
    tuning = _tuning(study, grid, changes)
    swept = tuning.swept if tuning else {}
    recipe = Recipe(**(changes | swept))
    for name in ("learning_rate", "norm_gain"):
        if getattr(recipe, name) is None and name not in swept:
            raise ValueError(f"recipe.{name}: null, and the study does not tune it")
    _check_recipe(study, "recipe", recipe, dataset)
    if tuning is not None:
        _check_recipe(study, "tune.recipe", tuning.recipe, dataset)
    specs = [
        RunSpec(
            dataset=dataset,
            architecture=network,
            method=method.name(),
            options=method.model_dump(mode="json"),
            recipe=recipe,
            threads=study.threads,
            processes=study.processes,
            seed=seed,
            tuning=tuning,
        )
        for seed in study.seed_list()
    ]
    return Cell(dataset, architecture, label, tuple(specs), tuple(study.probes if grid.probes is None else grid.probes))


def _check_recipe(study: Study, where: str, recipe: Recipe, dataset: str) -> None:
    info = data.info(dataset)
    size, parts = info.sizes["train"], study.processes * recipe.accumulate
    if (recipe.train_size or 0) > size:
        reason = f"train_size {recipe.train_size} exceeds the {size} training examples of {dataset}"
    elif recipe.batch_size > (recipe.train_size or size):
        reason = f"batch_size {recipe.batch_size} exceeds the training set of {dataset}"
    elif recipe.batch_size % parts:
        reason = f"batch_size {recipe.batch_size} cannot be split into {parts} equal parts (processes x accumulate)"
    elif recipe.nesterov and (recipe.optimizer != "sgd" or recipe.momentum == 0):
        found = recipe.optimizer if recipe.momentum else "momentum 0"
        reason = f"nesterov needs sgd with momentum, found {found}"
    elif not data.streamed(dataset) and (recipe.resized_crop is not None or recipe.randaugment is not None):
        key = "randaugment" if recipe.resized_crop is None else "resized_crop"
        reason = f"{key} needs streamed images, and {dataset} is held in memory"
    elif recipe.mixes and info.kind != "image":
        reason = f"mixup and cutmix need images, and {dataset} holds {info.kind}s"
    elif recipe.cutout and info.kind != "image":
        reason = f"cutout needs images, and {dataset} holds {info.kind}s"
    elif recipe.cutout > min(info.shape[1:], default=0):
        reason = f"cutout {recipe.cutout} is larger than the images of {dataset}"
    elif recipe.mixes and recipe.batch_size // parts % 2:
        reason = f"mixup and cutmix need an even number of examples in each part, found {recipe.batch_size // parts}"
    else:
        return
    raise ValueError(f"{where}: {reason}")


def _tuning(study: Study, grid: Grid, changes: dict[str, Any]) -> Tuning | None:
    rates, tune = tuple(study.swept_rates(grid)), study.tune
    if tune is None or not rates:
        return None
    recipe = Recipe(**(changes | tune.recipe))
    tuning = Tuning(learning_rates=rates, norm_gains=tuple(tune.norm_gains), seeds=tuple(tune.seeds), recipe=recipe)
    return tuning.model_copy(update={"recipe": recipe.model_copy(update=tuning.swept)})
