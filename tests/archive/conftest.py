"""A study trained for real, and a planted one with probes, throughput and verdicts."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdp import study
from rdp.archive import format as archive_format
from rdp.archive import recorded, unpack
from rdp.archive.format import Archive
from rdp.archive.pack import pack
from rdp.claims import verdict_json
from rdp.errors import UserError
from rdp.jobs import parallel, tuning
from rdp.study import Plan
from rdp.utils import digest
from tests.claims.conftest import AS_CLAIMED
from tests.helpers.planting import load, plant

METHODS = {"vanilla": None, "residual_droppath": None, "pnnh": None}


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A sweep of two rates with one run that uses it, and a run that diverges, on the spiral."""
    return study.load(str(Path(__file__).parent / "carried.yaml"))


@pytest.fixture(scope="session")
def trained(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory in which this study was trained. Tests must not change it."""
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


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The planted study, beside its results."""
    folder = tmp_path_factory.mktemp("study")
    grids = [{"datasets": ["digits", "fashion_mnist_14"], "architectures": ["resnet56"]}]
    plan = load(folder, seeds=2, methods=METHODS, grids=grids)
    verdict_json.write(plant(plan, folder, AS_CLAIMED))
    return plan


@pytest.fixture
def own(planted: Plan, tmp_path: Path) -> Path:
    """A copy of its results that a test may change."""
    return Path(shutil.copytree(planted.file.parent, tmp_path / "own"))


@pytest.fixture(scope="session")
def packed(planted: Plan, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Its archive. Tests must not change it."""
    return pack(planted, planted.file.parent, tmp_path_factory.mktemp("recorded") / "planted.tar")


@pytest.fixture
def copy(packed: Archive, tmp_path: Path) -> Archive:
    """A copy of the archive that a test may change."""
    return archive_format.load(Path(shutil.copy(packed.path, tmp_path / "planted.tar")))


@pytest.fixture
def rebuilt(packed: Archive, tmp_path: Path) -> Path:
    """A results directory that the archive was unpacked into as recorded results."""
    rebuild(packed, tmp_path / "rebuilt")
    return tmp_path / "rebuilt"


def rebuild(archive: Archive, results: Path) -> Plan:
    """Unpack an archive as recorded results, and return the plan of its study."""
    plan = recorded.plan(archive, results)
    unpack.as_recorded(archive, plan, results)
    return plan


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The message of the error that a call raises."""
    with pytest.raises(UserError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """Change the manifest and the stored files of an archive, and seal it again with correct checksums."""
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    manifest = json.loads(members.pop("manifest.json"))
    del manifest["seal"]
    change(manifest, members)
    content = (json.dumps(digest.seal(manifest), indent=1, ensure_ascii=False) + "\n").encode()
    with path.open("wb") as to:
        for name, data in {"manifest.json": content, **members}.items():
            archive_format._add(to, name, data, len(data))
        to.write(bytes(1024))
    return path
