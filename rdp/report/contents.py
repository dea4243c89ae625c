"""What a study's report shows. Nothing here draws, so that the Snakefile may ask."""

from rdp import data, models, settings
from rdp.study import Plan

COMMON = ("accuracy", "differences", "training_curves", "accuracy_by_depth", "cost")
COMPARED = frozenset({"differences", "cost"})  # with a baseline
SWEEP = ("learning_rates", "convergence")
MAPS = "activation_maps"
FRONTIER = "frontier"
SPEED = "throughput"
OF_PROBE = {
    "surviving_neurons": ("surviving_neurons",),
    "dissipating_inputs": ("dissipation_untrained", "dissipation_trained"),
    "coders": ("coders",),
    "feature_reuse": ("redundancy", "reuse_matrices", "lesions", "branch_to_stream"),
}


def figures(plan: Plan) -> dict[str, str | None]:
    """The names of a study's figures, in the report's order, each with the probe that it needs."""
    compared = settings.baseline(plan) is not None
    found: dict[str, str | None] = {name: None for name in COMMON if compared or name not in COMPARED}
    if any(cell.specs[0].tuning for cell in plan.cells):
        found |= dict.fromkeys(SWEEP)
    if _has_widths(plan):
        found[FRONTIER] = None
    if plan.study.speed_rounds:
        found[SPEED] = None
    for probe in plan.study.probes:
        if probe == MAPS:
            found |= {f"{MAPS}_{label}": probe for label in mapped_methods(plan)}
        else:
            found |= dict.fromkeys(OF_PROBE.get(probe, ()), probe)
    return found


def _has_widths(plan: Plan) -> bool:
    """Whether some dataset has networks of one family and depth in several widths."""
    seen: dict[tuple[str, str, int], set[str]] = {}
    for cell in plan.cells:
        found = models.architecture(cell.architecture)
        seen.setdefault((cell.dataset, found.family, found.depth), set()).add(cell.architecture)
    return any(len(names) > 1 for names in seen.values())


def mapped_methods(plan: Plan) -> list[str]:
    """The methods with a network that reads points of the plane, whose activations can be drawn as maps."""
    planar = {cell.label for cell in plan.cells if data.info(cell.dataset).shape == (2,)}
    return [label for label in plan.study.methods if label in planar]
