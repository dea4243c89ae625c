"""What is of which type in a record: whoever reads one may rely on it, whoever sealed it.

Keys may be absent, as a run that failed has no numbers; what is there is of its type. Others may stand beside them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from rdp.utils.validation import validate


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Epoch(_Part):
    epoch: int = 0
    step: int = 0
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


class _Numbers(_Part):
    test_accuracy: float | None = None
    test_loss: float | None = None
    diverged_step: int | None = None
    learning_rate: float = 0.0
    parameters: float = 0
    forward_flops: float = 0
    iteration_flops: float = 0
    training_flops: float = 0
    unit_updates: float = 0
    units: float = 0
    steps: float = 0
    examples: float = 0
    history: list[_Epoch] = []
    weights: dict[str, str] | None = None


class _Telemetry(_Part):
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    train_seconds: float | None = None
    evaluate_seconds: float | None = None
    epoch_seconds: list[float] | None = None
    examples_per_second: float | None = None
    process_peak_bytes: float | None = None
    energy: dict[str, float | None] | None = None
    host: str | None = None
    device: str | None = None
    system: str | None = None
    commit: str | None = None
    stack: dict[str, str] = {}
    versions: dict[str, str | None] = {}


class _Identity(_Part):
    spec: str = ""
    data: str = ""
    code: str = ""
    stack: str = ""


class _Record(_Part):
    spec: dict[str, Any]
    identity: _Identity
    status: Literal["completed", "diverged", "failed"]
    reason: str | None
    numbers: _Numbers
    telemetry: _Telemetry
    files: dict[str, str]


def wrong(content: dict[str, Any]) -> str | None:
    """The first value of a record that is not of its type, in one line with its place; None where all are."""
    try:
        validate(_Record, content, "record")
    except ValueError as error:
        return str(error)
    return None
