"""Options of PNNH layers and their validation, without torch so that planning stays fast."""

from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from rdp.errors import UserError, choices
from rdp.methods import Path
from rdp.utils.validation import Strict, validate

Variant = Literal["concat", "window", "strict", "two_sided", "sum", "sum_outer", "sum_inner"]

# Defaults of the variants other than window, whose defaults are those of the fields.
_OTHERS: dict[str, Any] = {"start": "identity", "trained": True, "learner": "one"}
_OTHERS |= {"learner_width": 0.5, "parameters": None}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "concat": _OTHERS,
    "strict": _OTHERS | {"constraint": "none"},
    "two_sided": _OTHERS | {"start": "orthogonal"},
    "sum": _OTHERS,
    "sum_outer": _OTHERS,
    "sum_inner": _OTHERS,
}
# What each variant allows, if not every value.
_ALLOWED: dict[str, dict[str, tuple[Any, ...]]] = {
    "start": {"window": ("shift", "permutation"), "strict": ("identity", "he"), "two_sided": ("orthogonal", "he")},
    "learner": {"concat": ("one", "two", "bottleneck"), "window": ("one", "two", "bottleneck")},
    "constraint": {"strict": ("none",)},
}
_OTHERWISE = {"start": ("identity", "orthogonal", "he"), "learner": ("one",)}


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
    project's own, and the studies ``pnnh_screen`` and ``pnnh_ablation`` measure the effect of each. The variants have
    defaults of their own; those of the fields are window's.
    """

    variant: Variant = Field(
        "window",
        description="window and concat add nothing up; sum with an orthogonal coder is a residual network in rotated "
        "coordinates",
    )
    constraint: Literal["orthogonal", "spectral", "none"] = Field(
        "orthogonal",
        description="constraint on the coder: orthonormal rows, largest singular value at most 1, or none (the only "
        "one in strict)",
    )
    start: Literal["identity", "shift", "permutation", "orthogonal", "he"] = Field(
        "shift",
        description="initial value of the coder: shift or permutation in window, otherwise identity by default; in "
        "two_sided, which has no coder, initial weights that are orthogonal (its default) or he",
    )
    learning_rate_factor: float | None = Field(
        None, gt=0, description="factor on the coder's learning rate; null for 1 / (number of layers that share it)"
    )
    decay: bool = Field(False, description="whether weight decay applies to the coder, as to other matrices")
    sharing: Literal["stage", "pair", "none"] = Field(
        "stage", description="consecutive layers of equal shape that share one coder: all of a stage, pairs, or none"
    )
    trained: bool = Field(
        False,
        description="whether the coder is trained (true in other variants than window); otherwise it keeps its "
        "initial value",
    )
    learner: Literal["one", "two", "bottleneck"] = Field(
        "bottleneck",
        description="a learner's layers, in window and concat: one (the default of other variants than window), two of "
        "full kernels, or a pointwise one before one of full kernels. Bottlenecks and sub-layers of transformers are "
        "learners as they are",
    )
    preactivation: bool = Field(
        False, description="norm and rectifier before each layer of a learner instead of after it, in window and concat"
    )
    learner_width: float = Field(
        0.125,
        gt=0,
        le=1,
        description="width of the learner as a share of the layer's width: the channels it writes, or those of its "
        "bottleneck in the sums (1 for a full layer); 1/8 in window, so that 8 layers read a feature, and 1/2 in other "
        "variants. Sub-layers and bottlenecks keep this share of their parameters",
    )
    input_share: float = Field(
        0.0, ge=0, lt=1, description="share of the width that keeps the stage's input in all layers, in window"
    )
    parameters: float | None = Field(
        0.5,
        gt=0,
        le=4,
        description="share of the residual network's parameters that the stages get, by their widths; null keeps the "
        "widths (the default of other variants than window)",
    )

    @model_validator(mode="before")
    @classmethod
    def _set_defaults_of_variant(cls, options: Any) -> Any:
        if not isinstance(options, dict):
            return options
        return _DEFAULTS.get(str(options.get("variant", cls.model_fields["variant"].default)), {}) | options

    @model_validator(mode="after")
    def _check_conflicts(self) -> "PnnhOptions":
        for name, by_variant in _ALLOWED.items():
            allowed = by_variant.get(self.variant, _OTHERWISE.get(name))
            if allowed and (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}: {value} is not possible in {self.variant}; valid: {', '.join(allowed)}")
        if self.start == "he" and self.constraint == "orthogonal" and self.variant != "two_sided":
            raise ValueError(
                "start: he conflicts with constraint: orthogonal, because a random matrix is not orthogonal"
            )
        if self.variant in {"concat", "window", "strict"} and self.learner_width + self.input_share >= 1:
            raise ValueError(f"learner_width: {self.learner_width:g} leaves no channels to the coder of {self.variant}")
        if self.preactivation and self.variant not in {"concat", "window"}:
            raise ValueError(f"preactivation: only concat and window have it, and the variant is {self.variant}")
        if self.variant == "two_sided" and self.learner_width != 0.5:
            raise ValueError("learner_width: 0.5 is the only one of two_sided, whose output is the learner's twice")
        if self.input_share and self.variant != "window":
            raise ValueError(f"input_share: only window has one, and the variant is {self.variant}")
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
        if self.parameters is None and (reason := self.mismatch(width)):
            raise UserError(reason)
        part = max(1, round(width * self.learner_width))
        if self.variant == "two_sided":
            return Split(width, 0, part, self.learner_width)
        if self.variant in {"concat", "window", "strict"}:
            return Split(width, width - part, part, self.learner_width)
        return Split(width, width, width, self.learner_width)

    def mismatch(self, width: int) -> str | None:
        """The reason why layers of this width cannot be split; None if they can, or if `parameters` sets the width."""
        part = width * self.learner_width
        if self.parameters is not None or (abs(part - round(part)) < 1e-9 and round(part) >= 1):
            return None
        return f"a width of {width} cannot be split at learner_width {self.learner_width:g}, which asks for {part:g}"
