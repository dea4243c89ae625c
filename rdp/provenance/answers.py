"""The answers to the paper checklist that a study's records give: each with its reason and where to see it.

An answer is about what this study's report says and what its records hold. The records prove nothing of what a paper
says beside them, nor of how the people behind it work: then the answer is that it cannot be proved from them.
"""

from collections.abc import Iterable

from rdp.provenance import experiments, surroundings
from rdp.provenance.answer import ANSWERS, Answer
from rdp.provenance.evidence import Evidence


def answers(e: Evidence) -> list[Answer]:
    """The answers to the questions of report/checklist.yaml, in their order."""
    asked = (
        experiments.claims,
        experiments.limitations,
        experiments.theory,
        experiments.reproducibility,
        surroundings.access,
        experiments.setting,
        experiments.significance,
        experiments.compute,
        surroundings.ethics,
        surroundings.impacts,
        surroundings.safeguards,
        surroundings.licences,
        surroundings.assets,
        surroundings.people,
        surroundings.approval,
        surroundings.language_models,
    )
    return [answer(e) for answer in asked]


def tally(found: Iterable[Answer]) -> dict[str, int]:
    """How many answers there are of each word."""
    words = [answer.word for answer in found]
    return {word: words.count(word) for word in ANSWERS if word in words}
