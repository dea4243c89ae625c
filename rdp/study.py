"""Studies: YAML files checked to the last key, and the cells and runs they ask for.

Nothing here imports torch, so that planning, and every evaluation of the Snakefile, stays fast.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rdp import data, models, places, probes
from rdp.errors import UserError, choices
from rdp.methods import Method, available, method_class
from rdp.spec import Recipe, RunSpec, Seed, Tuning
from rdp.validation import Strict, check_names, read_mapping, validate

VANILLA = "vanilla"  # the baseline of a study that names no other
# What else has a folder of its own under the results.
TAKEN = frozenset({"bench", "data", "logs", "rebuilt", "recorded", "reports", "store"})
_MOST = 100_000  # runs of a study, each of which is planned one by one

Device = Literal["auto", "cpu", "cuda"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]


class MethodEntry(BaseModel):
    """A method as a study names it: its options, and what it changes of the recipe."""

    # The options' own keys are checked by the method's class, which this entry names.
    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = Field(None, description="the method's name, where the entry's own name is another")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe for this method")
    form: Name | None = Field(
        None, description="a form of the architecture in its place: resnet56_same_flops for resnet56 and same_flops"
    )


class Tune(Strict):
    """The study's sweep of learning rates, the same for every method."""

    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list, description="to choose from by mean validation accuracy; a grid may name others"
    )
    seeds: list[Seed] = Field(
        default_factory=lambda: [1000, 1001], min_length=1, description="of the sweep; none of the study's own"
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe for the sweep's runs")


class Grid(Strict):
    """A block of cells: every dataset with every architecture and every method."""

    datasets: list[str] = Field(min_length=1)
    architectures: list[str] = Field(min_length=1)
    methods: list[str] | None = Field(None, min_length=1, description="some of the study's methods; null for all")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the study's recipe")
    learning_rates: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="to choose from in this grid, in place of those of `tune`; [] for none"
    )


