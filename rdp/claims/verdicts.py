"""Verdicts: what a study's records say of each claim, with the evidence.

A comparison is one part of a claim in one setting: a number a seed, and the side of a margin that its mean is said to
lie on. It holds where the test for that side is significant, and fails where the test for the contrary is; Holm's
correction is over the comparisons of a claim. Where too little is known it is undecided, never the one or the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rdp.claims.cells import Pairs, asked
from rdp.claims.metrics import Evidence, Records
from rdp.claims.model import KINDS, Claim, Claims, Part
from rdp.claims.words import count
from rdp.settings import Setting
from rdp.stats import LEVEL, Effect, holm
from rdp.study import Plan

Outcome = Literal["holds", "fails", "undecided", "absent"]
Word = Literal["supported", "refuted", "inconclusive", "not tested"]


@dataclass(frozen=True)
class Comparison:
    """One part of a claim in one setting.

    Attributes:
        label, against: what the study calls the two methods; ``against`` is None where there is but one.
        decides: whether it has a say in the verdict.
        p, p_contrary: of the tests for the stated direction and for its contrary.
        adjusted, adjusted_contrary: the same, after Holm's correction.
        reason: why it is undecided or absent; empty where it is neither.
    """

    setting: Setting
    part: Part
    label: str
    against: str | None
    decides: bool
    evidence: Evidence
    p: float
    p_contrary: float
    adjusted: float
    adjusted_contrary: float
    outcome: Outcome
    reason: str


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
    return [_decide(name, claim, claims, plan, records) for name, claim in claims.claims.items()]


def _decide(name: str, claim: Claim, claims: Claims, plan: Plan, records: Records) -> Finding:
    settings_asked = asked(claim, plan)
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
    rows = []
    for setting, pairs in where.items():
        for part in (part for part in parts if part in pairs):
            cell, other = pairs[part]
            evidence = records.evidence(part, cell, other)
            least = claim.seeds_for(part)
            few = f"{count(evidence.effect.n, 'seed')}, and {least} are needed" if evidence.effect.n < least else ""
            rows.append((setting, part, cell.label, other and other.label, evidence, evidence.absent or few))
    tested = [row for row in rows if not row[-1]]
    p = [tuple(_p(row[1], row[4].effect)) for row in tested]
    adjusted = zip(holm([one for one, _ in p]), holm([other for _, other in p]), strict=True)
    known = dict(zip(map(id, tested), zip(p, adjusted, strict=True), strict=True))
    found = []
    for row in rows:
        (one, contrary), (one_adjusted, contrary_adjusted) = known.get(id(row), ((1.0, 1.0), (1.0, 1.0)))
        outcome: Outcome = "absent" if row[4].absent else "undecided"
        if one_adjusted < LEVEL:
            outcome = "holds"
        elif contrary_adjusted < LEVEL:
            outcome = "fails"
        shares = one, contrary, one_adjusted, contrary_adjusted
        setting, part, label, against, evidence, reason = row
        found.append(Comparison(setting, part, label, against, decides, evidence, *shares, outcome, reason))
    return tuple(found)


def _p(part: Part, effect: Effect) -> tuple[float, float]:
    """p of the tests for a part's direction and for its contrary."""
    if part.kind.exact:
        beyond = effect.mean < part.margin if part.direction == "below" else effect.mean > part.margin
        return (0.0, 1.0) if beyond else (1.0, 0.0)
    if part.direction == "within":
        contrary = min(effect.p("above", part.margin), effect.p("below", -part.margin))
    elif part.direction == "above":
        contrary = effect.p("below", part.margin + part.negligible)
    else:
        contrary = effect.p("above", part.margin - part.negligible)
    return effect.p(part.direction, part.margin), contrary


def _word(claim: Claim, comparisons: Sequence[Comparison]) -> Word:
    """What the settings come to: a claim holds in all of them, or in some."""
    outcomes = set(by_setting(comparisons).values())
    if outcomes <= {"absent"}:
        return "not tested"
    if claim.holds == "all":
        return "refuted" if "fails" in outcomes else "supported" if outcomes == {"holds"} else "inconclusive"
    return "supported" if "holds" in outcomes else "refuted" if outcomes == {"fails"} else "inconclusive"


def by_setting(comparisons: Iterable[Comparison]) -> dict[Setting, Outcome]:
    """What a claim's parts come to in each setting: all of them must hold there."""
    found: dict[Setting, set[Outcome]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.setting, set()).add(comparison.outcome)
    order: tuple[Outcome, ...] = ("fails", "absent", "undecided", "holds")
    return {setting: next(o for o in order if o in outcomes) for setting, outcomes in found.items()}
