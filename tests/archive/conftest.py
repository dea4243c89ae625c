"""A small study and its trained runs."""

import shutil
from pathlib import Path

import pytest

from rdp import study
from rdp.errors import UserError
from rdp.jobs import parallel, tuning
from rdp.study import Plan


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A sweep of two rates and one run of it, and a run that diverges, on the spiral."""
    return study.load(str(Path(__file__).parent / "before/before.yaml"))


@pytest.fixture(scope="session")
def trained(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory in which the same study was trained here. Tests must leave it as it is."""
    results = tmp_path_factory.mktemp("trained")
    for spec in plan.specs:
        parallel.run_job([spec], results, "cpu", cores=1)
        if spec.tuning:
            tuning.write(spec, parallel.run_job(spec.candidates(), results, "cpu", cores=1), results)
    return results


@pytest.fixture
def before(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained results, which a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "before"))


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "results"))


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
