"""Statistics: intervals over seeds, effects and their tests, power, and aggregates over cells."""

from rdp.stats.aggregate import interquartile_mean, probability_of_improvement
from rdp.stats.effects import LEVEL, Effect, IntervalEffect, accuracy_difference, holm
from rdp.stats.intervals import Estimate, mean_interval, paired_difference

__all__ = [
    "LEVEL",
    "Effect",
    "Estimate",
    "IntervalEffect",
    "accuracy_difference",
    "holm",
    "interquartile_mean",
    "mean_interval",
    "paired_difference",
    "probability_of_improvement",
]
