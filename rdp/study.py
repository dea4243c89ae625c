"""Studies: YAML files checked to the last key, and the cells and runs they ask for.

Nothing here imports torch, so that planning, and every evaluation of the Snakefile, stays fast.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rdp import data, digest, models, places, probes
from rdp.errors import UserError, choices
from rdp.methods import Method, available, method_class

SPEC_SCHEMA = 1

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Strict(BaseModel):
    """A model that refuses keys it does not know and never changes once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Recipe(Strict):
    """How a network is trained: everything but the architecture, the method and the seed."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; adamw uses betas 0.9 and 0.999")
    weight_decay: float = Field(5e-4, ge=0, description="on matrices and kernels, not on gains and biases")
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises linearly")
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(64, ge=2)
    crop_padding: int = Field(0, ge=0, description="pixels of zero padding before a random crop")
    flip: bool = Field(False, description="flip images left to right at random")
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    norm_gain: float = Field(1.0, gt=0, description="initial gain of each branch's last norm, on every path")
    train_size: int | None = Field(None, ge=1, description="train on the first so many examples; null for all")
    validate_every: int = Field(1, ge=1, description="epochs between validations; the last one always is")


class RunSpec(Strict):
    """One run, complete: what its numbers depend on and can be known before it starts."""

    dataset: str
    architecture: str
    method: str
    options: dict[str, Any] = Field(description="of the method, every one with its value")
    recipe: Recipe
    threads: int = Field(1, ge=1, description="CPU threads, which decide the order of sums")
    seed: Seed
    schema_version: Literal[1] = SPEC_SCHEMA

    @cached_property
    def instance(self) -> Method:
        """The method with this run's options."""
        return method_class(self.method)(**self.options)

    @cached_property
    def cell(self) -> str:
        """The cell's name in the store: readable, and unique by the digest of all but the seed."""
        content = self.model_dump(mode="json", exclude={"seed"})
        return f"{self.architecture}-{self.dataset}-{self.method}-{digest.of(content)[:12]}"

    @property
    def run(self) -> str:
        """The run's name in the store."""
        return f"{self.cell}/seed-{self.seed:04d}"

    @cached_property
    def spec_digest(self) -> str:
        """The first of the four digests of a run's identity."""
        return digest.of(self.model_dump(mode="json"))


class MethodEntry(BaseModel):
    """A method as a study names it: its options, and what it changes of the recipe."""

    # The options' own keys are checked by the method's class, which this entry names.
    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = Field(None, description="the method's name, where the entry's own name is another")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe for this method")


class Grid(Strict):
    """A block of cells: every dataset with every architecture and every method."""

    datasets: list[str] = Field(min_length=1)
    architectures: list[str] = Field(min_length=1)
    methods: list[str] | None = Field(None, min_length=1, description="some of the study's methods; null for all")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the study's recipe")


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
    probes: list[str] = Field(default_factory=list)
    threads: int = Field(1, ge=1, description="CPU threads of a run")
    seeds_per_job: int | None = Field(None, ge=1, description="split a cell's seeds over jobs of so many")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")

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
        for i, grid in enumerate(self.grids):
            _check_names(f"grids[{i}].datasets", grid.datasets, data.available())
            _check_names(f"grids[{i}].architectures", grid.architectures, models.architectures())
            _check_names(f"grids[{i}].methods", grid.methods or [], self.methods)
            _validate(Recipe, self.recipe | grid.recipe, f"grids[{i}].recipe" if grid.recipe else "recipe")
        _check_names("probes", self.probes, probes.available())
        for label, entry in self.methods.items():
            self._instance(label)
            _validate(Recipe, self.recipe | entry.recipe, f"methods.{label}.recipe")
        return self

    def seed_list(self) -> list[int]:
        """The seeds, one by one."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def _instance(self, label: str) -> Method:
        entry = self.methods[label]
        name = entry.method or label
        where = f"methods.{label}.method" if entry.method else f"methods.{label}"
        _check_names(where, [name], available())
        return _validate(method_class(name), entry.model_extra or {}, f"methods.{label}")

    def _cells(self) -> Iterator["Cell | Skipped"]:
        for grid in self.grids:
            for dataset in grid.datasets:
                for architecture in grid.architectures:
                    for label in grid.methods or self.methods:
                        yield self._cell(grid, dataset, architecture, label)

    def _cell(self, grid: Grid, dataset: str, architecture: str, label: str) -> "Cell | Skipped":
        method = self._instance(label)
        reason = method.nonsense() or _mismatch(architecture, dataset)
        if reason:
            return Skipped(dataset, architecture, label, reason)
        recipe = Recipe(**(self.recipe | grid.recipe | self.methods[label].recipe))
        size = data.info(dataset).sizes["train"]
        if (recipe.train_size or 0) > size:
            raise ValueError(f"recipe: train_size {recipe.train_size} is more than {dataset} holds to train on, {size}")
        if recipe.batch_size > (recipe.train_size or size):
            reason = f"batch_size {recipe.batch_size} is more than the training set of {dataset} holds"
            raise ValueError(f"recipe: {reason}")
        specs = [
            RunSpec(
                dataset=dataset,
                architecture=architecture,
                method=method.name(),
                options=method.model_dump(mode="json"),
                recipe=recipe,
                threads=self.threads,
                seed=seed,
            )
            for seed in self.seed_list()
        ]
        return Cell(dataset, architecture, label, tuple(specs))


@dataclass(frozen=True)
class Cell:
    """Architecture x dataset x method: one job, or several where the study splits its seeds.

    ``label`` is the study's name for the method with its options, and what figures and tables show.
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

    def seed_batches(self) -> list[list[int]]:
        """The seeds that each of a cell's jobs trains."""
        seeds = self.study.seed_list()
        size = self.study.seeds_per_job or len(seeds)
        return [seeds[i : i + size] for i in range(0, len(seeds), size)]


