"""Choice of a learning rate from the records of a sweep."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rdp import data
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.utils import files


@dataclass(frozen=True)
class Rate:
    """Result of a sweep at one learning rate: means over its seeds, after the last epoch."""

    learning_rate: float
    accuracy: float  # on the validation split; a diverged run counts as chance
    loss: float  # on the validation split; infinite if a run diverged
    diverged: int  # number of diverged runs


def rates(spec: RunSpec, records: list[RunRecord]) -> list[Rate]:
    """Results at each learning rate of a run's sweep, in the order of `RunSpec.candidates`, whose records are given.

    Raises:
        UserError: a run of the sweep failed.
    """
    by_rate: dict[float | None, list[RunRecord]] = {}
    for candidate, record in zip(spec.candidates(), records, strict=True):
        if record.status == "failed":
            raise UserError(f"{candidate.run}: failed ({record.reason}); cannot choose a learning rate for {spec.cell}")
        by_rate.setdefault(candidate.recipe.learning_rate, []).append(record)
    chance = data.info(spec.dataset).chance
    return [_summarize(rate, group, chance) for rate, group in by_rate.items() if rate is not None]


def _summarize(rate: float, records: list[RunRecord], chance: float) -> Rate:
    scores = [_score(record, chance) for record in records]
    accuracy, loss = fmean(score[0] for score in scores), fmean(score[1] for score in scores)
    return Rate(rate, accuracy, loss, sum(record.status == "diverged" for record in records))


def _score(record: RunRecord, chance: float) -> tuple[float, float]:
    last = record.numbers.history[-1] if record.status != "diverged" else None
    accuracy, loss = (last.validation_accuracy, last.validation_loss) if last else (None, None)
    return (chance if accuracy is None else accuracy, math.inf if loss is None else loss)


def choose(spec: RunSpec, records: list[RunRecord]) -> Rate:
    """The learning rate with the highest mean validation accuracy, and among equals the lowest validation loss.

    Rates with fewer diverged runs come first: chance, as which those count, may be above the accuracy of a network
    that hardly trains.
    """
    return min(rates(spec, records), key=lambda rate: (rate.diverged, -rate.accuracy, rate.loss))


def write(spec: RunSpec, records: list[RunRecord], results: Path) -> Path:
    """Write the choice for a cell and the results it follows from to ``store/CELL/tuned.json``; return the path.

    The file marks the sweep as done. Runs do not read it: they choose from the records.
    """
    path = Store(results).root / spec.cell / "tuned.json"
    digests = {candidate.run: record.digest for candidate, record in zip(spec.candidates(), records, strict=True)}
    swept = [vars(rate) | {"loss": rate.loss if math.isfinite(rate.loss) else None} for rate in rates(spec, records)]
    files.write_json(path, {"learning_rate": choose(spec, records).learning_rate, "rates": swept, "records": digests})
    return path
