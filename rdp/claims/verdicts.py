"""Verdicts on claims from a study's records.

A comparison is one part of a claim in one setting: one number per seed, and the side of a margin on which the claim
places the mean. It holds if the test for that side is significant, and fails if the test for the opposite side is. Both
p values are corrected after Holm over the comparisons of a claim. Otherwise the comparison is undecided.

A condition of a claim is checked on the mean. Where it does not hold, the setting does not test the claim: none of its
comparisons is tested or counts in the correction.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rdp.claims.cells import Pair, Pairs, pairs_by_setting
from rdp.claims.evidence import Evidence, Records
from rdp.claims.model import KINDS, Claim, Claims, Part
from rdp.claims.phrasing import part_name
from rdp.stats import LEVEL, Effect, holm
from rdp.study import comparisons
from rdp.study.comparisons import Setting
from rdp.utils.humanize import count

Outcome = Literal["holds", "fails", "undecided", "absent", "untested"]
Word = Literal["supported", "refuted", "inconclusive", "not tested"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Comparison:
    """One part of a claim in one setting.

    Attributes:
        label, against: the study's names of the two methods; ``against`` is None if there is only one.
        decides: whether it affects the verdict.
        outcome: ``absent`` has no number; ``untested`` is in a setting in which a condition of the claim does not hold.
        reason: why it is absent or untested, undecided without a test, or an unmet condition; otherwise empty.
        p, p_contrary: p values of the tests for the claimed direction and for its opposite; NaN for a condition.
        adjusted, adjusted_contrary: the same after Holm's correction.
    """

    setting: Setting
    part: Part
    label: str
    against: str | None
    decides: bool
    evidence: Evidence
    outcome: Outcome
    reason: str
    p: float = 1.0
    p_contrary: float = 1.0
    adjusted: float = 1.0
    adjusted_contrary: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim from confirmatory or from exploratory datasets."""

    word: Word
    comparisons: tuple[Comparison, ...]
    beside: tuple[Comparison, ...]


@dataclass(frozen=True)
class ClaimVerdicts:
    """A claim and its two verdicts, by kind of dataset, confirmatory first."""

    name: str
    claim: Claim
    verdicts: dict[str, Verdict]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons, including those that do not affect a verdict."""
        return tuple(c for verdict in self.verdicts.values() for c in (*verdict.comparisons, *verdict.beside))


def decide(claims: Claims, records: Records) -> list[ClaimVerdicts]:
    """The verdicts on all claims, in the order of the file."""
    plan = records.tables.plan
    groups = comparisons.cells(plan)
    return [
        _decide(name, claim, claims, pairs_by_setting(claim, plan, groups), records)
        for name, claim in claims.claims.items()
    ]


def _decide(name: str, claim: Claim, claims: Claims, settings: dict[Setting, Pairs], records: Records) -> ClaimVerdicts:
    verdicts = {}
    for kind in KINDS:
        of_kind = {s: pairs for s, pairs in settings.items() if claims.kind(s.dataset) == kind}
        deciding = _comparisons(claim, claim.parts, of_kind, records, decides=True)
        beside = _comparisons(claim, claim.beside, of_kind, records, decides=False)
        unmet = {c.setting: c.reason for c in deciding if c.part.condition and c.outcome == "fails"}
        deciding, beside = _test(_exclude(deciding, unmet)), _test(_exclude(beside, unmet))
        verdicts[kind] = Verdict(_word(claim, deciding), tuple(deciding), tuple(beside))
    return ClaimVerdicts(name, claim, verdicts)


def _comparisons(
    claim: Claim, parts: Sequence[Part], settings: dict[Setting, Pairs], records: Records, *, decides: bool
) -> list[Comparison]:
    """The comparisons before any test; conditions have their outcome."""
    comparisons = [
        _compare(claim, setting, part, pairs[part], records, decides)
        for setting, pairs in settings.items()
        for part in parts
        if part in pairs
    ]
    return [_check(c) if c.part.condition and not c.reason else c for c in comparisons]


def _check(c: Comparison) -> Comparison:
    """A condition with its outcome: whether the mean is on its side of the margin."""
    part, mean = c.part, c.evidence.effect.mean
    met = {"above": mean >= part.margin, "below": mean <= part.margin, "within": abs(mean) <= part.margin}
    holds = met[part.direction]
    reason = "" if holds else part.condition if isinstance(part.condition, str) else "the condition does not hold"
    nan = math.nan
    return replace(c, outcome="holds" if holds else "fails", reason=reason, p=nan, p_contrary=nan)


def _exclude(comparisons: Sequence[Comparison], unmet: Mapping[Setting, str]) -> list[Comparison]:
    """The comparisons, untested in the settings in which a condition does not hold, for the reason given."""
    return [
        replace(c, outcome="untested", reason=unmet[c.setting])
        if c.setting in unmet and not c.part.condition and c.outcome != "absent"
        else c
        for c in comparisons
    ]


def _test(comparisons: list[Comparison]) -> list[Comparison]:
    """The comparisons with the outcomes of their tests."""
    # Exact metrics need no test and no correction.
    open_ones = [i for i, c in enumerate(comparisons) if not c.reason and not c.part.condition]
    tested = [i for i in open_ones if not comparisons[i].part.definition.exact]
    exact = [i for i in open_ones if comparisons[i].part.definition.exact]
    for places, correct in ((tested, holm), (exact, list)):
        p = [_p(comparisons[i].part, comparisons[i].evidence.effect) for i in places]
        contrary = [_contrary_p(comparisons[i].part, comparisons[i].evidence.effect) for i in places]
        adjusted = zip(correct(p), correct(contrary), strict=True)
        for i, p_i, contrary_i, (holm_p, holm_contrary) in zip(places, p, contrary, adjusted, strict=True):
            outcome: Outcome = "holds" if holm_p < LEVEL else "fails" if holm_contrary < LEVEL else "undecided"
            comparisons[i] = replace(
                comparisons[i],
                outcome=outcome,
                p=p_i,
                p_contrary=contrary_i,
                adjusted=holm_p,
                adjusted_contrary=holm_contrary,
            )
    return comparisons


def _compare(
    claim: Claim, setting: Setting, part: Part, pair: Pair | None, records: Records, decides: bool
) -> Comparison:
    if pair is None:
        reason = f"the study has no cell for {part_name(part)}"
        evidence = Evidence(Effect(()), absent=reason)
        return Comparison(setting, part, part.method, part.against, decides, evidence, "absent", reason)
    cell, other = pair
    evidence, least = records.evidence(part, cell, other), claim.seeds_for(part)
    outcome: Outcome = "absent" if evidence.absent else "undecided"
    reason = evidence.absent or ""
    if not reason and evidence.effect.n < least:
        reason = f"{count(evidence.effect.n, 'seed')}, at least {least} needed"
    elif not reason:
        reason = evidence.uninformative or ""
    return Comparison(setting, part, cell.label, other.label if other else None, decides, evidence, outcome, reason)


def _p(part: Part, effect: Effect) -> float:
    """p of the test for a part's direction; 0 or 1 for an exact metric."""
    if part.definition.exact:
        return 1.0 - _contrary_p(part, effect)
    return effect.p_value(part.direction, part.margin)