class Study(Strict):
    """One YAML file in ``config/studies/``."""

    title: str = Field(min_length=1)
    description: str = ""
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        description="how many seeds, counted from 0, or which"
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="what all grids share; see Recipe")
    methods: dict[Name, MethodEntry] = Field(min_length=1)
    grids: list[Grid] = Field(min_length=1)
    tune: Tune | None = Field(None, description="choose learning rates by a sweep on the validation split")
    baseline: Name | None = Field(
        None, description="the method that others are compared with; null for the first that is vanilla"
    )
    probes: list[str] = Field(default_factory=list)
    probe_seeds: int | None = Field(None, ge=1, description="probe the runs of the first so many seeds; null for all")
    speed_rounds: int | None = Field(
        None, ge=10, description="measure the methods' training throughput side by side, in so many rounds"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of a run's process")
    processes: int = Field(
        1, ge=1, le=1024, description="that train a run together, each mini-batch shared among them; one a GPU"
    )
    seeds_per_job: int | None = Field(None, ge=1, description="split a cell's seeds over jobs of so many")
    device: Device = Field("auto", description="auto: a GPU where there is one")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, seeds: Any) -> Any:
        """Say what is wrong in one sentence, where pydantic would tell what each half of the union wants."""
        if isinstance(seeds, list):
            if not seeds:
                raise ValueError("a list of seeds must hold at least 1")
            bad = [seed for seed in seeds if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0]
            if bad:
                raise ValueError(f"a seed is an integer greater than or equal to 0, found {bad[0]!r}")
            if len(set(seeds)) != len(seeds):
                raise ValueError("a seed is listed twice")
        elif not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
            raise ValueError(f"an integer greater than or equal to 1, or a list of seeds, found {seeds!r}")
        return seeds

    @field_validator("methods", mode="before")
    @classmethod
    def _bare_methods(cls, methods: Any) -> Any:
        """``vanilla:`` alone reads as null: the method with its defaults."""
        if isinstance(methods, dict):
            return {name: {} if entry is None else entry for name, entry in methods.items()}
        return methods

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        cells = sum(len(g.datasets) * len(g.architectures) * len(g.methods or self.methods) for g in self.grids)
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        if cells * seeds > _MOST:
            raise ValueError(f"seeds: {seeds:,} of {cells:,} cells are too many runs; a study has at most {_MOST:,}")
        for i, grid in enumerate(self.grids):
            check_names(f"grids[{i}].datasets", grid.datasets, data.available())
            check_names(f"grids[{i}].architectures", grid.architectures, models.architectures())
            check_names(f"grids[{i}].methods", grid.methods or [], self.methods)
            validate(Recipe, self.recipe | grid.recipe, f"grids[{i}].recipe" if grid.recipe else "recipe")
            if grid.learning_rates and self.tune is None:
                raise ValueError(f"grids[{i}].learning_rates: a sweep is meant, so the study needs a key 'tune'")
        check_names("probes", self.probes, probes.available())
        check_names("baseline", [self.baseline] if self.baseline else [], self.methods)
        sweeps = [self.tune.learning_rates, self.tune.seeds] if self.tune else []
        if any(len(set(values)) < len(values) for values in [*sweeps, *(g.learning_rates or [] for g in self.grids)]):
            raise ValueError("tune: a learning rate or a seed of the sweep is listed twice")
        if self.tune is not None and (shared := set(self.tune.seeds) & set(self.seed_list())):
            raise ValueError(f"tune.seeds: {min(shared)} is a seed of the study too; a choice is made on other seeds")
        for label, entry in self.methods.items():
            self._instance(label)
            validate(Recipe, self.recipe | entry.recipe, f"methods.{label}.recipe")
        if self.tune is not None:
            validate(Recipe, self.recipe | self.tune.recipe, "tune.recipe")
        return self

    def seed_list(self) -> list[int]:
        """The seeds, one by one."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def _instance(self, label: str) -> Method:
        entry = self.methods[label]
        name = entry.method or label
        where = f"methods.{label}.method" if entry.method else f"methods.{label}"
        check_names(where, [name], available())
        options = entry.model_extra or {}
        return validate(method_class(name), options, f"methods.{label}", beside=MethodEntry.model_fields)

    def _cells(self) -> Iterator["Cell | Skipped"]:
        for grid in self.grids:
            for dataset in grid.datasets:
                for architecture in grid.architectures:
                    for label in grid.methods or self.methods:
                        yield self._cell(grid, dataset, architecture, label)

    def _cell(self, grid: Grid, dataset: str, architecture: str, label: str) -> "Cell | Skipped":
        method, form = self._instance(label), self.methods[label].form
        network = f"{architecture}_{form}" if form else architecture
        info = data.info(dataset)
        if network not in models.architectures():
            return Skipped(dataset, architecture, label, f"{architecture} has no form {form}")
        reason = method.nonsense() or models.architecture(network).mismatch(
            method.path, info.kind, info.shape, method.path_options()
        )
        if reason:
            return Skipped(dataset, architecture, label, reason)
        changes = self.recipe | grid.recipe | self.methods[label].recipe
        tuning = self._tuning(grid, changes)
        recipe = Recipe(**(changes | ({"learning_rate": None} if tuning else {})))
        if recipe.learning_rate is None and tuning is None:
            raise ValueError("recipe.learning_rate: null, and the study does not tune it")
        self._check_recipe("recipe", recipe, dataset)
        if tuning is not None:
            self._check_recipe("tune.recipe", tuning.recipe, dataset)
        specs = [
            RunSpec(
                dataset=dataset,
                architecture=network,
                method=method.name(),
                options=method.model_dump(mode="json"),
                recipe=recipe,
                threads=self.threads,
                processes=self.processes,
                seed=seed,
                tuning=tuning,
            )
            for seed in self.seed_list()
        ]
        return Cell(dataset, architecture, label, tuple(specs))

    def _check_recipe(self, where: str, recipe: Recipe, dataset: str) -> None:
        """Raise `ValueError` where a recipe cannot be followed on a dataset."""
        info = data.info(dataset)
        size, parts = info.sizes["train"], self.processes * recipe.accumulate
        if (recipe.train_size or 0) > size:
            reason = f"train_size {recipe.train_size} is more than {dataset} holds to train on, {size}"
        elif recipe.batch_size > (recipe.train_size or size):
            reason = f"batch_size {recipe.batch_size} is more than the training set of {dataset} holds"
        elif recipe.batch_size % parts:
            reason = f"batch_size {recipe.batch_size} cannot be cut into {parts} equal parts (processes x accumulate)"
        elif not data.streamed(dataset) and (recipe.resized_crop is not None or recipe.randaugment is not None):
            key = "randaugment" if recipe.resized_crop is None else "resized_crop"
            reason = f"{key} is for images that are streamed, and those of {dataset} are not"
        elif recipe.mixes and info.kind != "image":
            reason = f"mixup and cutmix are of images, and {dataset} holds {info.kind}s"
        elif recipe.mixes and recipe.batch_size // parts % 2:
            reason = f"mixup and cutmix pair examples, and parts of {recipe.batch_size // parts} are odd"
        else:
            return
        raise ValueError(f"{where}: {reason}")

    def _tuning(self, grid: Grid, changes: dict[str, Any]) -> Tuning | None:
        if self.tune is None:
            return None
        rates = self.tune.learning_rates if grid.learning_rates is None else grid.learning_rates
        if not rates:
            return None
        recipe = Recipe(**(changes | self.tune.recipe | {"learning_rate": None}))
        return Tuning(learning_rates=tuple(rates), seeds=tuple(self.tune.seeds), recipe=recipe)


@dataclass(frozen=True)
class Cell:
    """Architecture x dataset x method: one job, or several where the study splits its seeds.

    ``label`` is the study's name for the method with its options, and what figures and tables show. The architecture
    is the grid's, of which the runs may train a form.
    """

    dataset: str
    architecture: str
    label: str
    specs: tuple[RunSpec, ...]

    @property
    def title(self) -> str:
        """The cell as commands and tables name it: architecture/dataset/method."""
        return f"{self.architecture}/{self.dataset}/{self.label}"

    @property
    def id(self) -> str:
        """The cell's name in the store."""
        return self.specs[0].cell


