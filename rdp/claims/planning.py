"""What a study could decide, before anything is trained: which claims its cells speak to, and what its seeds allow."""

from collections.abc import Iterator
from dataclasses import dataclass

from rdp.claims.cells import asked
from rdp.claims.model import KINDS, Claim, Claims, Part
from rdp.claims.words import amount, named
from rdp.stats import LEVEL, power
from rdp.study import Plan
from rdp.study.comparisons import cells
from rdp.utils.humanize import count


@dataclass(frozen=True)
class Prospect:
    """What a study could say of one claim on one kind of datasets.

    Attributes:
        settings: how many speak to it.
        obstacles: why its seeds cannot decide it; empty where they can.
        visible: what they can see, in words.
    """

    claim: str
    kind: str
    settings: int
    obstacles: tuple[str, ...]
    visible: tuple[str, ...]


def prospects(claims: Claims, plan: Plan) -> Iterator[Prospect]:
    """Of each claim and kind of datasets that some cell of the study speaks to."""
    groups = cells(plan)
    for name, claim in claims.claims.items():
        found = asked(claim, plan, groups)
        for kind in KINDS:
            here = [pairs for setting, pairs in found.items() if claims.kind(setting.dataset) == kind]
            if settings := len(here):
                told = [
                    _of_part(claim, part, plan, settings)
                    if all(pairs[part] for pairs in here)
                    else (f"no cell of the study for {named(part)}, in some setting", "")
                    for part in claim.parts
                ]
                obstacles = tuple(dict.fromkeys(why for why, _ in told if why))
                yield Prospect(name, kind, settings, obstacles, tuple(dict.fromkeys(see for _, see in told if see)))


def _of_part(claim: Claim, part: Part, plan: Plan, settings: int) -> tuple[str, str]:
    """Why a part cannot be decided, or nothing; and what can be seen of it, or nothing.

    At the level that is left where all comparisons but one are still open: Holm's first step.
    """
    number, noun = _numbers(part, plan)
    least = claim.seeds_for(part)
    what = part.metric.replace("_", " ")
    if number is None:
        return f"{what}: {noun}", ""
    if number < least:
        return f"{what}: {count(number, noun)}, and {least} are needed", ""
    spread, level = part.kind.spread, LEVEL / (settings * len(claim.parts))
    if spread is None:
        return "", "" if part.kind.exact else f"{what}: spread over {noun}s not known"
    assumed = f"at a spread of {amount(part, spread).lstrip('+')}"
    if part.direction != "within":
        smallest = power.detectable_effect(number, spread, level)
        blind = f", too few to refute it at {amount(part, part.negligible)}" if smallest > part.negligible > 0 else ""
        return "", f"{amount(part, smallest)} beyond the margin, {assumed}{blind}"
    every = power.equivalence_power(number, spread, part.margin, level) ** (settings if claim.holds == "all" else 1)
    where = f" in all {settings}" if claim.holds == "all" and settings > 1 else ""
    margin = amount(part, part.margin).lstrip("+")
    seen = f"equal means{where} within {margin} shown with probability {every:.2f}, {assumed}"
    return ("", seen) if every >= power.POWER else (f"{what}: {seen}, {power.POWER} is wanted", "")


def _numbers(part: Part, plan: Plan) -> tuple[int | None, str]:
    """How many independent numbers the study has of a part's metric, and what they are; or None, and why."""
    study = plan.study
    if part.metric == "throughput":
        return (study.speed_rounds, "round") if study.speed_rounds else (None, "not measured (speed_rounds)")
    if part.metric == "loss_at_best_rate":
        return (len(study.tune.seeds), "seed") if study.tune else (None, "the study has no sweep of learning rates")
    if part.kind.probe is None:
        return len(study.seed_list()), "seed"
    if part.kind.probe not in study.probes:
        return None, f"the study has no probe {part.kind.probe}"
    return min(study.probe_seeds or len(study.seed_list()), len(study.seed_list())), "seed"
