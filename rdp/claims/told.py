"""Findings as `claims.json` and in words: every number with the runs behind it, or why there is none."""

import math
from pathlib import Path
from typing import Any

from rdp.claims import ledger, model, words
from rdp.claims.evidence import Records
from rdp.claims.knowing import Knowing
from rdp.claims.model import KINDS, Claims, Part
from rdp.claims.verdicts import Comparison, Finding, Verdict, by_setting, decide
from rdp.stats import LEVEL, Effect, Estimate, interquartile_mean, power, probability_of_improvement
from rdp.tables import Tables
from rdp.utils import sealed
from rdp.utils.humanize import count

_OUTCOMES = {  # of one setting, of several
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("is undecided", "are undecided"),
    "absent": ("has no numbers", "have no numbers"),
}


def write(tables: Tables) -> dict[str, Any]:
    """Decide all claims by a study's tables: ``claims.json``. Returns what is in it."""
    claims = model.load()
    ledger.note(tables.results)
    content = as_json(claims, decide(claims, Records(tables)), tables)
    save(tables.plan.name, tables.results, content)
    return content


def save(study: str, results: Path, content: dict[str, Any]) -> None:
    """Write what was decided: ``claims.json``."""
    sealed.write_json(_path(study, results), content, study)


def read(study: str, results: Path) -> dict[str, Any]:
    """What `save` left."""
    return sealed.read_json(_path(study, results), study, f"run: rdp claims {study}")


def _path(study: str, results: Path) -> Path:
    return results / study / "claims.json"


def as_json(claims: Claims, findings: list[Finding], tables: Tables) -> dict[str, Any]:
    """All claims with their verdicts and the evidence. What is not known is null."""
    runs, sweep = tables.records, tables.sweep
    started = dict(zip(runs["run"], runs["started"], strict=True))
    started |= dict(zip(sweep["sweep_run"], sweep["started"], strict=True)) if "started" in sweep else {}
    cost = Knowing(tables, findings)
    return {
        "study": tables.plan.name,
        "level": LEVEL,
        "confirmatory": claims.confirmatory,
        "cost": cost.of_study(),
        "claims": [
            _claim(found, claims.digest(found.name), started, tables) | {"cost": cost.of_claim(found.name)}
            for found in findings
        ],
    }


def _claim(found: Finding, digest: str, started: dict[str, Any], tables: Tables) -> dict[str, Any]:
    claim, seen = found.claim, ledger.first_seen(digest, tables.results)
    begun = {run: started.get(run) for c in found.comparisons for names in c.evidence.runs for run in names}
    for evidence in (c.evidence for c in found.comparisons):
        begun |= {run: evidence.measured_at or started.get(run) for run in evidence.measured_on}
    # A claim of which the text was not there when a run that decides it was begun may have been fitted to it.
    late = [run for run, time in begun.items() if isinstance(time, str) and time < seen]
    return {
        "name": found.name,
        "title": claim.title,
        "source": claim.source.model_dump(),
        "tests": claim.tests,
        "reading": claim.reading,
        "holds": claim.holds,
        "parts": [
            {
                "what": words.named(part),
                "bound": words.bound(part),
                "test": part.test,
                "minimum_seeds": claim.seeds_for(part),
                "of": words.noun(part),
            }
            for part in claim.parts
        ],
        "digest": digest,
        "first_seen": None if seen == ledger.NEVER else seen,
        "runs_before_it": len(late),
        "verdicts": {kind: _verdict(verdict, tables) for kind, verdict in found.verdicts.items()},
    }


def _verdict(verdict: Verdict, tables: Tables) -> dict[str, Any]:
    return {
        "verdict": verdict.word,
        "line": line(verdict),
        "scale": _scale(verdict, tables),
        "settings": {setting.title: outcome for setting, outcome in by_setting(verdict.comparisons).items()},
        "aggregate": _aggregate(verdict),
        "comparisons": [_comparison(c) for c in verdict.comparisons],
        "beside": [_comparison(c) for c in verdict.beside],
    }


def _scale(verdict: Verdict, tables: Tables) -> dict[str, float | None]:
    """The most of what the networks compared had: parameters, optimizer steps, and examples that they trained on."""
    runs = {run for c in verdict.comparisons for names in (*c.evidence.runs, c.evidence.measured_on) for run in names}
    rows = tables.records[tables.records["run"].isin(runs)]
    return {name: _number(rows[name].max()) for name in ("parameters", "steps", "examples")}


