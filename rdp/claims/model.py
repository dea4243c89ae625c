"""Claims as data: ``config/claims.yaml`` and the user's files, validated."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from rdp import data, models
from rdp.claims import metrics
from rdp.claims.metrics import Metric
from rdp.errors import UserError
from rdp.methods import available
from rdp.study.schema import Name
from rdp.utils import digest, extensions, paths
from rdp.utils.validation import Strict, check_names, read_mapping, validate

MINIMUM_SEEDS = 5  # default of a claim
KINDS = ("confirmatory", "exploratory")  # of datasets


class Source(Strict):
    """The source of a claim: a place in a paper, or this project."""

    paper: str | None = Field(None, description="arXiv number")
    place: str | None = Field(None, description="place in the paper, or second-hand")
    ours: bool = Field(False, description="a claim of this project, not of a paper")

    @model_validator(mode="after")
    def _one_of_two(self) -> "Source":
        if self.ours == bool(self.paper):
            raise ValueError("give either a paper or ours: true")
        if self.paper and not self.place:
            raise ValueError("place: missing; name the place in the paper")
        return self


class Part(Strict):
    """One comparison: a number per seed, and the side of a margin on which the claim places its mean.

    The number is the metric of ``method``. With ``against``, it is the difference to that method's metric, or the
    ratio minus 1 for a relative metric. If a study has several entries for a method, the first counts.
    """

    metric: str = Field(description="the name of a metric in rdp/claims/metrics or extensions/metrics")
    method: str
    against: str | None = None
    against_form: Name | None = Field(None, description="the form of the architecture that `against` has")
    budget: Literal["steps", "flops", "updates"] = "steps"
    stage: Literal["initial", "trained"] = "trained"
    direction: Literal["above", "below", "within"]
    margin: float = Field(description="in the metric's unit")
    negligible: float = Field(
        0.0, ge=0, description="evidence that the effect beyond the margin is smaller than this refutes the claim"
    )
    minimum_seeds: int | None = Field(None, ge=2, description="overrides the claim's")
    condition: bool | Annotated[str, Field(min_length=1)] = Field(
        False,
        description="a precondition of the setting, checked on the mean without a test: where it does not hold, the "
        "setting does not test the claim; a text in place of true is the reason that is shown",
    )

    @model_validator(mode="after")
    def _names_exist(self) -> "Part":
        check_names("metric", [self.metric], metrics.available())
        check_names("method", [self.method, *([self.against] if self.against else [])], available())
        if self.direction == "within" and self.margin <= 0:
            raise ValueError("margin: must be above 0 for the direction within")
        if self.direction == "within" and self.negligible:
            raise ValueError("negligible: applies to the directions above and below, not to within")
        if self.against is None and (self.definition.relative or self.metric == "accuracy"):
            raise ValueError(f"against: missing; {self.metric} is compared with another method's")
        return self

    @property
    def definition(self) -> Metric:
        """The definition of the metric."""
        return metrics.available()[self.metric]

    @property
    def test(self) -> str:
        """The statistical test, as text."""
        if self.condition:
            return "condition on the mean, no test"
        if self.definition.exact:
            return "exact count, no test"
        if self.metric == "throughput":
            return "95 % bootstrap interval over rounds that time both methods"
        pairing = "paired by seed" if self.against else "over seeds"
        if self.metric == "redundancy_beyond_chance":
            pairing += ", with a standard error for pairs of networks that share one"
        error = ", with the test set's sampling error" if self.metric == "accuracy" else ""
        if self.direction == "within":
            return f"two one-sided t tests, {pairing}{error}"
        return f"two-sided t test, {pairing}{error}"


class Claim(Strict):
    """One statement of a paper or of this project."""

    title: str = Field(min_length=1)
    source: Source
    tests: str = Field(min_length=1, description="what is tested")
    reading: str = Field(min_length=1, description="how to read the verdict")
    holds: Literal["all", "some"] = Field(description="whether the claim must hold in all tested settings or in some")
    minimum_seeds: int = Field(MINIMUM_SEEDS, ge=2, description="with fewer seeds the claim is inconclusive")
    depth: int | None = Field(None, ge=1, description="the least depth of networks that test the claim; null for any")
    families: list[str] | None = Field(None, description="the families that test the claim; null for any")
    data: Literal["image", "vector"] | None = Field(None, description="the data that test the claim; null for any")
    parts: list[Part] = Field(min_length=1, description="comparisons that must all hold in a setting")
    beside: list[Part] = Field(default_factory=list, description="comparisons shown without effect on the verdict")

    @model_validator(mode="after")
    def _names_exist(self) -> "Claim":
        known = {models.architecture(name).family for name in models.architectures()}
        check_names("families", self.families or [], known)
        if self.parts[0].condition:
            raise ValueError("parts: the first part is a condition; begin with a comparison that the claim is about")
        if any(part.condition for part in self.beside):
            raise ValueError("beside: a condition belongs to parts")
        return self

    def seeds_for(self, part: Part) -> int:
        """The number of seeds that a part needs: one for an exact metric."""
        return 1 if part.definition.exact else part.minimum_seeds or self.minimum_seeds

    def applies_to(self, architecture: str, dataset: str) -> bool:
        """Whether a network and a dataset test the claim."""
        network = models.architecture(architecture)
        return (
            (self.depth is None or network.depth >= self.depth)
            and (self.families is None or network.family in self.families)
            and (self.data is None or data.info(dataset).kind == self.data)
        )


Named = Annotated[dict[Annotated[str, Field(pattern=r"^[A-Z]+-\d+$")], Claim], Field(min_length=1)]


class MoreClaims(Strict):
    """A file of further claims. The confirmatory datasets are those of ``config/claims.yaml``."""

    claims: Named


class Claims(Strict):
    """``config/claims.yaml``."""

    confirmatory: list[str] = Field(description="datasets on which no choice was made; all others are exploratory")
    claims: Named

    def digest(self, name: str) -> str:
        """SHA-256 of a claim, the definitions of its metrics, and the confirmatory datasets."""
        claim = self.claims[name]
        definitions = {part.metric: part.definition.identity() for part in (*claim.parts, *claim.beside)}
        confirmatory = sorted(self.confirmatory)
        return digest.of({"claim": claim.model_dump(mode="json"), "metrics": definitions, "confirmatory": confirmatory})

    def kind(self, dataset: str) -> str:
        """Whether a dataset is ``confirmatory`` or ``exploratory``."""
        return KINDS[0] if dataset in self.confirmatory else KINDS[1]


def load(file: Path | None = None) -> Claims:
    """Read ``config/claims.yaml`` and the claims in the user's extension folders, or one file only.

    Raises:
        UserError: names the file, the key and the valid values.
    """
    project = _read(Claims, file or paths.claims())
    claims = dict(project.claims)
    for more in extensions.claims() if file is None else ():
        for name, claim in _read(MoreClaims, more).claims.items():
            if name in claims:
                raise UserError(f"{more}: claims.{name}: another file defines this claim; rename it")
            claims[name] = claim
    return project.model_copy(update={"claims": claims})


_C = TypeVar("_C", Claims, MoreClaims)


def _read(kind: type[_C], file: Path) -> _C:
    content = read_mapping(file, "claims are a mapping")
    try:
        claims = validate(kind, content, "")
        check_names("confirmatory", getattr(claims, "confirmatory", []), data.available())
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    return claims


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``config/claims.yaml``, for editors."""
    schema = Claims.model_json_schema()
    schema["$defs"]["Part"]["properties"]["metric"] |= {"enum": list(metrics.available())}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
