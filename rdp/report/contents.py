"""The figures and tables of a study's report, listed without importing matplotlib."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rdp import data, models
from rdp.errors import UserError
from rdp.report import plots
from rdp.study import Plan, comparisons
from rdp.utils import paths, sealed

MAPS = "activation_maps"  # one figure for each method
_HEADS = ("regimes", "accuracy_by_depth")  # the first of these that a study has is at the head of its page
# The figures by the question that they answer, in the report's order; others come last.
QUESTIONS = {
    "Does it help?": ("accuracy", "differences", "regimes", "training_curves", "learning_rates"),
    "Why do plain networks fail?": ("convergence", "dissipation_untrained", "surviving_neurons"),
    "Does a coder mend it?": ("dissipation_trained", "coders"),
    "Are features repeated?": ("redundancy", "reuse_matrices", "lesions", "branch_to_stream", MAPS),
    "What does it cost?": ("cost", "throughput", "frontier"),
}
_OTHER = "More"
SPEED = "throughput"
# Columns of a figure's data that are times measured on a machine; None for all columns.
TIMED: dict[str, tuple[str, ...] | None] = {"cost": ("measured", "measured_median"), SPEED: None}
TABLES = {
    "accuracy": "Test accuracy",
    "claims": "Claims and verdicts",
    "comparisons": "Three fair comparisons",
    "cost": "Cost",
    "compute_cost": "Compute cost per claim",
    "efficiency": "Parameters for equal accuracy",
}


def figures(plan: Plan) -> dict[str, str | None]:
    """The names of a study's figures, in the report's order, with the probe that each needs."""
    has = {
        None: True,
        "baseline": comparisons.baseline(plan) is not None,
        "sweep": any(cell.specs[0].tuning for cell in plan.cells),
        "depths": _has_depths(plan),
        "widths": _has_widths(plan),
        "lengths": _has_lengths(plan),
        "speed": bool(plan.study.speed_rounds),
    }
    probes = {probe: place for place, probe in enumerate(plan.study.probes, start=1)}
    order = {"lengths": 1, "sweep": 2, "depths": 2, "widths": 3, "speed": 4}
    names: dict[tuple[int, int], dict[str, str | None]] = {}
    for name, figure in plots.available().items():
        if not has[figure.needs] or (figure.probe and figure.probe not in probes):
            continue
        labels = [f"{MAPS}_{label}" for label in _mapped_methods(plan)] if name == MAPS else [name]
        place = (probes.get(figure.probe or "", 0), order.get(figure.needs or "", 0))
        names.setdefault(place, {}).update(dict.fromkeys(labels, figure.probe))
    return {name: probe for _, group in sorted(names.items()) for name, probe in group.items()}


def figures_by_source(plan: Plan) -> dict[str, list[str]]:
    """The names of a study's figures by the table they show: ``records``, ``speed``, or a probe's."""
    sources: dict[str, list[str]] = {}
    for name, probe in figures(plan).items():
        sources.setdefault(probe or ("speed" if name == SPEED else "records"), []).append(name)
    return sources


def caption(name: str) -> dict[str, str]:
    """A figure's ``title``, ``caption`` and ``alt`` text, from report/captions.yaml or the figure's own file."""
    kind, _, label = name.partition(f"{MAPS}_")  # all methods share a caption
    key = MAPS if label and not kind else name
    declared = plots.available().get(key)
    captions: dict[str, str] = texts("captions").get(key, {}) | (declared.texts if declared else {})
    if missing := [text for text in plots.TEXTS if text not in captions]:
        file = paths.templates() / "captions.yaml"
        raise UserError(f"figure '{name}': no {', '.join(missing)} in {file} or in FIGURES of its own file")
    return captions | ({"title": f"{captions['title']}, {label}"} if label and not kind else {})


def head(names: Collection[str]) -> str | None:
    """The name of the figure at the head of the page; None if a study has no such figure."""
    return next((name for name in _HEADS if name in names), None)


def by_question(figures: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Figures, given by ``name``, under the questions that they answer; without that at the head of the page."""
    at_head = head([figure["name"] for figure in figures])
    questions = {name: question for question, names in QUESTIONS.items() for name in names}
    groups: dict[str, list[dict[str, str]]] = {question: [] for question in (*QUESTIONS, _OTHER)}
    for figure in figures:
        name = MAPS if figure["name"].startswith(f"{MAPS}_") else figure["name"]
        if name != at_head:
            groups[questions.get(name, _OTHER)].append(figure)
    return {question: drawn for question, drawn in groups.items() if drawn}


def save_drawing(plan: Plan, name: str, folder: Path, drawing: str) -> None:
    """Write a figure as SVG, sealed like the numbers that it shows."""
    sealed.write(folder / f"{name}.svg", f"{drawing}<!-- {sealed.BLANK} -->\n".encode(), plan.name)


def drawing(plan: Plan, name: str, folder: Path) -> str:
    """Read the SVG of a figure."""
    return sealed.read(folder / f"{name}.svg", plan.name, f"run: rdp plot {plan.name} {name}")[0].decode()


@cache
def texts(name: str) -> Any:
    """The content of a YAML file among the templates: ``captions``, ``checklist``, or ``choices``.

    ``choices`` lists the choices where the papers leave a setting open: ``about``, ``paper``, ``chosen``, ``why``.
    """
    return yaml.safe_load((paths.templates() / f"{name}.yaml").read_text(encoding="utf-8"))


def _has_widths(plan: Plan) -> bool:
    seen: dict[tuple[str, str, int], set[str]] = {}
    for cell in plan.cells:
        network = models.architecture(cell.architecture)
        seen.setdefault((cell.dataset, network.family, network.depth), set()).add(cell.architecture)
    return any(len(names) > 1 for names in seen.values())


def _has_depths(plan: Plan) -> bool:
    """Whether a sweep covers several depths of a family."""
    depths: dict[tuple[str, str], set[int]] = {}
    for cell in plan.cells:
        if cell.specs[0].tuning:
            network = models.architecture(cell.architecture)
            depths.setdefault((cell.dataset, network.family), set()).add(network.depth)
    return any(len(several) > 1 for several in depths.values())


def _has_lengths(plan: Plan) -> bool:
    lengths = comparisons.by_length(plan).values()
    return comparisons.baseline(plan) is not None and any(len(group) > 1 for group in lengths)


def _mapped_methods(plan: Plan) -> list[str]:
    """The methods with a network on two-dimensional inputs, whose activations can be drawn as maps."""
    planar = {cell.label for cell in plan.cells if data.info(cell.dataset).shape == (2,)}
    return [label for label in plan.study.methods if label in planar]