def _contrary_p(part: Part, effect: Effect) -> float:
    """p of the test for the opposite of a part's direction; 0 or 1 for an exact metric."""
    if part.definition.exact:
        beyond = {"above": effect.mean > part.margin, "below": effect.mean < part.margin}
        return float(beyond.get(part.direction, abs(effect.mean) < part.margin))
    if part.direction == "within":
        return min(effect.p_value("above", part.margin), effect.p_value("below", -part.margin))
    if part.direction == "above":
        return effect.p_value("below", part.margin + part.negligible)
    return effect.p_value("above", part.margin - part.negligible)


def _word(claim: Claim, comparisons: Sequence[Comparison]) -> Word:
    outcomes = set(by_setting(comparisons).values()) - {"untested"}
    if outcomes <= {"absent"}:
        return "not tested"
    if claim.holds == "all":
        return "refuted" if "fails" in outcomes else "supported" if outcomes == {"holds"} else "inconclusive"
    return "supported" if "holds" in outcomes else "refuted" if outcomes == {"fails"} else "inconclusive"


def by_setting(comparisons: Iterable[Comparison]) -> dict[Setting, Outcome]:
    """The outcome of a claim in each setting, where all of its parts must hold.

    If a condition does not hold, the setting is untested. If it is not known, the setting is undecided or absent,
    whatever the other outcomes.
    """
    conditions: dict[Setting, set[Outcome]] = {}
    parts: dict[Setting, set[Outcome]] = {}
    for c in comparisons:
        (conditions if c.part.condition else parts).setdefault(c.setting, set()).add(c.outcome)
    return {setting: _of_setting(conditions.get(setting, set()), outcomes) for setting, outcomes in parts.items()}


def _of_setting(conditions: set[Outcome], parts: set[Outcome]) -> Outcome:
    if "fails" in conditions:
        return "untested"
    if conditions - {"holds"}:
        return "absent" if "absent" in conditions | parts else "undecided"
    order: tuple[Outcome, ...] = ("fails", "absent", "undecided", "holds")
    return next(outcome for outcome in order if outcome in parts)
