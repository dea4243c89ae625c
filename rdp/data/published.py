"""The files of torchvision's datasets: names, published checksums and addresses.

Datasets have the names of torchvision's classes here. Checksums and addresses come from torchvision. File names are
repeated, because importing torchvision takes seconds.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdp.data.download import Remote, download, unpack, unpacks_to
from rdp.utils import digest

_IDX = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
_CIFAR10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]

# Paths in the data directory. MNIST is read from the extracted files, and verified by these.
FILES = {
    "CIFAR10": [f"cifar-10-batches-py/{name}" for name in _CIFAR10],
    "CIFAR100": [f"cifar-100-python/{name}" for name in ("train", "test", "meta")],
    "FashionMNIST": [f"FashionMNIST/raw/{name}" for name in _IDX],
    "MNIST": [f"MNIST/raw/{name}.gz" for name in _IDX],
    "SVHN": ["train_32x32.mat", "test_32x32.mat"],
}

# Fashion-MNIST's published checksums are of the compressed files, which torchvision verifies only after a download.
# These are of the uncompressed files that it reads, taken from Debian's package of the dataset.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def paths(of: str, root: Path) -> list[Path]:
    """The files of a dataset in the data directory, existing or not."""
    return [root / file for file in FILES[of]]


def problems(name: str, of: str, root: Path) -> Iterator[str]:
    """One line per file of torchvision's class ``of`` that is missing or differs from its checksum. Decodes nothing."""
    command = f"rdp data fetch {name}"
    if (processed := root / of / "processed").exists():
        yield f"{processed}: torchvision reads this instead of files with a known checksum; delete it"
    # Missing files first: one command downloads all of them.
    for path, expected in sorted(_checksums(of, root).items(), key=lambda item: item[0].is_file()):
        extracted = path.with_suffix("") if path.suffix == ".gz" else None
        if not path.is_file():
            note = f"; {extracted.name} cannot be verified without it" if extracted and extracted.exists() else ""
            yield f"{path}: no such file{note}; {name} is needed: {command}, with a network"
        elif difference := _difference(path, *expected):
            yield f"{path}: damaged or not {name}'s file: {difference}; delete it and run: {command}"
        elif extracted and extracted.exists() and not (extracted.is_file() and unpacks_to(path, extracted)):
            yield f"{extracted}: damaged: differs from the content of {path.name}; delete it"


def extract(of: str, root: Path) -> None:
    """Unpack the verified files that torchvision reads unpacked."""
    for path in paths(of, root):
        if path.suffix == ".gz" and not path.with_suffix("").exists():
            unpack(path, {path.with_suffix(""): ""}, lambda part, path: None)


def fetch(name: str, of: str, root: Path) -> None:
    """Download and unpack the missing files of a dataset. Archives downloaded by hand are unpacked and kept.

    Raises `UserError` if the network is unreachable, an archive is damaged, or the disk is full.
    """
    expected = _checksums(of, root)
    needed = [
        remote for remote in _remotes(of, root) if any(not path.is_file() for path in remote.members or [remote.path])
    ]
    new = [remote for remote in needed if not remote.path.is_file()]
    download(name, new)
    for remote in needed:
        missing = {path: member for path, member in remote.members.items() if not path.is_file()}
        unpack(remote.path, missing, lambda part, path: _difference(part, *expected[path]))
        if missing and remote in new:
            remote.path.unlink()


def _difference(path: Path, algorithm: str, published: str) -> str | None:
    """How a file's checksum differs from the published one; None if they are equal."""
    try:
        checksum = digest.of_file(path, algorithm)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if checksum == published else f"{algorithm} {checksum}, published {published}"


def _class(of: str) -> Any:
    """torchvision's class of this name."""
    import torchvision.datasets

    return getattr(torchvision.datasets, of)


def _checksums(of: str, root: Path) -> dict[Path, tuple[str, str]]:
    """Algorithm and published value of the checksum of each file."""
    if of == "FashionMNIST":
        return {root / of / "raw" / file: ("sha256", sha256) for file, sha256 in FASHION_MNIST_SHA256.items()}
    dataset = _class(of)
    if of == "MNIST":
        entries, folder = dataset.resources, root / of / "raw"
    elif of == "SVHN":
        entries, folder = [dataset.split_list[split][1:] for split in ("train", "test")], root
    else:
        entries = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        folder = root / dataset.base_folder
    return {folder / file: ("md5", md5) for file, md5 in entries}


def _remotes(of: str, root: Path) -> Iterator[Remote]:
    """The downloads of a dataset."""
    dataset = _class(of)
    if of == "SVHN":
        for url, file, md5 in (dataset.split_list[split] for split in ("train", "test")):
            yield Remote(root / file, [url], md5, {})
    elif of.endswith("MNIST"):
        for file, md5 in dataset.resources:
            path = root / of / "raw" / file
            members = {} if of == "MNIST" else {path.with_suffix(""): ""}
            yield Remote(path, [f"{mirror}{file}" for mirror in dataset.mirrors], md5, members)
    else:
        members = {path: f"{dataset.base_folder}/{path.name}" for path in paths(of, root)}
        yield Remote(root / dataset.filename, [dataset.url], dataset.tgz_md5, members)
