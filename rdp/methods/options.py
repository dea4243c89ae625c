"""The options of PNNH layers, checked. Nothing here imports torch, so that a study can be planned with them."""

from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from rdp.errors import UserError
from rdp.utils.validation import Strict, validate

Variant = Literal["concat", "sum", "sum_outer", "sum_inner"]


class Split(NamedTuple):
    """Who writes what of a layer's output.

    Attributes:
        width: of what a layer reads and of what it writes.
        coded: of what the coder writes.
        written: of what the learner writes.
        share: of the parameters of a plain layer's, that the learner may have.
    """

    width: int
    coded: int
    written: int
    share: float


class PnnhOptions(Strict):
    """How learner and coder write a PNNH layer's output, see `rdp.models.paths`.

    The paper's text beyond its abstract was not at hand (arXiv 2402.08645): names, choices and defaults are this
    project's, and the study ``pnnh_ablation`` shows what each does.
    """

    variant: Variant = Field(
        "concat", description="concat has no sum; sum with an orthogonal coder is a residual network in rotated axes"
    )
    constraint: Literal["orthogonal", "spectral", "none"] = Field(
        "orthogonal", description="on the coder: orthonormal rows, a largest singular value of at most 1, or nothing"
    )
    start: Literal["identity", "orthogonal", "he"] = Field("identity", description="what the coder starts as")
    learning_rate_factor: float | None = Field(
        None, gt=0, description="on the coder's learning rate; null for 1 / (layers that use it)"
    )
    decay: bool = Field(False, description="whether weight decay acts on the coder, as it does on other matrices")
    sharing: Literal["stage", "pair", "none"] = Field(
        "stage", description="which layers of equal shape have one coder: all in a row, each two, or none"
    )
    trained: bool = Field(True, description="whether the coder is trained, or stays what it starts as")
    learner_width: float = Field(
        0.5,
        gt=0,
        le=1,
        description="what the learner computes, as a share of the width: in concat the channels that it writes, in "
        "the sums those that it narrows to (1: a full layer). A sub-layer or bottleneck gets this share of its own "
        "form's parameters",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "PnnhOptions":
        if self.start == "he" and self.constraint == "orthogonal":
            raise ValueError("start: he, and the constraint is orthogonal, which no drawn matrix meets")
        if self.variant == "concat" and self.learner_width == 1:
            raise ValueError("learner_width: 1 leaves the coder of concat nothing to write")
        if not self.trained and (self.decay or self.learning_rate_factor is not None):
            raise ValueError("trained: false, and a coder that is not trained has no decay or learning_rate_factor")
        return self

    @classmethod
    def read(cls, options: dict[str, object]) -> "PnnhOptions":
        """The options that a mapping holds; raises `UserError` with the first that is wrong."""
        try:
            return validate(cls, options, "pnnh")
        except ValueError as error:
            raise UserError(str(error)) from None

    def split(self, width: int) -> Split:
        """Who writes what of an output ``width`` wide; raises `UserError` where the width cannot be split so."""
        if reason := self.mismatch(width):
            raise UserError(reason)
        part = round(width * self.learner_width)
        if self.variant == "concat":
            return Split(width, width - part, part, self.learner_width)
        return Split(width, width, width, self.learner_width)

    def mismatch(self, width: int) -> str | None:
        """Why layers of this width cannot be built, or None where they can."""
        part = width * self.learner_width
        if abs(part - round(part)) < 1e-9 and round(part) >= 1:
            return None
        return f"a width of {width} cannot be split at learner_width {self.learner_width:g}, which asks for {part:g}"
