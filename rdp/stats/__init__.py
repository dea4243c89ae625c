"""Statistics: intervals over seeds, effects and what is decided of them, power, and what cells show together."""

from rdp.stats.aggregate import interquartile_mean, probability_of_improvement
from rdp.stats.effects import LEVEL, Effect, Measured, of_predictions
from rdp.stats.intervals import Estimate, mean_interval, paired_difference
from rdp.stats.multiplicity import holm

__all__ = [
    "LEVEL",
    "Effect",
    "Estimate",
    "Measured",
    "holm",
    "interquartile_mean",
    "mean_interval",
    "of_predictions",
    "paired_difference",
    "probability_of_improvement",
]
