"""Power of a study before training: the claims its cells test, and the effects its seeds can detect."""

from collections.abc import Iterator
from dataclasses import dataclass

from rdp.claims.cells import Pair, pairs_by_setting
from rdp.claims.model import KINDS, Claim, Claims, Part
from rdp.claims.phrasing import amount, part_name
from rdp.stats import LEVEL, power
from rdp.study import Cell, Plan
from rdp.study.comparisons import cells
from rdp.utils.humanize import count


@dataclass(frozen=True)
class Prospect:
    """What a study can show of one claim on one kind of dataset.

    Attributes:
        settings: the number of settings that test it.
        obstacles: why the study's seeds cannot decide it; empty if they can.
        visible: the effects that the seeds can detect, as text.
    """

    claim: str
    kind: str
    settings: int
    obstacles: tuple[str, ...]
    visible: tuple[str, ...]


def prospects(claims: Claims, plan: Plan) -> Iterator[Prospect]:
    """The prospects of each claim and kind of dataset that some cell of the study tests."""
    groups = cells(plan)
    for name, claim in claims.claims.items():
        settings = pairs_by_setting(claim, plan, groups)
        for kind in KINDS:
            pairs_of_kind = [pairs for setting, pairs in settings.items() if claims.kind(setting.dataset) == kind]
            if number := len(pairs_of_kind):
                of_parts = [
                    _of_part(claim, part, plan, [pairs[part] for pairs in pairs_of_kind]) for part in claim.parts
                ]
                obstacles, visible = (
                    tuple(dict.fromkeys(filter(None, texts))) for texts in zip(*of_parts, strict=True)
                )
                yield Prospect(name, kind, number, obstacles, visible)


def _of_part(claim: Claim, part: Part, plan: Plan, pairs: list[Pair | None]) -> tuple[str, str]:
    """Why a part cannot be decided, and the effect that can be detected; empty texts where there is none.

    ``pairs`` has the cells of each setting. The level is that of Holm's first step, the strictest one.
    """
    known, settings = [pair for pair in pairs if pair], len(pairs)
    if len(known) < settings:
        return f"the study has no cell for {part_name(part)} in some setting", ""
    number, noun = _numbers(part, plan, [cell for cell, _ in known])
    least = claim.seeds_for(part)
    what = part.metric.replace("_", " ")
    if number is None:
        return f"{what}: {noun}", ""
    if number < least:
        return f"{what}: {count(number, noun)}, at least {least} needed", ""
    if part.condition:
        return "", ""
    tested = sum(not each.condition for each in claim.parts)
    spread, level = part.definition.spread, LEVEL / (settings * tested)
    if spread is None:
        return "", "" if part.definition.exact else f"{what}: spread over {noun}s unknown"
    assumed = f"at a spread of {amount(part, spread).lstrip('+')}"
    if part.direction != "within":
        smallest = power.detectable_effect(number, spread, level)
        blind = f", too few to refute it at {amount(part, part.negligible)}" if smallest > part.negligible > 0 else ""
        return "", f"{amount(part, smallest)} beyond the margin, {assumed}{blind}"
    every = power.equivalence_power(number, spread, part.margin, level) ** (settings if claim.holds == "all" else 1)
    where = f" in all {settings}" if claim.holds == "all" and settings > 1 else ""
    margin = amount(part, part.margin).lstrip("+")
    seen = f"equal means{where} within {margin} shown with probability {every:.2f}, {assumed}"
    return ("", seen) if every >= power.POWER else (f"{what}: {seen}; the target is {power.POWER}", "")


def _numbers(part: Part, plan: Plan, cells: list[Cell]) -> tuple[int | None, str]:
    """The number of independent samples of a part's metric in each of these cells and their noun, or None and why."""
    study = plan.study
    if part.metric == "throughput":
        return (study.speed_rounds, "round") if study.speed_rounds else (None, "not measured (speed_rounds)")
    if part.metric == "loss_at_best_rate":
        swept = [cell.specs[0].tuning for cell in cells]
        if not all(swept):
            return None, f"no sweep of learning rates in {'some' if any(swept) else 'any'} setting"
        return min(len(tuning.seeds) for tuning in swept if tuning), "seed"
    if part.definition.probe is None:
        return len(study.seed_list()), "seed"
    if part.definition.probe not in study.probes:
        return None, f"the study has no probe {part.definition.probe}"
    return min(study.probe_seeds or len(study.seed_list()), len(study.seed_list())), "seed"
