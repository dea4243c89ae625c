"""What a run is, complete: its recipe, the sweep that chooses its learning rate, and its place in the store."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from rdp.methods import Method, method_class
from rdp.utils import digest
from rdp.utils.validation import Strict

SCHEMA: Final = 1

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Recipe(Strict):
    """How a network is trained: everything but the architecture, the method and the seed."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = Field(0.1, gt=0, description="null, and needless, where the study tunes it")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; adamw uses betas 0.9 and 0.999")
    weight_decay: float = Field(5e-4, ge=0, description="on matrices and kernels, not on gains and biases")
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises linearly")
    epochs: int = Field(10, ge=1)
    budget: Literal["steps", "flops", "updates"] = Field(
        "steps",
        description="what the epochs of full iterations stand for: so many optimizer steps, as many "
        "floating-point operations, or as many updates of a unit's parameter",
    )
    batch_size: int = Field(64, ge=2)
    crop_padding: int = Field(0, ge=0, description="pixels of zero padding before a random crop")
    flip: bool = Field(False, description="flip images left to right at random")
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    norm_gain: float = Field(1.0, gt=0, description="initial gain of each branch's last norm, on every path")
    train_size: int | None = Field(None, ge=1, description="train on the first so many examples; null for all")
    validate_every: int = Field(1, ge=1, description="epochs between validations; the last one always is")
    accumulate: int = Field(1, ge=1, description="parts that a process computes its share of a mini-batch in")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay a step of an average of the weights, which is what is evaluated and kept"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label that goes to all classes alike")
    mixup: float = Field(0.0, ge=0, description="alpha of Mixup, as timm has it; 0 for none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix, as timm has it; 0 for none")
    resized_crop: float | None = Field(
        None, gt=0, le=1, description="of images that are streamed: least share of the area of a random resized crop"
    )
    randaugment: str | None = Field(
        None, pattern=r"^rand(-[a-z]+[0-9.]+)+$", description="of images that are streamed: timm's name for RandAugment"
    )

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0


class Tuning(Strict):
    """A sweep that chooses a run's learning rate by mean validation accuracy after the last epoch.

    The rates, the seeds and the recipe are the same for every method that is compared.
    """

    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)
    recipe: Recipe = Field(description="of the sweep's runs, but for the learning rate")


def at_once(specs: Sequence["RunSpec"], cores: int) -> int:
    """How many of some runs alike train side by side on so many cores; one at least."""
    return max(1, min(cores // specs[0].cores, len(specs)))


class RunSpec(Strict):
    """One run, complete: what its numbers depend on and can be known before it starts.

    A run whose learning rate is tuned holds the sweep that chooses it: the choice follows from the sweep's runs,
    so it is a number of the record, and not of the specification.
    """

    dataset: str
    architecture: str
    method: str
    options: dict[str, Any] = Field(description="of the method, every one with its value")
    recipe: Recipe
    threads: int = Field(1, ge=1, description="CPU threads of a process, which decide the order of sums")
    processes: int = Field(1, ge=1, description="that share each mini-batch, which decides the order of sums too")
    seed: Seed
    tuning: Tuning | None = None
    sweep: bool = Field(False, description="a run of a sweep, which never reads the test split")
    schema_version: Literal[1] = SCHEMA

    def candidates(self) -> list["RunSpec"]:
        """The runs of the sweep, learning rate by learning rate; none where the rate is given."""
        if self.tuning is None:
            return []
        same = {name: getattr(self, name) for name in RunSpec.model_fields} | {"tuning": None, "sweep": True}
        return [
            RunSpec(**same | {"recipe": self.tuning.recipe.model_copy(update={"learning_rate": rate}), "seed": seed})
            for rate in self.tuning.learning_rates
            for seed in self.tuning.seeds
        ]

    @property
    def cores(self) -> int:
        """CPU cores that it keeps busy: its threads, in all its processes."""
        return self.threads * self.processes

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
