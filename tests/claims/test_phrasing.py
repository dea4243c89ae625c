"""Effects of a claim's parts as text."""

import math

from rdp.claims import phrasing
from rdp.claims.model import Part
from rdp.stats import Effect

PART = Part(metric="redundancy_beyond_chance", method="vanilla", direction="above", margin=0.0)


def test_an_effect_has_its_interval() -> None:
    # mean 0.2, half width 4.302653 x 0.1 / sqrt(3) = 0.248
    assert phrasing.effect_text(PART, Effect((0.1, 0.2, 0.3))) == "0.200 CKA [\u22120.048, 0.448]"
    assert phrasing.effect_text(PART, Effect((0.1,))) == "0.100 CKA"
    assert phrasing.effect_text(PART, Effect(())) == "none"
    assert phrasing.effect_text(PART, Effect((-0.0004,))) == "0.000 CKA"


def test_an_interval_without_ends_is_left_out() -> None:
    # Redundancy beyond chance of two seeds, whose error has no bound.
    assert phrasing.effect_text(PART, Effect((0.1, 0.2), inflation=math.inf)) == "0.150 CKA"
