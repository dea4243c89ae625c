"""The schema of a study's YAML file."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rdp import data, models, probes
from rdp.methods import Method, available, method_class
from rdp.spec import Recipe, Seed
from rdp.utils.validation import Strict, check_names, validate

_MAX_RUNS = 100_000  # planning takes time for each

Device = Literal["auto", "cpu", "cuda"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]


class MethodEntry(BaseModel):
    """A method of a study: its options, and its changes to the recipe."""

    # Other keys are options, which the method's class checks.
    model_config = ConfigDict(extra="allow", frozen=True)

    method: str | None = Field(None, description="name of the method; null if the entry has the same name")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe for this method")
    form: Name | None = Field(
        None, description="suffix of the architecture to train instead: same_parameters for resnet56_same_parameters"
    )


class Tune(Strict):
    """The sweep that chooses learning rates and norm gains, the same for every method."""

    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list, description="candidates, chosen by mean validation accuracy; a grid may have its own"
    )
    norm_gains: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list,
        description="candidates for norm_gain, each tried with each learning rate; [] for the recipe's own gain",
    )
    seeds: list[Seed] = Field(
        default_factory=lambda: [1000, 1001],
        min_length=1,
        description="seeds of the sweep; none of the study's own",
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the recipe for runs of the sweep")


class Grid(Strict):
    """A block of cells: all combinations of datasets, architectures and methods."""

    datasets: list[str] = Field(min_length=1)
    architectures: list[str] = Field(min_length=1)
    methods: list[str] | None = Field(None, min_length=1, description="a subset of the study's methods; null for all")
    recipe: dict[str, Any] = Field(default_factory=dict, description="changes to the study's recipe")
    learning_rates: list[Annotated[float, Field(gt=0)]] | None = Field(
        None, description="candidates of this grid instead of those of `tune`; [] for no sweep"
    )
    probes: list[str] | None = Field(None, description="those of the study's probes that measure it; null for all")


class Study(Strict):
    """One YAML file in ``config/studies/``."""

    title: str = Field(min_length=1)
    description: str = ""
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        description="number of seeds, counted from 0, or a list of them"
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="recipe of all grids; see Recipe")
    methods: dict[Name, MethodEntry] = Field(min_length=1)
    grids: list[Grid] = Field(min_length=1)
    tune: Tune | None = Field(
        None, description="choose learning rates and norm gains by a sweep on the validation split"
    )
    baseline: Name | None = Field(
        None, description="method that others are compared with; null for the first vanilla one"
    )
    probes: list[str] = Field(default_factory=list)
    probe_seeds: int | None = Field(None, ge=1, description="number of seeds whose runs are probed; null for all")
    speed_rounds: int | None = Field(
        None, ge=10, description="rounds of the measurement of training throughput; null for none"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads per process")
    processes: int = Field(1, ge=1, le=1024, description="processes that share each mini-batch of a run; one per GPU")
    seeds_per_job: int | None = Field(None, ge=1, description="seeds of a cell per job; null for all")
    device: Device = Field("auto", description="auto for a GPU if there is one, else the CPU")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, seeds: Any) -> Any:
        """Report an error in one sentence, where pydantic would report one per member of the union."""
        if isinstance(seeds, list):
            if not seeds:
                raise ValueError("a list of seeds must not be empty")
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
        """Read null, as in ``vanilla:``, as the method with its defaults."""
        if isinstance(methods, dict):
            return {name: {} if entry is None else entry for name, entry in methods.items()}
        return methods

    @model_validator(mode="after")
    def _names_exist(self) -> "Study":
        cells = sum(len(g.datasets) * len(g.architectures) * len(g.methods or self.methods) for g in self.grids)
        seeds = self.seeds if isinstance(self.seeds, int) else len(self.seeds)
        if cells * seeds > _MAX_RUNS:
            raise ValueError(f"seeds: {seeds:,} of {cells:,} cells are too many runs; the maximum is {_MAX_RUNS:,}")
        for i, grid in enumerate(self.grids):
            check_names(f"grids[{i}].datasets", grid.datasets, data.available())
            check_names(f"grids[{i}].architectures", grid.architectures, models.architectures())
            check_names(f"grids[{i}].methods", grid.methods or [], self.methods)
            check_names(f"grids[{i}].probes", grid.probes or [], self.probes)
            validate(Recipe, self.recipe | grid.recipe, f"grids[{i}].recipe" if grid.recipe else "recipe")
            if grid.learning_rates and self.tune is None:
                raise ValueError(f"grids[{i}].learning_rates: the study has no 'tune'")
        check_names("probes", self.probes, probes.available())
        check_names("baseline", [self.baseline] if self.baseline else [], self.methods)
        lists: list[list[float]] = [grid.learning_rates or [] for grid in self.grids]
        lists += [self.tune.learning_rates, self.tune.norm_gains, [*self.tune.seeds]] if self.tune else []
        if any(len(set(values)) < len(values) for values in lists):
            raise ValueError("tune: a learning rate, a norm gain or a seed is listed twice")
        if self.tune is not None and self.tune.norm_gains and not any(map(self.swept_rates, self.grids)):
            raise ValueError("tune.norm_gains: no grid has learning rates to try them with; add tune.learning_rates")
        if self.tune is not None and (shared := set(self.tune.seeds) & set(self.seed_list())):
            raise ValueError(f"tune.seeds: {min(shared)} is also a seed of the study; the sweep needs other seeds")
        for label, entry in self.methods.items():
            self.instance(label)
            validate(Recipe, self.recipe | entry.recipe, f"methods.{label}.recipe")
        if self.tune is not None:
            validate(Recipe, self.recipe | self.tune.recipe, "tune.recipe")
        return self

    def swept_rates(self, grid: Grid) -> list[float]:
        """The learning rates that a grid's sweep compares; empty for no sweep."""
        if self.tune is None:
            return []
        return self.tune.learning_rates if grid.learning_rates is None else grid.learning_rates

    def seed_list(self) -> list[int]:
        """The seeds as a list."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    def instance(self, label: str) -> Method:
        """The method of an entry, with its options."""
        entry = self.methods[label]
        name = entry.method or label
        where = f"methods.{label}.method" if entry.method else f"methods.{label}"
        check_names(where, [name], available())
        options = entry.model_extra or {}
        return validate(method_class(name), options, f"methods.{label}", beside=MethodEntry.model_fields)


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study file, for editors."""
    schema = Study.model_json_schema()
    recipe = Recipe.model_json_schema()
    # The models hold recipes as plain mappings, since they are merged before they are checked.
    schema["$defs"]["Recipe"] = recipe
    for owner in (schema, *(schema["$defs"][name] for name in ("Grid", "MethodEntry", "Tune"))):
        description = owner["properties"]["recipe"].get("description", "")
        owner["properties"]["recipe"] = {"$ref": "#/$defs/Recipe", "description": description}
    # Null, as in `vanilla:`, is the method with its defaults.
    methods = schema["properties"]["methods"]
    for key in ("additionalProperties", "patternProperties"):
        if key in methods:
            entry = methods[key] if key == "additionalProperties" else next(iter(methods[key].values()))
            entry |= {"anyOf": [{"$ref": entry.pop("$ref")}, {"type": "null"}]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