class _Loader(yaml.SafeLoader):
    """YAML's safe types alone, and no key twice: the last one would win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' stands twice, in line {line}")
        return super().construct_mapping(node, deep)


def load(name: str) -> Plan:
    """Read the study called ``name`` (``config/studies/NAME.yaml``, or a path to a YAML file).

    Raises:
        UserError: one line with the file, the key and what would be valid.
    """
    file = _find(name)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: a study is a mapping of keys, found {type(content).__name__}")
    try:
        study = _validate(Study, content, "")
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
    if not cells:
        reasons = "; ".join(sorted({skip.reason for skip in skipped}))
        raise UserError(f"{file}: grids: no cell is left to train ({reasons})")
    return Plan(file.stem, file, study, tuple(cells.values()), tuple(skipped))


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors."""
    schema = Study.model_json_schema()
    recipe = Recipe.model_json_schema()
    # Recipes are merged before they are checked, so the models hold them as plain mappings.
    schema["$defs"]["Recipe"] = recipe
    for owner in (schema, schema["$defs"]["Grid"], schema["$defs"]["MethodEntry"]):
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
        file = Path(name)
        if not file.is_file():
            raise UserError(f"{file}: no such study file")
    else:
        found = places.studies()
        if name not in found:
            raise UserError(f"config/studies: no study '{name}'; {choices(name, found)}")
        file = found[name]
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,63}", file.stem):
        raise UserError(f"{file}: a study's file name is made of a-z, 0-9 and _, found '{file.stem}'")
    return file


def _mismatch(architecture: str, dataset: str) -> str | None:
    needs, has = models.architecture(architecture).input, data.info(dataset).kind
    if needs == "image" and has != "image":
        return f"{architecture} reads images, and {dataset} holds {has}s"
    return None


def _check_names(where: str, names: list[str], valid: Any) -> None:
    for name in names:
        if name not in valid:
            raise ValueError(f"{where}: unknown name '{name}'; {choices(name, valid)}")


def _validate(model: type[BaseModel], content: dict[str, Any], where: str) -> Any:
    """Validate ``content``, and turn the first error into ``key: what is wrong; what would be valid``."""
    if not all(isinstance(key, str) for key in content):
        raise ValueError(f"{where or 'study'}: every key must be text")
    try:
        return model(**content)
    except ValidationError as error:
        raise ValueError(_explain(error, model, where)) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    errors = error.errors()
    # A misspelt key makes the right one missing too: name the cause.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = where
    for part in first["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):  # pydantic adds the names of union members, which no file holds
            place += f".{part}" if place else part
    if first["type"] == "extra_forbidden":
        owner = Grid if first["loc"][0] == "grids" and len(first["loc"]) > 1 else model
        known = set(owner.model_fields)
        if issubclass(owner, Method):
            known |= set(MethodEntry.model_fields)
        return f"{place}: unknown key; {choices(first['loc'][-1], known)}"
    if first["type"] == "value_error":  # our own words, which name the place themselves
        message = str(first["ctx"]["error"])
        return message if not first["loc"] else f"{place}: {message}"
    shown = "" if first["type"] == "missing" else f", found {first['input']!r}"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}{shown}"
