"""The record of a run: its fields, where each of them is shown, and how a record is read back and verified.

A new number is one field here, and a value in `rdp.training.trainer` or `rdp.jobs.runner`. The JSON schema, the columns
of a study's tables with their types, the fields of the runs explorer and the validation of stored records follow from
the fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from rdp.errors import UserError
from rdp.spec import Choice, RunSpec
from rdp.utils import digest, files
from rdp.utils.validation import validate

if TYPE_CHECKING:
    import numpy as np

FORMAT: Final = 2
Status = Literal["completed", "diverged", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
PREDICTIONS, WEIGHTS = "predictions.safetensors", "weights.safetensors"  # the files beside a record
WEIGHTS_OMITTED = "weights.omitted"  # beside a record that was unpacked without its weights
DIGESTED = {"format", "spec", "identity", "status", "numbers", "files"}  # the fields under a record's digest


@dataclass(frozen=True)
class Column:
    """Marks a field as a column of the table of a study's runs."""

    exact: bool = False  # counted and not computed in floating point, so equal on every stack
    sweep: bool = False  # a column of the table of sweep runs too
    title: str | None = None  # label in the runs explorer; None where the explorer leaves the field out
    notation: Literal["scientific"] | None = None  # None for thousands separators in integers, and six digits else
    dtype: str | None = None  # pandas type; None for the one of the field's annotation


class Part(BaseModel):
    """A part of a stored JSON file: every key and type is checked, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Identity(Part):
    """The four digests of a run. Equal identities give bitwise equal numbers."""

    spec: str
    data: str
    code: str
    stack: str


class Epoch(Part):
    """Means over an epoch's mini-batches, and the validation after it where there was one."""

    epoch: int
    step: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class Numbers(Part):
    """What a run's identity determines to the last bit. A field is None where it does not apply; all are, if it failed.

    Floating-point operations are of one example, except ``training_flops``, which sums them over the run.
    """

    test_accuracy: Annotated[float | None, Column()] = None
    test_loss: Annotated[float | None, Column(title="test loss")] = None
    learning_rate: Annotated[float | None, Column(title="learning rate")] = None
    norm_gain: Annotated[float | None, Column(title="norm gain")] = None
    steps: Annotated[int | None, Column(exact=True, title="optimizer steps")] = None
    examples: Annotated[int | None, Column(exact=True, title="examples seen")] = None
    diverged_step: Annotated[int | None, Column(title="diverged at step")] = None
    parameters: Annotated[int | None, Column(exact=True, title="parameters")] = None
    units: Annotated[int | None, Column(exact=True)] = None
    unit_updates: Annotated[float | None, Column(exact=True)] = None
    forward_flops: Annotated[int | None, Column(exact=True)] = None
    activation_bytes: Annotated[int | None, Column(exact=True)] = None
    iteration_flops: Annotated[int | None, Column(exact=True)] = None
    training_flops: Annotated[
        int | None, Column(exact=True, title="training FLOP", notation="scientific", dtype="float64")
    ] = None  # may exceed 64 bits
    history: list[Epoch] = []
    weights: dict[str, str] | None = Field(None, description="checksum of each tensor, by name")


class Energy(Part):
    """Energy in joules by device, as its counters report it; None where they do not."""

    gpu_joules: Annotated[float | None, Column(sweep=True)] = None
    cpu_package_joules: Annotated[float | None, Column(sweep=True)] = None


class Telemetry(Part):
    """Time, memory and machine of a run: what its identity does not determine. Times of day are in UTC."""

    started: Annotated[str | None, Column(sweep=True)] = None
    ended: str | None = None
    seconds: Annotated[float | None, Column(sweep=True, title="seconds")] = None
    train_seconds: Annotated[float | None, Column()] = None
    evaluate_seconds: float | None = None
    epoch_seconds: list[float] = []
    examples_per_second: Annotated[float | None, Column(title="examples a second")] = None
    process_peak_bytes: Annotated[int | None, Column()] = None
    energy: Energy = Energy()
    resumed_at: list[int] = Field([], description="steps at which it continued from a checkpoint")
    host: Annotated[str | None, Column()] = None
    device: Literal["cpu", "cuda"] | None = None
    system: Annotated[str | None, Column()] = None
    commit: Annotated[str | None, Column()] = None
    stack: dict[str, str] = Field({}, description="content of the stack digest")
    versions: dict[str, str] = Field({}, description="of other libraries")
    traceback: str | None = None


