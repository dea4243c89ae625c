"""The complete specification of a run: recipe, sweep, and name in the store."""

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from rdp.methods import Method, method_class
from rdp.utils import digest
from rdp.utils.validation import Strict

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Recipe(Strict):
    """The training hyper-parameters of a run, independent of architecture, method and seed."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float | None = Field(0.1, gt=0, description="peak learning rate; null if the study tunes it")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd; adamw uses betas 0.9 and 0.999")
    nesterov: bool = Field(False, description="Nesterov momentum; sgd only")
    weight_decay: float = Field(
        5e-4, ge=0, description="weight decay of matrices and kernels; gains and biases have none"
    )
    schedule: Literal["cosine", "one_cycle", "constant"] = Field(
        "cosine", description="learning rate after its peak: along half a cosine to 0, linearly to 0, or constant"
    )
    warmup: float = Field(
        0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises linearly to its peak"
    )
    epochs: int = Field(10, ge=1)
    budget: Literal["steps", "flops", "updates"] = Field(
        "steps",
        description="quantity that is equal for all methods: optimizer steps, floating-point operations, or updates "
        "per unit parameter; each as many as the epochs have with full iterations",
    )
    batch_size: int = Field(64, ge=2)
    crop_padding: int = Field(0, ge=0, description="zero padding in pixels before a random crop")
    flip: Literal[False, True, "alternating"] = Field(
        False, description="horizontal flips: at random, or alternating: of each image in every other epoch"
    )
    cutout: int = Field(
        0,
        ge=0,
        description="side in pixels of a square that is set to the mean of the training images, around a random pixel "
        "(Cutout); 0 for none",
    )
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = Field(False, description="train the network with torch.compile")
    norm_gain: float | None = Field(
        1.0,
        gt=0,
        description="initial gain of the last norm of each branch, on every path; null if the study tunes it",
    )
    train_size: int | None = Field(
        None, ge=1, description="number of training examples, from the start of the split; null for all"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations; the last epoch is always validated")
    accumulate: int = Field(
        1, ge=1, description="parts in which a process computes its share of a mini-batch (gradient accumulation)"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per step of an exponential moving average of the weights, which is evaluated and stored in "
        "their place; null for none",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target that is spread over all classes")
    mixup: float = Field(0.0, ge=0, description="alpha of Mixup, as in timm; 0 for none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix, as in timm; 0 for none")
    resized_crop: float | None = Field(
        None,
        gt=0,
        le=1,
        description="streamed images only: smallest area of a random resized crop, as a share of the image",
    )
    randaugment: str | None = Field(
        None,
        pattern=r"^rand(-[a-z]+[0-9.]+)+$",
        description="streamed images only: RandAugment policy, in timm's notation",
    )

    @property
    def mixes(self) -> bool:
        """Whether Mixup or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0


class Choice(Strict):
    """The values that a sweep compares and chooses."""

    learning_rate: float
    norm_gain: float | None = Field(None, description="null if the sweep has no norm gains: the recipe's own counts")

    def __str__(self) -> str:
        """``learning rate 0.05 and norm gain 0.5``."""
        gain = "" if self.norm_gain is None else f" and norm gain {self.norm_gain}"
        return f"learning rate {self.learning_rate}{gain}"

    def apply(self, recipe: Recipe) -> Recipe:
        """A recipe with these values."""
        return recipe.model_copy(update=self.model_dump(exclude_none=True))


class Tuning(Strict):
    """A sweep that selects learning rate and norm gain by mean validation accuracy after the last epoch.

    All compared methods share its rates, gains, seeds and recipe.
    """

    learning_rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    norm_gains: tuple[Annotated[float, Field(gt=0)], ...] = Field((), description="empty for the recipe's own gain")
    seeds: tuple[Seed, ...] = Field(min_length=1)
    recipe: Recipe = Field(description="recipe of the sweep's runs; the values that the sweep compares are ignored")

    @property
    def swept(self) -> dict[str, None]:
        """The keys of a recipe that the sweep chooses, each with None, as which a tuned run's recipe holds them."""
        return dict.fromkeys(["learning_rate", "norm_gain"] if self.norm_gains else ["learning_rate"])

    def choices(self) -> list[Choice]:
        """All combinations of a learning rate and a norm gain, ordered by learning rate, then by gain."""
        gains: tuple[float | None, ...] = self.norm_gains or (None,)
        return [Choice(learning_rate=rate, norm_gain=gain) for rate in self.learning_rates for gain in gains]


def at_once(specs: Sequence["RunSpec"], cores: int) -> int:
    """The number of equal runs that can train in parallel on this many cores; at least 1."""
    return max(1, min(cores // specs[0].cores, len(specs)))


class RunSpec(Strict):
    """The specification of one run: everything known before it starts that determines its numbers.

    The specification of a tuned run holds the sweep, not what it chose. The choice follows from the sweep's runs and is
    part of the record.
    """

    dataset: str
    architecture: str
    method: str
    options: dict[str, Any] = Field(description="all options of the method, with their values")
    recipe: Recipe
    threads: int = Field(1, ge=1, description="CPU threads per process; they determine the order of sums")
    processes: int = Field(
        1, ge=1, description="processes that share each mini-batch; they determine the order of sums"
    )
    seed: Seed
    tuning: Tuning | None = None
    sweep: bool = Field(False, description="whether the run belongs to a sweep; it then never reads the test split")
    schema_version: Literal[1] = 1

    def candidates(self) -> list["RunSpec"]:
        """The runs of the sweep, by choice and then by seed; empty if the run has no sweep."""
        if self.tuning is None:
            return []
        shared = {name: getattr(self, name) for name in RunSpec.model_fields} | {"tuning": None, "sweep": True}
        return [
            RunSpec(**shared | {"recipe": choice.apply(self.tuning.recipe), "seed": seed})
            for choice in self.tuning.choices()
            for seed in self.tuning.seeds
        ]

    @property
    def cores(self) -> int:
        """CPU cores that the run occupies: threads times processes."""
        return self.threads * self.processes

    @cached_property
    def instance(self) -> Method:
        """The method with the options of this run."""
        return method_class(self.method)(**self.options)

    @cached_property
    def cell(self) -> str:
        """The cell's name in the store: readable, with a digest of everything but the seed."""
        content = self.model_dump(mode="json", exclude={"seed"})
        return f"{self.architecture}-{self.dataset}-{self.method}-{digest.of(content)[:12]}"

    @property
    def run(self) -> str:
        """The run's name in the store."""
        return f"{self.cell}/seed-{self.seed:04d}"

    @cached_property
    def spec_digest(self) -> str:
        """The spec digest, the first of the four digests of the run identity."""
        return digest.of(self.model_dump(mode="json"))
