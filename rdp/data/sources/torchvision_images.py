"""MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100 and SVHN, read by torchvision's classes from verified files.

Fashion-MNIST and CIFAR-10 are also available at half their resolution.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rdp.data import published
from rdp.data.dataset import DatasetInfo
from rdp.errors import UserError
from rdp.utils import rng

_VALIDATION = 5000  # images of the published training set held out for validation

_MNIST = DatasetInfo(
    kind="image",
    shape=(1, 28, 28),
    classes=10,
    sizes={"train": 55000, "validation": _VALIDATION, "test": 10000},
    origin="MNIST (Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document "
    "Recognition, Proc. IEEE 86, 1998)",
    licence="commonly stated as CC BY-SA 3.0, copyright Y. LeCun and C. Cortes",
    download_bytes=11_594_722,
)
_FASHION_MNIST = replace(
    _MNIST,
    origin="Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747)",
    licence="MIT",
    download_bytes=30_878_645,
)
_CIFAR10 = replace(
    _MNIST,
    shape=(3, 32, 32),
    sizes={"train": 45000, "validation": _VALIDATION, "test": 10000},
    origin="CIFAR-10 (A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009)",
    licence="none stated by its authors",
    download_bytes=170_498_071,
)
_AVERAGED = ", each 2x2 pixels averaged"

DATASETS = {
    "mnist": _MNIST,
    "fashion_mnist": _FASHION_MNIST,
    "fashion_mnist_14": replace(_FASHION_MNIST, shape=(1, 14, 14), origin=_FASHION_MNIST.origin + _AVERAGED),
    "cifar10": _CIFAR10,
    "cifar10_16": replace(_CIFAR10, shape=(3, 16, 16), origin=_CIFAR10.origin + _AVERAGED),
    "cifar100": replace(
        _CIFAR10, classes=100, origin=_CIFAR10.origin.replace("CIFAR-10", "CIFAR-100"), download_bytes=169_001_437
    ),
    "svhn": replace(
        _CIFAR10,
        sizes={"train": 68257, "validation": _VALIDATION, "test": 26032},  # its `extra` images are not used
        origin="Street View House Numbers, cropped digits (Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, "
        "A. Y. Ng, Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS workshop, 2011)",
        licence="for non-commercial use only",
        download_bytes=246_315_178,
    ),
}

_HALVES = {"fashion_mnist_14": "fashion_mnist", "cifar10_16": "cifar10"}
# The names of torchvision's classes.
_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
_CLASSES["svhn"] = "SVHN"


def files(name: str, root: Path) -> list[Path]:
    """The files of a dataset, existing or not."""
    return published.paths(_CLASSES[_whole(name)], root)


def verify(name: str, root: Path) -> list[str]:
    """One line per missing or damaged file."""
    return list(published.problems(name, _CLASSES[_whole(name)], root))


def fetch(name: str, root: Path) -> None:
    """Download the missing files; raises `UserError` if the network is unreachable."""
    published.fetch(name, _CLASSES[_whole(name)], root)


def read(name: str, root: Path, download: bool) -> dict[str, np.ndarray]:
    """The published test set, and the published training set cut into train and validation.

    Raises `UserError` for a file that is missing, or differs from its published checksum.
    """
    if download:
        fetch(name, root)
    of = _CLASSES[_whole(name)]
    for problem in published.problems(name, of, root):
        raise UserError(problem)
    published.extract(of, root)
    factor = 2 if name in _HALVES else 1
    train_x, train_y = _arrays(_part(of, root, "train"), factor)
    test_x, test_y = _arrays(_part(of, root, "test"), factor)
    # All resolutions of a dataset share one split.
    order = rng.generator(0, f"split/{_whole(name)}").permutation(len(train_y))
    train, validation = order[:-_VALIDATION], order[-_VALIDATION:]
    return {
        "train_x": train_x[train],
        "train_y": train_y[train],
        "validation_x": train_x[validation],
        "validation_y": train_y[validation],
        "test_x": test_x,
        "test_y": test_y,
    }


def _whole(name: str) -> str:
    """The name of the dataset at full resolution."""
    return _HALVES.get(name, name)


def _part(of: str, root: Path, part: str) -> Any:
    """torchvision's object of the published training or test set."""
    import torchvision.datasets

    make = getattr(torchvision.datasets, of)
    return make(root, split=part) if of == "SVHN" else make(root, train=part == "train")


def _arrays(dataset: Any, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 of shape (n, channels, height, width), and int64 labels.

    A ``factor`` above 1 downsamples: squares of factor x factor pixels become their mean, with halves rounded to even.
    """
    images = np.asarray(dataset.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:  # CIFAR; SVHN has the channels first
        images = images.transpose(0, 3, 1, 2)
    if factor > 1:
        n, channels, height, width = images.shape
        squares = images.reshape(n, channels, height // factor, factor, width // factor, factor)
        images = np.rint(squares.mean((3, 5), dtype=np.float32)).astype(np.uint8)
    labels = dataset.labels if hasattr(dataset, "labels") else dataset.targets
    return np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)
