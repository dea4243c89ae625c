"""Options of PNNH layers and their validation, without torch so that planning stays fast."""

from typing import Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from rdp.errors import UserError, choices
from rdp.methods import Path
from rdp.utils.validation import Strict, validate

Variant = Literal["concat", "sum", "sum_outer", "sum_inner"]


class Split(NamedTuple):
    """The channels of a layer's output that coder and learner write, ``coded`` and ``written``, of ``width``.

    ``share`` is the learner's share of the parameters of a plain layer.
    """

    width: int
    coded: int
    written: int
    share: float


class PnnhOptions(Strict):
    """How learner and coder combine into the output of a PNNH layer; see `rdp.models.paths`.

    Only the abstract of the paper (arXiv 2402.08645) was available. Option names, choices and defaults are this
    project's own, and the study ``pnnh_ablation`` measures the effect of each.
    """

    variant: Variant = Field(
        "concat",
        description="concat adds nothing up; sum with an orthogonal coder is a residual network in rotated coordinates",
    )
    constraint: Literal["orthogonal", "spectral", "none"] = Field(
        "orthogonal", description="constraint on the coder: orthonormal rows, largest singular value at most 1, or none"
    )
    start: Literal["identity", "orthogonal", "he"] = Field("identity", description="initial value of the coder")
    learning_rate_factor: float | None = Field(
        None, gt=0, description="factor on the coder's learning rate; null for 1 / (number of layers that share it)"
    )
    decay: bool = Field(False, description="whether weight decay applies to the coder, as to other matrices")
    sharing: Literal["stage", "pair", "none"] = Field(
        "stage", description="consecutive layers of equal shape that share one coder: all of a stage, pairs, or none"
    )
    trained: bool = Field(True, description="whether the coder is trained; otherwise it keeps its initial value")
    learner_width: float = Field(
        0.5,
        gt=0,
        le=1,
        description="width of the learner as a share of the layer's width: the channels it writes in concat, the "
        "channels of its bottleneck in the sums (1 for a full layer). Sub-layers and bottlenecks keep this share of "
        "their parameters",
    )

    @model_validator(mode="after")
    def _check_conflicts(self) -> "PnnhOptions":
        if self.start == "he" and self.constraint == "orthogonal":
            raise ValueError(
                "start: he conflicts with constraint: orthogonal, because a random matrix is not orthogonal"
            )
        if self.variant == "concat" and self.learner_width == 1:
            raise ValueError("learner_width: 1 leaves no channels to the coder of concat")
        if not self.trained and (self.decay or self.learning_rate_factor is not None):
            raise ValueError("trained: false conflicts with decay and learning_rate_factor, which need a trained coder")
        return self

    @classmethod
    def read(cls, options: dict[str, object], path: str = "pnnh") -> "PnnhOptions":
        """Validate a path and its options; raises `UserError` for the first invalid one."""
        if path not in get_args(Path):
            raise UserError(f"unknown path '{path}'; {choices(path, get_args(Path))}")
        if options and path != "pnnh":
            raise UserError(f"a {path} network has no option '{next(iter(options))}'; the options are those of pnnh")
        try:
            return validate(cls, options, "pnnh")
        except ValueError as error:
            raise UserError(str(error)) from None

    def split(self, width: int) -> Split:
        """Split ``width`` channels between coder and learner; raises `UserError` if `mismatch` gives a reason."""
        if reason := self.mismatch(width):
            raise UserError(reason)
        part = round(width * self.learner_width)
        if self.variant == "concat":
            return Split(width, width - part, part, self.learner_width)
        return Split(width, width, width, self.learner_width)

    def mismatch(self, width: int) -> str | None:
        """The reason why a layer of this width cannot be split; None if it can."""
        part = width * self.learner_width
        if abs(part - round(part)) < 1e-9 and round(part) >= 1:
            return None
        return f"a width of {width} cannot be split at learner_width {self.learner_width:g}, which asks for {part:g}"
