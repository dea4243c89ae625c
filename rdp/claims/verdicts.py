"""Verdicts: what a study's records say of each claim, with the evidence.

A comparison is one part of a claim in one setting: a number a seed, and the side of a margin that its mean is said to
lie on. It holds where the test for that side is significant, and fails where the test for the contrary is; Holm's
correction is over the comparisons of a claim. Where too little is known it is undecided, never the one or the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rdp.claims.cells import Pair, Pairs, asked
from rdp.claims.evidence import Evidence, Records
from rdp.claims.model import KINDS, Claim, Claims, Part
from rdp.claims.words import named
from rdp.stats import LEVEL, Effect, holm
from rdp.study import comparisons
from rdp.study.comparisons import Setting
from rdp.utils.humanize import count

Outcome = Literal["holds", "fails", "undecided", "absent"]
Word = Literal["supported", "refuted", "inconclusive", "not tested"]
WORDS: tuple[Word, ...] = get_args(Word)


@dataclass(frozen=True)
class Comparison:
    """One part of a claim in one setting.

    Attributes:
        label, against: what the study calls the two methods; ``against`` is None where there is but one.
        decides: whether it has a say in the verdict.
        reason: why it is absent, or undecided without a test; empty where it was tested.
        p, p_contrary: of the tests for the stated direction and for its contrary.
        adjusted, adjusted_contrary: the same, after Holm's correction.
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
    """What one kind of datasets, confirmatory or exploratory ones, says of a claim."""

    word: Word
    comparisons: tuple[Comparison, ...]
    beside: tuple[Comparison, ...]


@dataclass(frozen=True)
class Finding:
    """A claim, and its two verdicts."""

    name: str
    claim: Claim
    confirmatory: Verdict
    exploratory: Verdict

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """By kind of datasets, confirmatory first."""
        return {kind: getattr(self, kind) for kind in KINDS}

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All of them, those that have no say too."""
        return tuple(c for verdict in self.verdicts.values() for c in (*verdict.comparisons, *verdict.beside))


def decide(claims: Claims, records: Records) -> list[Finding]:
    """The verdicts on all claims, in the order of their file."""
    plan = records.tables.plan
    groups = comparisons.cells(plan)
    return [_decide(name, claim, claims, asked(claim, plan, groups), records) for name, claim in claims.claims.items()]


def _decide(name: str, claim: Claim, claims: Claims, settings_asked: dict[Setting, Pairs], records: Records) -> Finding:
    verdicts = {}
    for kind in KINDS:
        here = {s: pairs for s, pairs in settings_asked.items() if claims.kind(s.dataset) == kind}
        deciding = _compare(claim, claim.parts, here, records, decides=True)
        beside = _compare(claim, claim.beside, here, records, decides=False)
        verdicts[kind] = Verdict(_word(claim, deciding), deciding, beside)
    return Finding(name, claim, **verdicts)


def _compare(
    claim: Claim, parts: Sequence[Part], where: dict[Setting, Pairs], records: Records, *, decides: bool
) -> tuple[Comparison, ...]:
    """The parts in each setting, corrected for their number."""
    found = []
    for setting, pairs in where.items():
        for part in (part for part in parts if part in pairs):
            found.append(_untested(claim, setting, part, pairs[part], records, decides))
    known = [i for i, c in enumerate(found) if not c.reason and not c.part.kind.exact]
    p = [_p(found[i].part, found[i].evidence.effect) for i in known]
    contrary = [_contrary_p(found[i].part, found[i].evidence.effect) for i in known]
    for i, *shares in zip(known, p, contrary, holm(p), holm(contrary), strict=True):
        found[i] = _tested(found[i], *shares)
    # What is counted is tested by nothing, and so not corrected for.
    for i, comparison in enumerate(found):
        if comparison.part.kind.exact and not comparison.reason:
            counted = [of(comparison.part, comparison.evidence.effect) for of in (_p, _contrary_p)]
            found[i] = _tested(comparison, *counted, *counted)
    return tuple(found)


def _untested(
    claim: Claim, setting: Setting, part: Part, pair: Pair | None, records: Records, decides: bool
) -> Comparison:
    """A comparison with its evidence, and why it cannot be tested, where it cannot."""
    if pair is None:
        reason = f"the study has no cell for it: {named(part)}"
        nothing = Evidence(Effect(()), absent=reason)
        return Comparison(setting, part, part.method, part.against, decides, nothing, "absent", reason)
    cell, other = pair
    evidence, least = records.evidence(part, cell, other), claim.seeds_for(part)
    outcome: Outcome = "absent" if evidence.absent else "undecided"
    reason = evidence.absent or ""
    if not reason and evidence.effect.n < least:
        reason = f"{count(evidence.effect.n, 'seed')}, and {least} are needed"
    elif not reason:
        reason = evidence.idle or ""
    return Comparison(setting, part, cell.label, other and other.label, decides, evidence, outcome, reason)


def _tested(comparison: Comparison, p: float, contrary: float, adjusted: float, adjusted_contrary: float) -> Comparison:
    outcome: Outcome = "holds" if adjusted < LEVEL else "fails" if adjusted_contrary < LEVEL else "undecided"
    return replace(
        comparison,
        outcome=outcome,
        p=p,
        p_contrary=contrary,
        adjusted=adjusted,
        adjusted_contrary=adjusted_contrary,
    )


def _p(part: Part, effect: Effect) -> float:
    """p of the test for a part's direction; 0 or 1 of what is counted."""
    if part.kind.exact:
        return 1.0 - _contrary_p(part, effect)
    return effect.p_value(part.direction, part.margin)


def _contrary_p(part: Part, effect: Effect) -> float:
    """p of the test for the contrary of a part's direction; 0 or 1 of what is counted."""
    if part.kind.exact:
        beyond = {"above": effect.mean > part.margin, "below": effect.mean < part.margin}
        return float(beyond.get(part.direction, abs(effect.mean) < part.margin))
    if part.direction == "within":
        return min(effect.p_value("above", part.margin), effect.p_value("below", -part.margin))
    if part.direction == "above":
        return effect.p_value("below", part.margin + part.negligible)
    return effect.p_value("above", part.margin - part.negligible)


def _word(claim: Claim, comparisons: Sequence[Comparison]) -> Word:
    """What the settings come to: a claim holds in all of them, or in some."""
    outcomes = set(by_setting(comparisons).values())
    if outcomes <= {"absent"}:
        return "not tested"
    if claim.holds == "all":
        return "refuted" if "fails" in outcomes else "supported" if outcomes == {"holds"} else "inconclusive"
    return "supported" if "holds" in outcomes else "refuted" if outcomes == {"fails"} else "inconclusive"


def by_setting(comparisons: Iterable[Comparison]) -> dict[Setting, Outcome]:
    """What a claim's parts come to in each setting: all of them must hold there.

    Where a condition is not met, nothing that the others come to speaks for or against the claim.
    """
    found: dict[Setting, set[Outcome]] = {}
    unmet = set()
    for comparison in comparisons:
        found.setdefault(comparison.setting, set()).add(comparison.outcome)
        if comparison.part.condition and comparison.outcome != "holds":
            unmet.add(comparison.setting)
    order: tuple[Outcome, ...] = ("fails", "absent", "undecided", "holds")
    told = {setting: next(o for o in order if o in outcomes) for setting, outcomes in found.items()}
    return told | {
        setting: "absent" if "absent" in found[setting] else "undecided" for setting in found if setting in unmet
    }
