"""What a study's report shows. Nothing here draws, so that the Snakefile may ask."""

from functools import cache
from pathlib import Path

import yaml

from rdp import data, models
from rdp.errors import UserError
from rdp.study import Plan, comparisons
from rdp.utils import paths, sealed

COMMON = ("accuracy", "differences", "training_curves", "accuracy_by_depth", "cost")
COMPARED = frozenset({"differences", "cost"})  # with a baseline
SWEEP = ("learning_rates", "convergence")
MAPS = "activation_maps"
FRONTIER = "frontier"
SPEED = "throughput"
BENCHMARKS = "benchmarks"
# Columns of the data behind figures that are time measured on a machine; None for all of them.
TIMED: dict[str, tuple[str, ...] | None] = {"cost": ("measured", "measured_median"), SPEED: None, BENCHMARKS: None}
TABLES = {
    "accuracy": "Test accuracy",
    "claims": "Claims and verdicts",
    "comparisons": "Three fair comparisons",
    "cost": "Cost",
    "cost_of_knowing": "What it took to know",
    "efficiency": "Parameters for equal accuracy",
}
OF_PROBE = {
    "surviving_neurons": ("surviving_neurons",),
    "dissipating_inputs": ("dissipation_untrained", "dissipation_trained"),
    "coders": ("coders",),
    "feature_reuse": ("redundancy", "reuse_matrices", "lesions", "branch_to_stream"),
}


def figures(plan: Plan) -> dict[str, str | None]:
    """The names of a study's figures, in the report's order, each with the probe that it needs."""
    compared = comparisons.baseline(plan) is not None
    found: dict[str, str | None] = {name: None for name in COMMON if compared or name not in COMPARED}
    if any(cell.specs[0].tuning for cell in plan.cells):
        found |= dict.fromkeys(SWEEP)
    if _has_widths(plan):
        found[FRONTIER] = None
    if plan.study.speed_rounds:
        found[SPEED] = None
    for probe in plan.study.probes:
        if probe == MAPS:
            found |= {f"{MAPS}_{label}": probe for label in _mapped_methods(plan)}
        else:
            found |= dict.fromkeys(OF_PROBE.get(probe, ()), probe)
    return found | {BENCHMARKS: None}


def sheets(plan: Plan) -> dict[str, list[str]]:
    """The same names by what they are drawn from: ``records``, ``speed``, or a probe."""
    found: dict[str, list[str]] = {}
    for name, probe in figures(plan).items():
        found.setdefault(probe or ("speed" if name == SPEED else "records"), []).append(name)
    return found


def caption(name: str) -> dict[str, str]:
    """A figure's ``title``, ``caption`` and ``alt`` text, from report/captions.yaml."""
    captions = _captions(paths.templates() / "captions.yaml")
    kind, _, label = name.partition(f"{MAPS}_")  # one figure a method, and one caption for them
    found = captions.get(MAPS if label and not kind else name)
    if found is None:
        raise UserError(f"{paths.templates() / 'captions.yaml'}: no caption for the figure '{name}'")
    return found | ({"title": f"{found['title']}, {label}"} if label else {})


def save_drawing(plan: Plan, name: str, folder: Path, drawing: str) -> None:
    """Write a figure as SVG, which the page and the paper hold: sealed like the numbers that it shows."""
    sealed.write(folder / f"{name}.svg", f"{drawing}<!-- {sealed.BLANK} -->\n".encode(), plan.name)


def drawing(plan: Plan, name: str, folder: Path) -> str:
    """The SVG that `save_drawing` left."""
    return sealed.read(folder / f"{name}.svg", plan.name, f"run: rdp plot {plan.name} {name}")[0].decode()


def choices() -> list[dict[str, str]]:
    """What the papers say and what was chosen, from report/choices.yaml: ``about``, ``paper``, ``chosen``, ``why``."""
    found: list[dict[str, str]] = yaml.safe_load((paths.templates() / "choices.yaml").read_text(encoding="utf-8"))
    return found


@cache
def _captions(file: Path) -> dict[str, dict[str, str]]:
    captions: dict[str, dict[str, str]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return captions


def _has_widths(plan: Plan) -> bool:
    """Whether some dataset has networks of one family and depth in several widths."""
    seen: dict[tuple[str, str, int], set[str]] = {}
    for cell in plan.cells:
        found = models.architecture(cell.architecture)
        seen.setdefault((cell.dataset, found.family, found.depth), set()).add(cell.architecture)
    return any(len(names) > 1 for names in seen.values())


def _mapped_methods(plan: Plan) -> list[str]:
    """The methods with a network that reads points of the plane, whose activations can be drawn as maps."""
    planar = {cell.label for cell in plan.cells if data.info(cell.dataset).shape == (2,)}
    return [label for label in plan.study.methods if label in planar]
