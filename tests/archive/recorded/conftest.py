"""A small study with a sweep, probes and speed, planted to its verdicts, and the bundle that is packed from it."""

import shutil
from pathlib import Path

import pytest

from rdp.archive import bundle, packing
from rdp.archive.bundle import Bundle
from rdp.claims import verdict_json
from rdp.study import Plan
from tests.claims.conftest import AS_CLAIMED
from tests.helpers.planting import load, plant

METHODS = {"vanilla": None, "residual_droppath": None, "pnnh": None}


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The study, beside its results."""
    folder = tmp_path_factory.mktemp("study")
    grids = [{"datasets": ["digits", "fashion_mnist_14"], "architectures": ["resnet56"]}]
    found = load(folder, seeds=2, methods=METHODS, grids=grids)
    verdict_json.write(plant(found, folder, AS_CLAIMED))
    return found


@pytest.fixture(scope="session")
def results(plan: Plan) -> Path:
    """Its results directory. Tests must leave it as it is."""
    return plan.file.parent


@pytest.fixture
def own(plan: Plan, results: Path, tmp_path: Path) -> Path:
    """A copy of the results that a test may change."""
    return Path(shutil.copytree(results, tmp_path / "own"))


@pytest.fixture(scope="session")
def packed(plan: Plan, results: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle. Tests must leave it as it is."""
    return packing.write(plan, results, tmp_path_factory.mktemp("recorded") / plan.name)


@pytest.fixture
def copy(packed: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the bundle that a test may change."""
    return bundle.load(Path(shutil.copytree(packed.folder, tmp_path / "recorded" / packed.study)))
