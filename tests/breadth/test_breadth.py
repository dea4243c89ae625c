"""The contract of a schedule on the models of timm, torchvision and transformers, in the long tests.

``python -m tests.breadth`` writes the same as a table.
"""

from functools import cache

import pytest

from tests.breadth.contract import measure
from tests.breadth.findings import Finding
from tests.breadth.models import cases

pytestmark = pytest.mark.slow
CASES = {case.name: case for case in cases()}
SHARE = 0.95  # of the models with identity skips that must be split as they declare it
# Models with identity skips that are refused, and a part of the sentence, which somebody read and found true of it.
# Three branches of CoaT share one attention, and a mixer of EfficientViM returns a state that the head reads.
TRUE_REFUSALS = dict.fromkeys(
    ("timm/coat/coat_tiny", "timm/drop_path_rate=0.3/coat_tiny", "timm/efficientvim/efficientvim_m1"),
    "what its layers compute is used outside its branch too",
)


@cache
def found(name: str) -> Finding:
    return measure(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_model_is_split_correctly_or_refused_by_a_true_sentence(name):
    finding = found(name)
    if finding.verdict == "refused":
        assert not finding.skips or TRUE_REFUSALS.get(name, "no such sentence") in finding.reason, finding.row
    else:
        assert finding.verdict in {"correct", "in part, said"}, finding.row


def test_nearly_all_models_with_identity_skips_are_split_correctly():
    """Branches that nothing declares, beside such that a droppath declares, are no units, and a warning names them."""
    residual = [finding for finding in map(found, CASES) if finding.skips]
    others = [finding.row for finding in residual if finding.verdict not in {"correct", "in part, said"}]
    assert len(others) <= (1 - SHARE) * len(residual), "\n".join(others)
