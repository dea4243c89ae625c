"""Fashion-MNIST (also at half its resolution) and CIFAR-10, read by torchvision's own classes from files whose
checksums were verified."""

import re
from pathlib import Path

import numpy as np

from rdp import digest, rng
from rdp.data.info import DatasetInfo
from rdp.errors import UserError

_VALIDATION = 5000  # images of the published training set set aside for validation

DATASETS = {
    "fashion_mnist": DatasetInfo(
        kind="image",
        shape=(1, 28, 28),
        classes=10,
        sizes={"train": 55000, "validation": _VALIDATION, "test": 10000},
        origin="Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747)",
        licence="MIT",
    ),
    "fashion_mnist_14": DatasetInfo(
        kind="image",
        shape=(1, 14, 14),
        classes=10,
        sizes={"train": 55000, "validation": _VALIDATION, "test": 10000},
        origin="Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747), each 2x2 pixels averaged",
        licence="MIT",
    ),
    "cifar10": DatasetInfo(
        kind="image",
        shape=(3, 32, 32),
        classes=10,
        sizes={"train": 45000, "validation": _VALIDATION, "test": 10000},
        origin="CIFAR-10 (A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)",
        licence="none stated by its authors",
    ),
    "cifar10_16": DatasetInfo(
        kind="image",
        shape=(3, 16, 16),
        classes=10,
        sizes={"train": 45000, "validation": _VALIDATION, "test": 10000},
        origin="CIFAR-10 (A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009), each 2x2 pixels "
        "averaged",
        licence="none stated by its authors",
    ),
}

_CLASSES = {
    "fashion_mnist": "FashionMNIST",
    "fashion_mnist_14": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar10_16": "CIFAR10",
}
_AVERAGED = {"fashion_mnist_14": 2, "cifar10_16": 2}  # pixels a side that are averaged into one

# Fashion-MNIST's published checksums are of the compressed files, which torchvision checks when it downloads
# and never again. These are of the uncompressed files it reads, taken from Debian's package of the dataset.
_FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """The published test set as test, and the published training set cut into train and validation.

    Raises:
        UserError: files that are absent, or whose checksum is not the published one.
    """
    import torchvision.datasets

    make = getattr(torchvision.datasets, _CLASSES[name])
    _verify(name, make, root, download)
    training, test = make(root, train=True), make(root, train=False)
    train_x, train_y = _arrays(training, _AVERAGED.get(name, 1))
    test_x, test_y = _arrays(test, _AVERAGED.get(name, 1))
    # One split for all resolutions of a dataset.
    order = rng.generator(0, f"split/{re.sub(r'_[0-9]+$', '', name)}").permutation(len(train_y))
    train, validation = order[:-_VALIDATION], order[-_VALIDATION:]
    return {
        "train_x": train_x[train],
        "train_y": train_y[train],
        "validation_x": train_x[validation],
        "validation_y": train_y[validation],
        "test_x": test_x,
        "test_y": test_y,
    }


def _verify(name: str, make: type, root: Path, download: bool) -> None:
    """Check every file before a byte of it is decoded; fetch what is absent where that is allowed."""
    files = _published(name, make, root)
    if (processed := root / _CLASSES[name] / "processed").exists():
        raise UserError(f"{processed}: torchvision reads this in place of files whose checksum is known; delete it")
    absent = [path for path in files if not path.is_file()]
    if absent and download:
        try:
            make(root, download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{root}: {name} is absent and could not be downloaded ({reason})") from None
        absent = [path for path in files if not path.is_file()]
    if absent:
        raise UserError(f"{absent[0]}: no such file; {name} is needed: rdp data prepare {name}, with a network")
    for path, (algorithm, expected) in files.items():
        found = digest.of_file(path, algorithm)
        if found != expected:
            raise UserError(
                f"{path}: damaged or not {name}'s file: {algorithm} {found}, published {expected}; "
                f"delete it and run: rdp data prepare {name}"
            )


def _published(name: str, make: type, root: Path) -> dict[Path, tuple[str, str]]:
    """The files that torchvision reads, with algorithm and value of their checksums."""
    if _CLASSES[name] == "FashionMNIST":
        raw = root / "FashionMNIST" / "raw"
        return {raw / file: ("sha256", sha256) for file, sha256 in _FASHION_MNIST_SHA256.items()}
    listed = [*make.train_list, *make.test_list, [make.meta["filename"], make.meta["md5"]]]
    return {root / make.base_folder / file: ("md5", md5) for file, md5 in listed}


def _arrays(dataset: object, averaged: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images of shape (n, channels, height, width), and int64 labels.

    Where ``averaged`` is above 1, squares of so many pixels a side become their mean, rounded to even at halves.
    """
    images = np.asarray(dataset.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    if averaged > 1:
        n, channels, height, width = images.shape
        squares = images.reshape(n, channels, height // averaged, averaged, width // averaged, averaged)
        images = np.rint(squares.mean((3, 5), dtype=np.float32)).astype(np.uint8)
    return np.ascontiguousarray(images), np.asarray(dataset.targets, dtype=np.int64)
