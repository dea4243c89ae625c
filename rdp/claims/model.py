"""Claims as data: ``config/claims.yaml``, checked to the last key, and what of a study may speak to each."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rdp import data, models
from rdp.errors import UserError
from rdp.methods import available
from rdp.study.schema import Name
from rdp.utils import paths
from rdp.utils.validation import Strict, check_names, read_mapping, validate

MINIMUM_SEEDS = 5  # of a claim that says no other number


@dataclass(frozen=True)
class Kind:
    """What a metric is.

    Attributes:
        unit: of its numbers.
        says: what it measures, in a few words.
        probe: that measures it, or None.
        relative: whether two methods are compared by their ratio, less 1, in place of their difference.
        exact: whether it is counted, the same for every seed, so that one run is enough.
        spread: standard deviation of a paired difference over seeds to plan with, in its unit; None where no grid
            was explored that tells.
    """

    unit: str
    says: str
    probe: str | None = None
    relative: bool = False
    exact: bool = False
    spread: float | None = None


KINDS = ("confirmatory", "exploratory")  # what a dataset is to a claim
METRICS = {
    "accuracy": Kind("points", "test accuracy after the last epoch", spread=1.0),
    "final_loss": Kind("of guessing", "training loss of the last epoch, over that of guessing"),
    "lesion": Kind("points", "accuracy that deleting one unit changes, mean over units", "feature_reuse"),
    "loss_at_best_rate": Kind("of guessing", "training loss at the sweep's best rate, over that of guessing"),
    "parameters": Kind("", "parameters", relative=True, exact=True),
    "reconstruction": Kind("R²", "R² of the input from the last layer, at least 0", "dissipating_inputs"),
    "redundancy": Kind("CKA", "redundancy of branches", "feature_reuse"),
    "redundancy_beyond_chance": Kind("CKA", "redundancy over that of two networks trained apart", "feature_reuse"),
    "survival": Kind("", "share of pre-activations above 0, mean over layers", "surviving_neurons"),
    "survival_error": Kind("", "largest distance of survival from its closed form", "surviving_neurons"),
    "throughput": Kind("", "training throughput", relative=True),
    "training_flops": Kind("", "counted operations of training", relative=True),
}


class Source(Strict):
    """Where a claim comes from: a place in a paper, or this project."""

    paper: str | None = Field(None, description="its number on arXiv")
    place: str | None = Field(None, description="where in the paper, or second-hand")
    ours: bool = Field(False, description="a claim of this project, of no paper")

    @model_validator(mode="after")
    def _one_of_two(self) -> "Source":
        if self.ours == bool(self.paper):
            raise ValueError("source: either a paper, or ours: true")
        if self.paper and not self.place:
            raise ValueError("source: a paper's claim names its place there")
        return self


class Part(Strict):
    """One comparison: a number a seed, and on which side of a margin its mean is said to lie.

    The number is the metric of ``method``, less that of ``against`` where there is one, or relative to it, less 1 (see
    `METRICS`). Of several entries of a study for one method, the first counts.
    """

    metric: str = Field(description=", ".join(METRICS))
    method: str
    against: str | None = None
    against_form: Name | None = Field(None, description="the form of the architecture that `against` has")
    budget: Literal["steps", "flops", "updates"] = "steps"
    stage: Literal["initial", "trained"] = "trained"
    direction: Literal["above", "below", "within"]
    margin: float = Field(description="in the metric's unit")
    negligible: float = Field(
        0.0, ge=0, description="an effect shown to be less than this beyond the margin speaks against the claim"
    )
    minimum_seeds: int | None = Field(None, ge=2, description="in place of the claim's")
    condition: bool = Field(
        False, description="what must hold for a setting to tell anything: where it does not, the setting is undecided"
    )

    @model_validator(mode="after")
    def _names_exist(self) -> "Part":
        check_names("metric", [self.metric], METRICS)
        check_names("method", [self.method, *([self.against] if self.against else [])], available())
        if self.direction == "within" and self.margin <= 0:
            raise ValueError("margin: to lie within a margin, it must be above 0")
        if self.direction == "within" and self.negligible:
            raise ValueError("negligible: of an effect above or below a margin, not of one within it")
        if self.against is None and (self.kind.relative or self.metric == "accuracy"):
            raise ValueError(f"against: {self.metric} is compared with another method's, which is missing")
        return self

    @property
    def kind(self) -> Kind:
        """What the metric is."""
        return METRICS[self.metric]

    @property
    def test(self) -> str:
        """How the part is decided, and what is paired."""
        if self.kind.exact:
            return "counted, no test"
        if self.metric == "throughput":
            return "95 % bootstrap interval over rounds in which both are timed"
        pairing = "paired by seed" if self.against else "over seeds"
        error = ", with the test set's sampling error" if self.metric == "accuracy" else ""
        if self.direction == "within":
            return f"two one-sided t tests, {pairing}{error}"
        return f"two-sided t test, {pairing}{error}"


class Claim(Strict):
    """One sentence of one paper, or one of ours."""

    title: str = Field(min_length=1)
    source: Source
    tests: str = Field(min_length=1, description="what is tested, in this project's words")
    reading: str = Field(min_length=1, description="how to read the verdict")
    holds: Literal["all", "some"] = Field(description="in all settings that are tested, or in some")
    minimum_seeds: int = Field(MINIMUM_SEEDS, ge=2, description="below which a claim stays inconclusive")
    depth: int | None = Field(None, ge=1, description="the least, of networks that speak to the claim; null for any")
    families: list[str] | None = Field(None, description="of the networks that speak to the claim; null for any")
    data: Literal["image", "vector"] | None = Field(None, description="that speak to the claim; null for any")
    parts: list[Part] = Field(min_length=1, description="all of which must hold in a setting")
    beside: list[Part] = Field(default_factory=list, description="shown, and of no weight in the verdict")

    @model_validator(mode="after")
    def _names_exist(self) -> "Claim":
        known = {models.architecture(name).family for name in models.architectures()}
        check_names("families", self.families or [], known)
        return self

    def seeds_for(self, part: Part) -> int:
        """How many seeds a comparison of a part needs: one of what is counted."""
        return 1 if part.kind.exact else part.minimum_seeds or self.minimum_seeds

    def speaks_of(self, architecture: str, dataset: str) -> bool:
        """Whether a network and a dataset are of those that speak to the claim."""
        found = models.architecture(architecture)
        return (
            (self.depth is None or found.depth >= self.depth)
            and (self.families is None or found.family in self.families)
            and (self.data is None or data.info(dataset).kind == self.data)
        )


Named = Annotated[dict[Annotated[str, Field(pattern=r"^[A-Z]+-\d+$")], Claim], Field(min_length=1)]


class MoreClaims(Strict):
    """A file in ``config/claims/``: claims beside those of ``config/claims.yaml``, which says what may confirm them."""

    claims: Named


class Claims(Strict):
    """The file."""

    confirmatory: list[str] = Field(description="datasets on which nothing was explored before; others are exploratory")
    claims: Named

    def digest(self, name: str) -> str:
        """SHA-256 of all that was fixed of a claim: its content with defaults, what its metrics are, and which datasets
        may confirm it.

        Not by `rdp.utils.digest.of`: results and bundles hold digests of this form, with other spaces and escapes.
        """
        claim = self.claims[name]
        metrics = {part.metric: vars(part.kind) for part in (*claim.parts, *claim.beside)}
        told = claim.model_dump(mode="json")
        for part in (*told["parts"], *told["beside"]):
            if not part["condition"]:
                del part["condition"]  # which came later: texts that do not have it keep their digests
        content = {"claim": told, "metrics": metrics, "confirmatory": sorted(self.confirmatory)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def kind(self, dataset: str) -> str:
        """What a dataset may do: confirm a claim, or, having been explored while defaults were chosen, less."""
        return KINDS[0] if dataset in self.confirmatory else KINDS[1]


def load(file: Path | None = None) -> Claims:
    """Read ``config/claims.yaml``, and with it the files in ``config/claims/``; or one file alone.

    Raises:
        UserError: one line with the file, the key and what would be valid.
    """
    found: Claims = _read(Claims, file or paths.claims())
    claims = dict(found.claims)
    for more in paths.more_claims().values() if file is None else ():
        for name, claim in _read(MoreClaims, more).claims.items():
            if name in claims:
                raise UserError(f"{more}: claims.{name}: another file has a claim of this name")
            claims[name] = claim
    return found.model_copy(update={"claims": claims})


def _read(kind: type[Strict], file: Path) -> Any:
    content = read_mapping(file, "claims are a mapping")
    try:
        found = validate(kind, content, "")
        check_names("confirmatory", getattr(found, "confirmatory", []), data.available())
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    return found


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``config/claims.yaml``, for editors."""
    schema = Claims.model_json_schema()
    schema["$defs"]["Part"]["properties"]["metric"] |= {"enum": list(METRICS)}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
