"""Verdicts as ``claims.json``, with every number and the runs behind it, and as text."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

from rdp.claims import model, phrasing, preregistration
from rdp.claims.compute_cost import compute_costs
from rdp.claims.evidence import Records
from rdp.claims.model import KINDS, Claims, Part
from rdp.claims.verdicts import ClaimVerdicts, Comparison, Verdict, by_setting, decide
from rdp.stats import LEVEL, Effect, Estimate, interquartile_mean, power, probability_of_improvement
from rdp.tables import Tables
from rdp.utils import sealed
from rdp.utils.humanize import count, listed

_OUTCOMES = {  # for one setting, for several
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("is undecided", "are undecided"),
    "absent": ("has no numbers", "have no numbers"),
    "untested": ("is untested", "are untested"),
}


def write(tables: Tables) -> dict[str, Any]:
    """Decide all claims from a study's tables, write ``claims.json`` and return its content."""
    claims = model.load()
    preregistration.record_claims(tables.results)
    content = as_json(claims, decide(claims, Records(tables)), tables)
    save(tables.plan.name, tables.results, content)
    return content


def save(study: str, results: Path, content: dict[str, Any]) -> None:
    """Write ``claims.json``."""
    sealed.write_json(_path(study, results), content, study)


def read(study: str, results: Path) -> dict[str, Any]:
    """Read the content of ``claims.json``."""
    return sealed.read_json(_path(study, results), study, f"run: rdp claims {study}")


def _path(study: str, results: Path) -> Path:
    return results / study / "claims.json"


def as_json(claims: Claims, verdicts: list[ClaimVerdicts], tables: Tables) -> dict[str, Any]:
    """All claims with their verdicts and evidence. Unknown values are null."""
    runs, sweep = tables.records, tables.sweep
    started = dict(zip(runs["run"], runs["started"], strict=True))
    started |= dict(zip(sweep["sweep_run"], sweep["started"], strict=True)) if "started" in sweep else {}
    costs = compute_costs(tables, verdicts)
    return {
        "study": tables.plan.name,
        "level": LEVEL,
        "confirmatory": claims.confirmatory,
        "cost": costs[None],
        "claims": [
            _claim(claim, claims.digest(claim.name), started, tables) | {"cost": costs[claim.name]}
            for claim in verdicts
        ],
    }


def _claim(verdicts: ClaimVerdicts, digest: str, started: dict[str, Any], tables: Tables) -> dict[str, Any]:
    claim, seen = verdicts.claim, preregistration.first_seen(digest, tables.results)
    times = {run: started.get(run) for c in verdicts.comparisons for names in c.evidence.runs for run in names}
    for evidence in (c.evidence for c in verdicts.comparisons):
        times |= {run: evidence.measured_at or started.get(run) for run in evidence.measured_on}
    # A claim that is younger than a run that decides it may have been fitted to its result.
    earlier = [run for run, time in times.items() if isinstance(time, str) and time < seen]
    return {
        "name": verdicts.name,
        "title": claim.title,
        "source": claim.source.model_dump(),
        "tests": claim.tests,
        "reading": claim.reading,
        "holds": claim.holds,
        "parts": [
            {
                "what": phrasing.part_name(part),
                "bound": phrasing.bound(part),
                "test": part.test,
                "minimum_seeds": claim.seeds_for(part),
                "of": phrasing.sample_noun(part),
            }
            for part in claim.parts
        ],
        "digest": digest,
        "first_seen": None if seen == preregistration.NEVER else seen,
        "runs_before_it": len(earlier),
        "verdicts": {kind: _verdict(verdict, tables) for kind, verdict in verdicts.verdicts.items()},
    }


def _verdict(verdict: Verdict, tables: Tables) -> dict[str, Any]:
    return {
        "verdict": verdict.word,
        "tested_on": _tested_on(verdict),
        "line": evidence_line(verdict),
        "scale": _scale(verdict, tables),
        "settings": {setting.title: outcome for setting, outcome in by_setting(verdict.comparisons).items()},
        "aggregate": _aggregate(verdict),
        "comparisons": [_comparison(c) for c in verdict.comparisons],
        "beside": [_comparison(c) for c in verdict.beside],
    }


def _scale(verdict: Verdict, tables: Tables) -> dict[str, float | None]:
    runs = {run for c in verdict.comparisons for names in (*c.evidence.runs, c.evidence.measured_on) for run in names}
    rows = tables.records[tables.records["run"].isin(runs)]
    return {name: _number(rows[name].max()) for name in ("parameters", "steps", "examples")}


def _aggregate(verdict: Verdict) -> list[dict[str, Any]]:
    """Statistics over all settings, for each part that compares the accuracy of two methods."""
    rows = []
    for part in dict.fromkeys(c.part for c in verdict.comparisons if c.part.metric == "accuracy"):
        compared = [c for c in verdict.comparisons if c.part == part and c.outcome != "untested"]
        mine = [c.evidence for c in compared if c.evidence.seeds]
        first, second = [e.first for e in mine], [e.second for e in mine]
        row = {"what": phrasing.part_name(part), "settings": len(mine)}
        row["probability_of_improvement"] = _estimate(probability_of_improvement(first, second))
        row["interquartile_mean"] = {
            part.method: _estimate(interquartile_mean(first)),
            str(part.against): _estimate(interquartile_mean(second)),
        }
        rows.append(row)
    return rows


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(getattr(estimate, name)) for name in ("mean", "low", "high")}