@dataclass(frozen=True)
class Skipped:
    """A cell that makes no sense, and why."""

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
        """Where it trains, ``auto``, ``cpu`` or ``cuda``: ``RDP_DEVICE``, or what the study says."""
        device = os.environ.get("RDP_DEVICE") or self.study.device
        if device not in get_args(Device):
            raise UserError(f"device: {choices(device, get_args(Device))}; found '{device}'")
        return device

    @property
    def sweep(self) -> dict[str, RunSpec]:
        """Every run of the sweeps that choose learning rates, by its name in the store."""
        return {spec.run: spec for cell in self.cells for spec in cell.specs[0].candidates()}

    def seed_batches(self) -> list[list[int]]:
        """The seeds that each of a cell's jobs trains."""
        seeds = self.study.seed_list()
        size = self.study.seeds_per_job or len(seeds)
        return [seeds[i : i + size] for i in range(0, len(seeds), size)]


def load(name: str) -> Plan:
    """Read the study called ``name`` (``config/studies/NAME.yaml``, or a path to a YAML file).

    Raises:
        UserError: one line with the file, the key and what would be valid.
    """
    file = _find(name)
    content = read_mapping(file, "a study is a mapping")
    try:
        study = validate(Study, content, "")
        cells: dict[str, Cell] = {}
        skipped = []
        for cell in study._cells():
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
        raise UserError(f"{file}: speed_rounds: no cell is the baseline to measure beside; name one with 'baseline'")
    if not cells:
        reasons = "; ".join(sorted({skip.reason for skip in skipped}))
        raise UserError(f"{file}: grids: no cell is left to train ({reasons})")
    return Plan(file.stem, file, study, tuple(cells.values()), tuple(skipped))


def is_baseline(study: Study, cell: Cell) -> bool:
    """Whether a cell is what others are compared with: what the study names, or else any that is vanilla."""
    return cell.label == study.baseline if study.baseline else cell.specs[0].method == VANILLA


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors."""
    schema = Study.model_json_schema()
    recipe = Recipe.model_json_schema()
    # Recipes are merged before they are checked, so the models hold them as plain mappings.
    schema["$defs"]["Recipe"] = recipe
    for owner in (schema, *(schema["$defs"][name] for name in ("Grid", "MethodEntry", "Tune"))):
        description = owner["properties"]["recipe"].get("description", "")
        owner["properties"]["recipe"] = {"$ref": "#/$defs/Recipe", "description": description}
    # `vanilla:` alone is null, and means the method with its defaults.
    methods = schema["properties"]["methods"]
    for key in ("additionalProperties", "patternProperties"):
        if key in methods:
            entry = methods[key] if key == "additionalProperties" else next(iter(methods[key].values()))
            entry |= {"anyOf": [{"$ref": entry.pop("$ref")}, {"type": "null"}]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _find(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        file = places.named(name)
        try:
            found = file.is_file()
        except OSError as error:  # a name too long for any file
            raise UserError(f"{file}: cannot be read ({error.strerror})") from None
        if not found:
            raise UserError(f"{file}: no such study file")
    else:
        found = places.studies()
        if name not in found:
            raise UserError(f"config/studies: no study '{name}'; {choices(name, found)}")
        file = found[name]
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", file.stem):
        raise UserError(f"{file}: a study's file name is made of a-z, 0-9 and _, found '{file.stem}'")
    if file.stem in TAKEN:
        raise UserError(f"{file}: a study cannot be called {file.stem}: results/{file.stem} is not a study's")
    return file
