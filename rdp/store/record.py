"""What a run leaves, as it is read back: verified in the form in which it was written, read in the present one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rdp.errors import UserError
from rdp.store import record_schema
from rdp.utils import digest, files, schemas

if TYPE_CHECKING:
    import numpy as np

SCHEMA = 1
Status = Literal["completed", "diverged", "failed"]
PREDICTIONS, WEIGHTS = "predictions.safetensors", "weights.safetensors"  # the files beside a record
WEIGHTS_OMITTED = "weights.omitted"  # beside a record that was unpacked without its weights
_UNDER = ("spec", "identity", "status", "numbers", "files", "schema")  # the digest of a record


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves.

    Attributes:
        spec: the run's specification, as JSON.
        identity: the four digests, and the stack's contents.
        status: ``completed``; ``diverged`` (a loss that is not finite); ``failed`` (anything else).
        reason: why it did not complete, or None.
        numbers: what the identity determines to the last bit.
        telemetry: timings, memory, host: what it does not.
        files: SHA-256 of the record's other files, by name.
    """

    spec: dict[str, Any]
    identity: dict[str, Any]
    status: Status
    reason: str | None
    numbers: dict[str, Any]
    telemetry: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """Digest of all but telemetry: equal for two runs of one identity."""
        return digest.of({name: getattr(self, name) for name in _UNDER})

    @property
    def bits(self) -> str:
        """Digest of all but telemetry and which code made it: equal where that makes no difference.

        For the specification stands its digest, which knows of no option that came later.
        """
        content = {name: getattr(self, name) for name in _UNDER if name != "spec"}
        return digest.of(content | {"identity": self.identity | {"code": None}})


@dataclass(frozen=True)
class EarlierRecord(RunRecord):
    """A record that was written in an earlier schema, read as one of this. Its digest stays the one that it states,
    which receipts, choices of learning rates and bundles know it by."""

    stated: str = ""

    @property
    def digest(self) -> str:
        """Digest of all but telemetry, in the schema in which it was written."""
        return self.stated


def read(path: Path) -> RunRecord:
    """A record from its file, checked against its own digest.

    Raises:
        UserError: no such record, a damaged one, or one of a later version.
    """
    content = files.read_json(path)
    try:
        schema = schemas.RECORD.check(path, content)
        # The seal is over telemetry too, which the digest leaves out. The first records had none.
        whole = digest.unseal(content) is not False
        stated = content.pop("digest")
        found = digest.of({name: content[name] for name in _UNDER})
        present = schemas.RECORD.present(path, content)
        record = RunRecord(**present) if schema == SCHEMA else EarlierRecord(**present, stated=stated)
        wrong = record_schema.wrong(present)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path}: damaged: not a record of schema {SCHEMA}") from None
    if found != stated:
        raise UserError(f"{path}: damaged: its digest is {found[:12]}, it says {str(stated)[:12]}")
    if not whole:
        raise UserError(f"{path}: damaged: its seal does not fit")
    if wrong:
        raise UserError(f"{path}: damaged: {wrong}")
    return record


def accuracy_fits(record: RunRecord, predictions: "np.ndarray", labels: "np.ndarray") -> bool:
    """Whether predictions and labels, shapes (m,), give the accuracy that a record states, to the example."""
    if predictions.shape != labels.shape:
        return False
    right = float((predictions == labels).mean())
    return abs(right - record.numbers["test_accuracy"]) * len(labels) < 0.51  # accuracies may be rounded
