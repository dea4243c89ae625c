"""The results of a study in sentences, for page and paper."""

from collections.abc import Iterator

from rdp import data
from rdp.report import templating
from rdp.report.summary import CellSummary
from rdp.study.comparisons import Setting
from rdp.utils.humanize import PERCENT


def sentences(summaries: list[CellSummary], baseline: str | None) -> Iterator[str]:
    """The results of each setting in a sentence or two; ``baseline`` is the study's name of the baseline."""
    groups: dict[Setting, list[CellSummary]] = {}
    for summary in summaries:
        groups.setdefault(summary.setting, []).append(summary)
    template = templating.plain("sentences.j2")
    for setting, group in groups.items():
        measured = [summary for summary in group if summary.accuracy.n]
        text = template.render(
            setting=setting,
            ranked=sorted(measured, key=lambda summary: -summary.accuracy.mean),
            sizes=sorted({summary.accuracy.n for summary in measured}),
            intervals=any(summary.accuracy.has_interval for summary in measured),
            chance=PERCENT * data.info(setting.dataset).chance,
            outcomes=_outcomes(measured, baseline),
            incomplete=_incomplete(group),
        )
        yield " ".join(text.split())


def _outcomes(group: list[CellSummary], baseline: str | None) -> dict[str, list[CellSummary]]:
    """The cells by the outcome of their comparison with the baseline."""
    outcomes: dict[str, list[CellSummary]] = {
        f"above {baseline}": [],
        f"below {baseline}": [],
        f"no difference to {baseline} shown": [],
        "one pair of runs, so no interval": [],
        f"no seed shared with {baseline}, so not compared": [],
    }
    above, below, unclear, single, unpaired = outcomes.values()
    for cell in group:
        if (difference := cell.difference) is None:
            continue
        if difference.n < 2:
            (single if difference.n else unpaired).append(cell)
        elif difference.has_interval:
            (unclear if not difference.excludes(0) else above if difference.mean > 0 else below).append(cell)
    return {outcome: cells for outcome, cells in outcomes.items() if cells}


def _incomplete(group: list[CellSummary]) -> dict[tuple[str, int, int], list[str]]:
    """The methods by status, number of runs of that status, and number of runs."""
    statuses = {"diverged": "counted at chance", "failed": "left out", "missing": "left out"}
    alike: dict[tuple[str, int, int], list[str]] = {}
    for status, words in statuses.items():
        for s in group:
            if n := s.counts.get(status, 0):
                alike.setdefault((f"{status}, {words}", n, s.seeds), []).append(s.method)
    return alike
