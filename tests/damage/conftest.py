"""A small study with every kind of file that a report reads, to be damaged. Nothing is trained."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from rdp.claims import verdict_json
from rdp.errors import UserError
from rdp.report import contents
from rdp.study import Plan
from tests.claims.conftest import AS_CLAIMED
from tests.damage.damages import damages
from tests.helpers.planting import load, plant

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="90pt"><path d="M 0 0 L 90 90"/></svg>\n'
NAMED, HARMLESS = "named", "harmless"

Look = Callable[[], str]


@pytest.fixture(params=[pytest.param(24, id="sample"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def part(request: pytest.FixtureRequest) -> int:
    """Which part of the cases is tried: few of them in every run of the tests."""
    return request.param


@pytest.fixture
def try_damages(part: int) -> Callable[[Path, int, Look], None]:
    """Damage a file in many ways, one after another, and look what comes of each.

    ``look`` says whether the damage was `NAMED` or `HARMLESS`, and fails where it was neither.
    """

    def try_all(path: Path, cases: int, look: Look) -> None:
        whole, outcomes = path.read_bytes(), Counter[str]()
        try:
            for damage, damaged in damages(whole, -(-cases // part), path.name):
                path.write_bytes(damaged)
                try:
                    outcomes[look()] += 1
                except BaseException as error:  # whatever it is, a damage alone may not bring it about
                    error.add_note(f"{path}, damaged: {damage}")
                    raise
        finally:
            path.write_bytes(whole)
        print(f"{path.name}: {dict(outcomes)}")
        assert set(outcomes) <= {NAMED, HARMLESS}

    return try_all


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """The one line that a call is refused with; None where it is not."""
    try:
        call(*arguments)
    except UserError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A study with a sweep, probes and speed, planted to its verdicts and figures beside its own file."""
    folder = tmp_path_factory.mktemp("study")
    methods = {"vanilla": None, "residual_droppath": None, "pnnh": None}
    found = load(folder, seeds=2, methods=methods, grids=[{"datasets": ["digits"], "architectures": ["resnet56"]}])
    verdict_json.write(plant(found, folder, AS_CLAIMED))
    for name in contents.figures(found):
        contents.save_drawing(found, name, folder / found.name / "figures", DRAWING)
    return found


@pytest.fixture(scope="session")
def results(plan: Plan) -> Path:
    """The results directory of the study."""
    return plan.file.parent