class RunRecord(Part):
    """What a run leaves."""

    format: Literal[2] = FORMAT
    spec: dict[str, Any]  # the run's specification, as JSON
    identity: Identity
    status: Status  # ``completed``, ``diverged`` (a loss that is not finite) or ``failed`` (any other error)
    reason: str | None = None  # why it did not complete
    numbers: Numbers = Numbers()
    telemetry: Telemetry = Telemetry()
    files: dict[str, str] = {}  # SHA-256 of the record's other files, by name

    @property
    def digest(self) -> str:
        """Digest of all fields but telemetry and reason: equal for two runs of one identity."""
        return digest.of(self._dump(DIGESTED))

    @property
    def bits(self) -> str:
        """Digest that ignores the code too: equal where a change of code makes no difference."""
        content = self._dump(DIGESTED)
        del content["identity"]["code"]
        return digest.of(content)

    def content(self) -> dict[str, Any]:
        """The record as the JSON object of its file, with its digest and a seal over all fields."""
        return digest.seal(self._dump() | {"digest": self.digest})

    def _dump(self, fields: set[str] | None = None) -> dict[str, Any]:
        # Fields that are None are absent, so a new field leaves records and digests of earlier runs valid.
        return self.model_dump(mode="json", include=fields, exclude_none=True)


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``record.json``: the record, its digest and the seal over the file."""
    schema = RunRecord.model_json_schema()
    checksum = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    schema["properties"] |= {"digest": checksum, "seal": checksum}
    schema["required"] += ["digest", "seal"]
    return schema


def columns(part: type[Part] = RunRecord) -> Iterator[tuple[str, Column, str]]:
    """Name, marker and pandas type of every column that a record or a part of one has, in the order of its fields."""
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            yield from columns(field.annotation)
        elif column := _column(part, name):
            dtypes = {int: "int64", float: "float64", str: "object"}
            yield name, column, column.dtype or dtypes[get_args(field.annotation)[0]]


def column_values(part: Part) -> Iterator[tuple[str, Any]]:
    """Name and value of every column of a record or a part of one."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Part):
            yield from column_values(value)
        elif _column(type(part), name):
            yield name, value


@cache
def _column(part: type[Part], name: str) -> Column | None:
    return next((marker for marker in part.model_fields[name].metadata if isinstance(marker, Column)), None)


def read(path: Path) -> RunRecord:
    """A record from its file, checked against its digest and its seal.

    Raises:
        UserError: no such record, a damaged one, or one of another format.
    """
    content = files.read_json(path)
    files.check_format(path, content, "record", FORMAT, "Train the run again.")
    stated, sealed = content.get("digest"), digest.unseal(content)
    content.pop("digest", None)
    try:
        record = validate(RunRecord, content, "record")
        actual = record.digest
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}") from None
    if actual != stated:
        raise UserError(f"{path}: damaged: its digest is {actual[:12]}, but it states {str(stated)[:12]}")
    if not sealed:
        raise UserError(f"{path}: damaged: its seal does not match its content")
    return record


def stated_choice(spec: RunSpec, record: RunRecord) -> Choice | None:
    """What a run with a sweep was trained with, as its record states it; None if it has no sweep, or states nothing."""
    rate, gain = record.numbers.learning_rate, record.numbers.norm_gain
    if spec.tuning is None or rate is None:
        return None
    return Choice(learning_rate=rate, norm_gain=gain if spec.tuning.norm_gains else None)


def accuracy_fits(record: RunRecord, predictions: "np.ndarray", labels: "np.ndarray") -> bool:
    """Whether predictions and labels, shapes (m,), give the record's test accuracy, to the example."""
    if record.numbers.test_accuracy is None or predictions.shape != labels.shape:
        return False
    accuracy = float((predictions == labels).mean())
    return abs(accuracy - record.numbers.test_accuracy) * len(labels) < 0.51  # accuracies may be rounded