def _comparison(c: Comparison) -> dict[str, Any]:
    effect, part = c.evidence.effect, c.part
    low, high = effect.interval() if effect.has_spread else (math.nan, math.nan)
    numbers = {
        "mean": effect.mean,
        "low": low,
        "high": high,
        "spread": effect.spread,
        "error": effect.standard_error,
        # An effect size needs the spread of a difference between two methods.
        "size": effect.hedges_g if part.against and not part.definition.exact else math.nan,
        "p": c.p,
        "p_holm": c.adjusted,
        "p_contrary": c.p_contrary,
        "p_contrary_holm": c.adjusted_contrary,
        "p_sign_flip": _sign_flip(part, effect),
        "detectable": detectable(part, effect),
    }
    return {
        **c.setting.key,
        "setting": c.setting.title,
        "what": phrasing.part_name(part),
        **part.model_dump(include={"metric", "budget", "stage", "direction", "margin", "negligible", "condition"}),
        "unit": part.definition.unit,
        "relative": part.definition.relative,
        "method": c.label,
        "against": c.against,
        "decides": c.decides,
        "outcome": c.outcome,
        "reason": c.reason or None,
        "n": effect.n,
        **{name: _number(value) for name, value in numbers.items()},
        "effect": phrasing.effect_text(part, effect),
        "diverged": c.evidence.diverged,
        "measured_on": list(c.evidence.measured_on),
        "measured_at": c.evidence.measured_at,
        "seeds": list(c.evidence.seeds),
        "values": [_number(value) for value in effect.values],
        "runs": [list(names) for names in c.evidence.runs],
        "left_out": c.evidence.left_out,
    }


def _sign_flip(part: Part, effect: Effect) -> float:
    if effect.inflation != 1 or part.definition.exact or part.condition:
        return math.nan
    return effect.sign_flip_p_value(part.margin if part.direction != "within" else 0.0)


def detectable(part: Part, effect: Effect) -> float:
    """The smallest effect beyond the margin that as many seeds detect with probability 0.8.

    For a claim of equality, the smallest margin. Assumes the observed spread and an uncorrected test.
    """
    if not effect.values or not effect.has_spread or part.definition.exact or part.condition:
        return math.nan
    spread = effect.standard_error * math.sqrt(effect.n)
    return (power.equivalence_margin if part.direction == "within" else power.detectable_effect)(effect.n, spread)


def evidence_line(verdict: Verdict) -> str:
    """A verdict's evidence in one line: settings, then the smallest and largest effect, seeds and margin of each part.

    Conditions appear only where they do not hold.
    """
    comparisons = verdict.comparisons
    if verdict.word == "not tested":
        unmet = _unmet(verdict)
        by_reason = Counter(c.reason for c in unmet)
        reasons = [f"{reason} in {count(number, 'setting')}" for reason, number in by_reason.items()]
        excluded = {c.setting for c in unmet}
        reasons += dict.fromkeys(c.reason for c in comparisons if c.reason and c.setting not in excluded)
        reasons += [_range([c for c in unmet if c.part == part]) for part in dict.fromkeys(c.part for c in unmet)]
        return _sentence("; ".join(reasons)) if reasons else "No cell of the study tests it."
    parts = dict.fromkeys(c.part for c in comparisons if not c.part.condition)
    ranges = [_range([c for c in comparisons if c.part == part]) for part in parts]
    return f"{_tested_on(verdict)}: {'; '.join(ranges)}."


def _tested_on(verdict: Verdict) -> str:
    """``On textures, 1 of 3 settings fails and 2 are undecided``; for one setting only its name."""
    outcomes = by_setting(verdict.comparisons)
    reasons = dict.fromkeys(c.reason for c in _unmet(verdict))
    if not outcomes:
        return ""
    datasets = ", ".join(dict.fromkeys(setting.dataset for setting in outcomes))
    if len(outcomes) == 1:
        (setting,) = outcomes
        return f"On {datasets} ({', '.join(filter(None, (setting.architecture, setting.recipe)))})"
    words = list(outcomes.values())
    numbers = {outcome: words.count(outcome) for outcome in _OUTCOMES if outcome in words}
    counts = [f"{number} {_OUTCOMES[outcome][number > 1]}" for outcome, number in numbers.items()]
    first, _, rest = counts[0].partition(" ")
    counts[0] = f"{first} of {len(words)} settings {rest}"
    because = f" ({', '.join(reasons)})" if reasons else ""
    return f"On {datasets}, {listed(counts)}{because}"


def _unmet(verdict: Verdict) -> list[Comparison]:
    """The conditions that do not hold."""
    return [c for c in verdict.comparisons if c.part.condition and c.outcome == "fails"]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _range(comparisons: list[Comparison]) -> str:
    """The smallest and the largest effect of one part, without those that are untested."""
    part = comparisons[0].part
    tested = [c.evidence.effect for c in comparisons if c.evidence.effect.n and c.outcome != "untested"]
    known = sorted(tested, key=lambda effect: effect.mean)
    if not known:
        return f"{phrasing.part_name(part)}: {comparisons[0].reason}"
    ends = phrasing.effect_text(part, known[0])
    if len(known) > 1:
        ends = phrasing.ends(part, known[0].mean, known[-1].mean)
    sizes = sorted({effect.n for effect in known})
    noun = phrasing.sample_noun(part)
    seeds = count(sizes[0], noun) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} {noun}s"
    role = "required" if part.condition else "claimed"
    return f"{phrasing.part_name(part)} is {ends} ({seeds}; {role}: {phrasing.bound(part, bare=True)})"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def summary_rows(content: dict[str, Any]) -> list[list[str]]:
    """One row per claim of ``claims.json``: its name, title, source and two verdicts."""
    return [
        [c["name"], c["title"], c["source"]["paper"] or "ours", *(c["verdicts"][kind]["verdict"] for kind in KINDS)]
        for c in content["claims"]
    ]