def _aggregate(verdict: Verdict) -> list[dict[str, Any]]:
    """Over all settings, of each part that compares the accuracy of two methods."""
    rows = []
    for part in dict.fromkeys(c.part for c in verdict.comparisons if c.part.metric == "accuracy"):
        mine = [c.evidence for c in verdict.comparisons if c.part == part and c.evidence.seeds]
        first, second = [e.first for e in mine], [e.second for e in mine]
        row = {"what": words.named(part), "settings": len(mine)}
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
        # Of one method alone there is nothing whose spread an effect could be a multiple of.
        "size": effect.hedges_g if part.against and not part.kind.exact else math.nan,
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
        "what": words.named(part),
        **part.model_dump(include={"metric", "budget", "stage", "direction", "margin", "negligible", "condition"}),
        "unit": part.kind.unit,
        "relative": part.kind.relative,
        "method": c.label,
        "against": c.against,
        "decides": c.decides,
        "outcome": c.outcome,
        "reason": c.reason or None,
        "n": effect.n,
        **{name: _number(value) for name, value in numbers.items()},
        "told": words.told(part, effect),
        "diverged": c.evidence.diverged,
        "measured_on": list(c.evidence.measured_on),
        "measured_at": c.evidence.measured_at,
        "seeds": list(c.evidence.seeds),
        "values": [_number(value) for value in effect.values],
        "runs": [list(names) for names in c.evidence.runs],
        "left_out": c.evidence.left_out,
    }


def _sign_flip(part: Part, effect: Effect) -> float:
    """Of independent seeds alone, and of what is not counted."""
    if effect.inflation != 1 or part.kind.exact:
        return math.nan
    return effect.sign_flip_p_value(part.margin if part.direction != "within" else 0.0)


def detectable(part: Part, effect: Effect) -> float:
    """The smallest effect beyond the margin, or around 0 the smallest margin, that these seeds could have shown.

    With probability 0.8, by an uncorrected test, were the spread what it was found to be.
    """
    if not effect.values or not effect.has_spread or part.kind.exact:
        return math.nan
    spread = effect.standard_error * math.sqrt(effect.n)
    return (power.equivalence_margin if part.direction == "within" else power.detectable_effect)(effect.n, spread)


def line(verdict: Verdict) -> str:
    """A verdict's evidence in one line: how many settings, the smallest and largest effects, seeds, margins."""
    here = verdict.comparisons
    if verdict.word == "not tested":
        reasons = dict.fromkeys(c.reason for c in here if c.reason)
        return _sentence("; ".join(reasons)) if reasons else "No cell of the study speaks to it."
    outcomes = list(by_setting(here).values())
    counts = ", ".join(
        f"{outcomes.count(o)} {one if outcomes.count(o) == 1 else more}"
        for o, (one, more) in _OUTCOMES.items()
        if o in outcomes
    )
    parts = [_range([c for c in here if c.part == part]) for part in dict.fromkeys(c.part for c in here)]
    datasets = ", ".join(dict.fromkeys(c.setting.dataset for c in here))
    return f"On {datasets}, {count(len(outcomes), 'setting')}: {counts}. {_sentence('; '.join(parts))}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _range(comparisons: list[Comparison]) -> str:
    part = comparisons[0].part
    known = sorted((c.evidence.effect for c in comparisons if c.evidence.effect.n), key=lambda effect: effect.mean)
    if not known:
        return f"{words.named(part)}: {comparisons[0].reason}"
    ends = words.told(part, known[0])
    if len(known) > 1:
        ends = f"{words.amount(part, known[0].mean, bare=True)} to {words.amount(part, known[-1].mean)}"
    sizes = sorted({effect.n for effect in known})
    noun = words.noun(part)
    seeds = count(sizes[0], noun) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} {noun}s"
    asked = "a condition" if part.condition else "claimed"
    return f"{words.named(part)}: {ends}, {asked} {words.bound(part, bare=True)} ({seeds})"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def rows(content: dict[str, Any]) -> list[list[str]]:
    """`claims.json` for a terminal, a row a claim: its name, what it says, whose it is, the two verdicts."""
    return [
        [c["name"], c["title"], c["source"]["paper"] or "ours", *(c["verdicts"][kind]["verdict"] for kind in KINDS)]
        for c in content["claims"]
    ]
