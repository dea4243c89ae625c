"""The choice of a learning rate from the records of a sweep."""

import math
from dataclasses import dataclass
from pathlib import Path

from rdp import data
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.utils import files


@dataclass(frozen=True)
class Rate:
    """What a sweep says of one learning rate.

    Attributes:
        accuracy: mean validation accuracy after the last epoch over the sweep's seeds, a diverged run at chance.
        loss: mean validation loss; infinite where a run diverged.
        diverged: how many runs did.
    """

    learning_rate: float
    accuracy: float
    loss: float
    diverged: int


def rates(spec: RunSpec, records: list[RunRecord]) -> list[Rate]:
    """Each learning rate of a run's sweep, from the records of `RunSpec.candidates`, in their order."""
    chance = data.info(spec.dataset).chance
    found: dict[float, list[tuple[float, float, bool]]] = {}
    for candidate, record in zip(spec.candidates(), records, strict=True):
        if record.status == "failed":
            raise UserError(
                f"{candidate.run}: failed ({record.reason}), so no learning rate can be chosen for {spec.cell}"
            )
        diverged = record.status == "diverged"
        last = record.numbers.history[-1] if not diverged else None
        accuracy, loss = (last.validation_accuracy, last.validation_loss) if last else (None, None)
        values = (chance if accuracy is None else accuracy, math.inf if loss is None else loss, diverged)
        found.setdefault(candidate.recipe.learning_rate, []).append(values)
    return [
        Rate(rate, *(sum(column) / len(runs) for column in list(zip(*runs, strict=True))[:2]), sum(r[2] for r in runs))
        for rate, runs in found.items()
    ]


def choose(spec: RunSpec, records: list[RunRecord]) -> Rate:
    """The learning rate with the highest mean validation accuracy; of equals, that of the lowest validation loss.

    A rate at which runs diverged comes after all at which fewer did: chance, at which they count, may lie above what
    a network that hardly trains reaches.
    """
    return min(rates(spec, records), key=lambda rate: (rate.diverged, -rate.accuracy, rate.loss))


def write(spec: RunSpec, records: list[RunRecord], results: Path) -> Path:
    """Write the choice for a cell beside its runs, with what it follows from: ``store/CELL/tuned.json``.

    It says that the sweep is done. A run does not read it, but chooses from the records itself.
    """
    path = Store(results).root / spec.cell / "tuned.json"
    runs = {candidate.run: record.digest for candidate, record in zip(spec.candidates(), records, strict=True)}
    swept = [vars(rate) | {"loss": rate.loss if math.isfinite(rate.loss) else None} for rate in rates(spec, records)]
    files.write_json(path, {"learning_rate": choose(spec, records).learning_rate, "rates": swept, "records": runs})
    return path
