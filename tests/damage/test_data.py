"""Damaged datasets: prepared data are verified on every load, and source files before they are decoded."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rdp.data import prepared, published
from rdp.data.sources import torchvision_images
from rdp.utils import digest
from tests.damage.conftest import HARMLESS, NAMED, refusal
from tests.helpers import sources

IDX = sorted(published.FASHION_MNIST_SHA256)
CIFAR = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
IMAGES = 20  # in a synthetic file
slow = pytest.mark.slow  # importing torchvision takes seconds; tests/data/test_images.py has the basic cases


@pytest.fixture(scope="module")
def spiral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory with the prepared spiral."""
    folder = tmp_path_factory.mktemp("spiral")
    prepared.prepare("spiral", folder)
    return folder


@pytest.mark.parametrize(("name", "cases"), [("data.safetensors", 100), ("manifest.json", 60)])
def test_a_damaged_dataset_is_named_or_read_unchanged(name: str, cases: int, spiral: Path, try_damages: Any) -> None:
    path, whole = spiral / "data" / "spiral" / name, prepared.load("spiral", spiral)

    def look() -> str:
        message = refusal(prepared.load, "spiral", spiral)
        if message is None:
            found = prepared.load("spiral", spiral)
            assert digest.of_arrays(found.arrays) == digest.of_arrays(whole.arrays) == found.digest
            assert (found.mean.tolist(), found.std.tolist()) == (whole.mean.tolist(), whole.std.tolist())
            return HARMLESS
        assert str(path) in message
        assert "damaged" in message
        assert message.endswith("run: rdp data prepare spiral")
        return NAMED

    try_damages(path, cases, look)


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with few images of noise in Fashion-MNIST's form, with their checksums as the published ones."""
    raw, draw = tmp_path / "FashionMNIST" / "raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for name in IDX:
        shape = (IMAGES, 28, 28) if "images" in name else (IMAGES,)
        (raw / name).write_bytes(sources.idx(draw.integers(0, 10, shape, dtype=np.uint8)))
    sums = {name: digest.of_file(raw / name) for name in IDX}
    monkeypatch.setattr(published, "FASHION_MNIST_SHA256", sums)
    return tmp_path


@slow
@pytest.mark.parametrize("name", IDX)
def test_a_damaged_source_is_named_before_it_is_read(
    name: str, fashion: Path, try_damages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    opened = []
    read = FashionMNIST._load_data
    monkeypatch.setattr(FashionMNIST, "_load_data", lambda self: opened.append(self) or read(self))
    path = fashion / "FashionMNIST" / "raw" / name

    def look() -> str:
        assert str(path) in refusal(torchvision_images.read, "fashion_mnist", fashion, False)
        return NAMED

    try_damages(path, 15, look)
    assert not opened
    assert len(torchvision_images.read("fashion_mnist", fashion, False)["test_y"]) == IMAGES
    assert opened


@slow
def test_files_of_an_old_torchvision_are_not_read_instead_of_the_source(fashion: Path) -> None:
    """torchvision prefers these files, whose checksums are unknown."""
    processed = fashion / "FashionMNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)), processed / name)
    from torchvision.datasets import FashionMNIST

    assert len(FashionMNIST(fashion)) == 3  # torchvision alone would read them
    message = refusal(torchvision_images.read, "fashion_mnist", fashion, False)
    assert message.startswith(f"{processed}: torchvision reads this")


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with few images in CIFAR-10's form, with their checksums as the published ones."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in CIFAR[:-1]:
        content = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / CIFAR[-1]).write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    sums = {name: digest.of_file(folder / name, "md5") for name in CIFAR}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in CIFAR[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    return tmp_path


@slow
@pytest.mark.parametrize("name", CIFAR)
def test_a_damaged_pickle_is_not_unpickled(
    name: str, cifar: Path, try_damages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    load = pickle.load
    monkeypatch.setattr("torchvision.datasets.cifar.pickle.load", lambda *a, **k: opened.append(a) or load(*a, **k))
    path = cifar / "cifar-10-batches-py" / name

    def look() -> str:
        assert str(path) in refusal(torchvision_images.read, "cifar10", cifar, False)
        return NAMED

    try_damages(path, 10, look)
    assert not opened
    assert len(torchvision_images.read("cifar10", cifar, False)["test_y"]) == 2
    assert len(opened) == len(CIFAR) + 1  # either split reads the class names


@slow
@pytest.mark.parametrize("name", CIFAR)
def test_a_harmful_pickle_that_differs_from_the_published_one_is_not_unpickled(name: str, cifar: Path) -> None:
    """Replaces one file at a time."""
    path, trace = cifar / "cifar-10-batches-py" / name, cifar / "unpickled"
    path.write_bytes(pickle.dumps(Trap(trace)))
    message = refusal(torchvision_images.read, "cifar10", cifar, False)
    assert message.startswith(f"{path}: damaged or not cifar10's file: md5 ")
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # unpickling has the effect


FILES = [(name, i) for name, count in (("cifar100", 3), ("mnist", 4), ("svhn", 2)) for i in range(count)]


@slow
@pytest.mark.parametrize(("name", "number"), FILES)
def test_a_damaged_file_of_another_dataset_is_named_before_it_is_read(
    name: str, number: int, tmp_path: Path, try_damages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = sources.write(name, tmp_path, monkeypatch)
    opened = []
    part = torchvision_images._part
    monkeypatch.setattr(torchvision_images, "_part", lambda *a: opened.append(a) or part(*a))
    path = written.files[number]

    def look() -> str:
        message = refusal(torchvision_images.read, name, tmp_path, False)
        assert message.startswith(f"{path}: damaged or not {name}'s file: md5 ")
        return NAMED

    try_damages(path, 10, look)
    assert not opened
    assert len(torchvision_images.read(name, tmp_path, False)["test_y"]) == sources.TEST
    assert opened


@slow
@pytest.mark.parametrize("number", range(4))
def test_a_damaged_extracted_file_is_not_read_instead_of_the_published_one(
    number: int, tmp_path: Path, try_damages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST's published checksums are of the compressed files."""
    written = sources.write("mnist", tmp_path, monkeypatch)
    torchvision_images.read("mnist", tmp_path, False)
    path = written.files[number].with_suffix("")

    def look() -> str:
        assert refusal(torchvision_images.read, "mnist", tmp_path, False).startswith(f"{path}: damaged")
        return NAMED

    try_damages(path, 15, look)
