"""Datasets' files in their original formats with few images of noise, their published checksums exchanged for those
of the files."""

import gzip
import pickle
import tarfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rdp.data import prepared, published
from rdp.data.sources import torchvision_images
from rdp.errors import UserError
from rdp.utils import digest

TRAIN, TEST, VALIDATION = 60, 20, 10
MNISTS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@dataclass
class Written:
    """What was written.

    Attributes:
        name: the dataset.
        root: the data directory.
        arrays: part (train, test) -> uint8 images of shape (n, channels, height, width) and int64 labels.
    """

    name: str
    root: Path
    arrays: dict[str, tuple[np.ndarray, np.ndarray]]

    @property
    def files(self) -> list[Path]:
        """What must be there."""
        return torchvision_images.files(self.name, self.root)


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Write the files of the dataset called ``name``; of its training images few are set aside for validation."""
    monkeypatch.setattr(torchvision_images, "_VALIDATION", VALIDATION)
    info = torchvision_images.DATASETS[name]
    draw = np.random.default_rng(0)
    arrays = {
        part: (draw.integers(0, 256, (size, *info.shape), dtype=np.uint8), draw.integers(0, info.classes, size))
        for part, size in (("train", TRAIN), ("test", TEST))
    }
    if name in MNISTS:
        _write_idx(MNISTS[name], root, arrays, monkeypatch)
    elif name == "svhn":
        _write_mat(root, arrays, monkeypatch)
    else:
        _write_batches(name, root, arrays, monkeypatch)
    return Written(name, root, arrays)


def idx(array: np.ndarray) -> bytes:
    """An array as MNIST's files hold it."""
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def _write_idx(of: str, root: Path, arrays: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed as they are published; Fashion-MNIST's extracted too, which is what is read of it."""
    import torchvision.datasets

    raw = root / of / "raw"
    raw.mkdir(parents=True)
    resources, extracted = [], {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        x, y = arrays[part]
        for kind, array in (("images-idx3", x[:, 0]), ("labels-idx1", y.astype(np.uint8))):
            path = raw / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array), mtime=0))
            resources.append((path.name, digest.of_file(path, "md5")))
            if of == "FashionMNIST":
                path.with_suffix("").write_bytes(idx(array))
                extracted[path.stem] = digest.of_file(path.with_suffix(""))
    monkeypatch.setattr(getattr(torchvision.datasets, of), "resources", resources)
    if extracted:
        monkeypatch.setattr(published, "FASHION_MNIST_SHA256", extracted)


def _write_mat(root: Path, arrays: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    listed = {}
    for part, (x, y) in arrays.items():
        path = root / f"{part}_32x32.mat"
        # Height x width x channel x image, and 10 for the digit 0.
        savemat(path, {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]})
        listed[part] = [f"http://localhost/{path.name}", path.name, digest.of_file(path, "md5")]
    monkeypatch.setattr(SVHN, "split_list", listed)


def _write_batches(name: str, root: Path, arrays: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR's pickles, and the archive that they are published in."""
    import torchvision.datasets

    of = getattr(torchvision.datasets, name.upper())
    folder = root / of.base_folder
    folder.mkdir()
    key = "fine_labels" if name == "cifar100" else "labels"
    batches = of.train_list + of.test_list
    cuts = np.linspace(0, TRAIN, len(of.train_list) + 1).astype(int)
    pieces = [(arrays["train"][0][a:b], arrays["train"][1][a:b]) for a, b in pairwise(cuts)]
    for (file, _), (x, y) in zip(batches, [*pieces, arrays["test"]], strict=True):
        content = {"data": x.reshape(len(x), -1), key: y.tolist(), "coarse_labels": [0] * len(x)}
        (folder / file).write_bytes(pickle.dumps(content))
    meta = folder / of.meta["filename"]
    meta.write_bytes(pickle.dumps({of.meta["key"]: [str(i) for i in range(100)]}))
    sums = {path.name: digest.of_file(path, "md5") for path in folder.iterdir()}
    for listed in ("train_list", "test_list"):
        monkeypatch.setattr(of, listed, [[file, sums[file]] for file, _ in getattr(of, listed)])
    monkeypatch.setattr(of, "meta", of.meta | {"md5": sums[meta.name]})


def pack(written: Written, archive: Path) -> None:
    """Write the archive that CIFAR's files are published in."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(written.files[0].parent, written.files[0].parent.name)


def refused(results: Path, name: str = "spiral") -> str:
    """The one line that loading is refused with."""
    with pytest.raises(UserError) as error:
        prepared.load(name, results)
    assert "\n" not in str(error.value)
    return str(error.value)
