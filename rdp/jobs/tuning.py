"""Choice of learning rate and norm gain from the records of a sweep."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rdp import data
from rdp.errors import UserError
from rdp.spec import Choice, RunSpec
from rdp.store import RunRecord, Store
from rdp.store.record import stated_choice
from rdp.utils import files


@dataclass(frozen=True)
class Candidate:
    """Result of a sweep at one choice: means over its seeds, after the last epoch."""

    choice: Choice
    accuracy: float  # on the validation split; a diverged run counts as chance
    loss: float  # on the validation split; infinite if a run diverged
    diverged: int  # number of diverged runs


def candidates(spec: RunSpec, records: list[RunRecord]) -> list[Candidate]:
    """Results of a run's sweep in the order of `Tuning.choices`; the records are those of `RunSpec.candidates`.

    Raises:
        UserError: a run of the sweep failed.
    """
    runs = list(zip(spec.candidates(), records, strict=True))
    for run, record in runs:
        if record.status == "failed":
            raise UserError(f"{run.run}: failed ({record.reason}); the sweep of {spec.cell} cannot choose")
    if spec.tuning is None:
        return []
    chance, seeds = data.info(spec.dataset).chance, len(spec.tuning.seeds)
    return [
        _summarize(choice, records[place * seeds : (place + 1) * seeds], chance)
        for place, choice in enumerate(spec.tuning.choices())
    ]


def _summarize(choice: Choice, records: list[RunRecord], chance: float) -> Candidate:
    scores = [_score(record, chance) for record in records]
    accuracy, loss = fmean(score[0] for score in scores), fmean(score[1] for score in scores)
    return Candidate(choice, accuracy, loss, sum(record.status == "diverged" for record in records))


def _score(record: RunRecord, chance: float) -> tuple[float, float]:
    last = record.numbers.history[-1] if record.status != "diverged" else None
    accuracy, loss = (last.validation_accuracy, last.validation_loss) if last else (None, None)
    return (chance if accuracy is None else accuracy, math.inf if loss is None else loss)


def choose(spec: RunSpec, records: list[RunRecord]) -> Candidate:
    """The candidate with the highest mean validation accuracy, and among equals the lowest validation loss.

    Candidates with fewer diverged runs come first: chance, as which those count, may be above the accuracy of a network
    that hardly trains.
    """
    return min(
        candidates(spec, records),
        key=lambda candidate: (candidate.diverged, -candidate.accuracy, candidate.loss),
    )


def disagreement(spec: RunSpec, record: RunRecord, records: list[RunRecord]) -> str | None:
    """The difference between what a run was trained with and what its sweep chooses, or None.

    Args:
        spec, record: the run with a sweep.
        records: the records of the sweep, see `candidates`.

    Raises:
        UserError: a run of the sweep failed.
    """
    trained, choice = stated_choice(spec, record), choose(spec, records).choice
    return None if trained == choice else f"trained with {trained or 'unknown values'}, its sweep chooses {choice}"


def write(spec: RunSpec, records: list[RunRecord], results: Path) -> Path:
    """Write the choice for a cell and the results it follows from to ``store/CELL/tuned.json``; return the path.

    The file marks the sweep as done. Runs do not read it: they choose from the records.
    """
    path = Store(results).root / spec.cell / "tuned.json"
    digests = {candidate.run: record.digest for candidate, record in zip(spec.candidates(), records, strict=True)}
    swept = [_content(candidate) for candidate in candidates(spec, records)]
    chosen = _values(choose(spec, records).choice)
    files.write_json(path, {**chosen, "candidates": swept, "records": digests})
    return path


def _content(candidate: Candidate) -> dict[str, float | None]:
    loss = candidate.loss if math.isfinite(candidate.loss) else None
    numbers = {"accuracy": candidate.accuracy, "loss": loss, "diverged": candidate.diverged}
    return {**_values(candidate.choice), **numbers}


def _values(choice: Choice) -> dict[str, float]:
    return choice.model_dump(exclude_none=True)
