"""What torchvision's datasets are read from: the files, their published checksums, and where to get them.

Datasets go by the names of torchvision's classes here. Those know checksums and addresses; the names of the files
are repeated, because torchvision takes seconds to load.
"""

from collections.abc import Iterator
from pathlib import Path

from rdp.data.download import Remote, download, same, unpack
from rdp.utils import digest

_IDX = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
_CIFAR10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]

# What is read, below the data directory. MNIST is read from the extracted files, and verified by these.
FILES = {
    "CIFAR10": [f"cifar-10-batches-py/{name}" for name in _CIFAR10],
    "CIFAR100": [f"cifar-100-python/{name}" for name in ("train", "test", "meta")],
    "FashionMNIST": [f"FashionMNIST/raw/{name}" for name in _IDX],
    "MNIST": [f"MNIST/raw/{name}.gz" for name in _IDX],
    "SVHN": ["train_32x32.mat", "test_32x32.mat"],
}

# Fashion-MNIST's published checksums are of the compressed files, which torchvision checks when it downloads
# and never again. These are of the uncompressed files it reads, taken from Debian's package of the dataset.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def paths(of: str, root: Path) -> list[Path]:
    """The files of a dataset that must be in the data directory, there or not."""
    return [root / file for file in FILES[of]]


def problems(name: str, of: str, root: Path) -> Iterator[str]:
    """Hold every file against its published checksum, decoding none: one line for each that is absent or damaged.

    Args:
        name: the dataset's name, for the command that gets it.
        of: torchvision's class.
        root: the data directory.
    """
    mend = f"rdp data fetch {name}"
    if (processed := root / of / "processed").exists():
        yield f"{processed}: torchvision reads this in place of files whose checksum is known; delete it"
    # What is absent comes first: one command gets all of it.
    for path, expected in sorted(_checksums(of, root).items(), key=lambda item: item[0].is_file()):
        extracted = path.with_suffix("") if path.suffix == ".gz" else None
        if not path.is_file():
            alone = f"; {extracted.name} cannot be verified without it" if extracted and extracted.exists() else ""
            yield f"{path}: no such file{alone}; {name} is needed: {mend}, with a network"
        elif wrong := _wrong(path, *expected):
            yield f"{path}: damaged or not {name}'s file: {wrong}; delete it and run: {mend}"
        elif extracted and extracted.exists() and not (extracted.is_file() and same(path, extracted)):
            yield f"{extracted}: damaged: not what {path.name} holds; delete it"


def extract(of: str, root: Path) -> None:
    """Unpack those of a dataset's files, verified before, that torchvision reads unpacked."""
    for path in paths(of, root):
        if path.suffix == ".gz" and not path.with_suffix("").exists():
            unpack(path, {path.with_suffix(""): ""}, lambda part, path: None)


def fetch(name: str, of: str, root: Path) -> None:
    """Download those files that are absent, each verified before it takes its name.

    What was downloaded by hand is unpacked, and nothing is downloaded where all is there.

    Raises:
        UserError: no network, a damaged file in the way, or a full disk; see `rdp.data.download`.
    """
    expected = _checksums(of, root)
    needed = [
        remote for remote in _remotes(of, root) if any(not path.is_file() for path in remote.gives or [remote.path])
    ]
    new = [remote for remote in needed if not remote.path.is_file()]
    download(name, new)
    for remote in needed:
        absent = {path: member for path, member in remote.gives.items() if not path.is_file()}
        unpack(remote.path, absent, lambda part, path: _wrong(part, *expected[path]))
        if absent and remote in new:
            remote.path.unlink()


def _wrong(path: Path, algorithm: str, published: str) -> str | None:
    """How a file differs from the published one; None where it does not."""
    try:
        found = digest.of_file(path, algorithm)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == published else f"{algorithm} {found}, published {published}"


def _class(of: str) -> type:
    import torchvision.datasets

    return getattr(torchvision.datasets, of)


def _checksums(of: str, root: Path) -> dict[Path, tuple[str, str]]:
    """The files, with algorithm and value of their checksums."""
    if of == "FashionMNIST":
        return {root / of / "raw" / file: ("sha256", sha256) for file, sha256 in FASHION_MNIST_SHA256.items()}
    made = _class(of)
    if of == "MNIST":
        listed, folder = made.resources, root / of / "raw"
    elif of == "SVHN":
        listed, folder = [made.split_list[split][1:] for split in ("train", "test")], root
    else:
        listed = [*made.train_list, *made.test_list, (made.meta["filename"], made.meta["md5"])]
        folder = root / made.base_folder
    return {folder / file: ("md5", md5) for file, md5 in listed}


def _remotes(of: str, root: Path) -> Iterator[Remote]:
    made = _class(of)
    if of == "SVHN":
        for url, file, md5 in (made.split_list[split] for split in ("train", "test")):
            yield Remote(root / file, [url], md5, {})
    elif of.endswith("MNIST"):
        for file, md5 in made.resources:
            path = root / of / "raw" / file
            gives = {} if of == "MNIST" else {path.with_suffix(""): ""}
            yield Remote(path, [f"{mirror}{file}" for mirror in made.mirrors], md5, gives)
    else:
        gives = {path: f"{made.base_folder}/{path.name}" for path in paths(of, root)}
        yield Remote(root / made.filename, [made.url], made.tgz_md5, gives)
