"""torchvision's datasets: verified before they are read, cut into fixed splits, and downsampled."""

import gzip
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rdp import data
from rdp.data import prepared
from rdp.data.dataset import SPLITS
from rdp.data.prepared import OFFLINE
from rdp.data.sources import torchvision_images
from rdp.errors import UserError
from rdp.utils import paths
from tests.helpers.sources import refused

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def rows(x: np.ndarray) -> list[bytes]:
    return [example.tobytes() for example in x]


@pytest.fixture(scope="module")
def fashion_files(tmp_path_factory):
    """A data directory with Fashion-MNIST from Debian's package."""
    if not DEBIAN.is_dir():
        pytest.skip(f"{DEBIAN} is absent (Debian package dataset-fashion-mnist)")
    root = tmp_path_factory.mktemp("fashion")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DEBIAN.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return root


@pytest.fixture
def damaged_fashion(fashion_files, tmp_path, monkeypatch):
    """A data directory with one of the four files replaced by ``content(old bytes)``; returns that file."""

    def make(name, content):
        raw = tmp_path / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for file in (fashion_files / "FashionMNIST" / "raw").iterdir():
            (raw / file.name).symlink_to(file)
        old = (raw / name).read_bytes()
        (raw / name).unlink()
        (raw / name).write_bytes(content(old))
        monkeypatch.setenv("RDP_DATA", str(tmp_path))
        monkeypatch.setenv(OFFLINE, "1")
        return raw / name

    return make


class TestFashionMnist:
    def test_prepared_images_equal_torchvisions(self, fashion_files, tmp_path, monkeypatch):
        from torchvision.datasets import FashionMNIST

        monkeypatch.setenv("RDP_DATA", str(fashion_files))
        monkeypatch.setenv(OFFLINE, "1")
        found = prepared.load("fashion_mnist", tmp_path)
        training, test = FashionMNIST(fashion_files, train=True), FashionMNIST(fashion_files, train=False)
        np.testing.assert_array_equal(found.arrays["test_x"][:, 0], test.data.numpy())
        np.testing.assert_array_equal(found.arrays["test_y"], test.targets.numpy())
        parts = [found.arrays[f"{split}_x"][:, 0] for split in ("train", "validation")]
        labels = np.concatenate([found.arrays["train_y"], found.arrays["validation_y"]])
        ours = sorted(zip(rows(np.concatenate(parts)), labels.tolist(), strict=True))
        assert ours == sorted(zip(rows(training.data.numpy()), training.targets.tolist(), strict=True))
        assert found.mean == pytest.approx(72.94, abs=0.1)  # the known mean, 0.286 of 255

    def test_at_half_its_resolution_it_has_the_same_labels_in_the_same_splits(
        self, fashion_files, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("RDP_DATA", str(fashion_files))
        monkeypatch.setenv(OFFLINE, "1")
        full, half = (prepared.load(name, tmp_path) for name in ("fashion_mnist", "fashion_mnist_14"))
        for split in SPLITS:
            np.testing.assert_array_equal(half.arrays[f"{split}_y"], full.arrays[f"{split}_y"])
            x = full.arrays[f"{split}_x"].astype(float)
            corners = [x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
            found = half.arrays[f"{split}_x"]
            assert found.shape == (data.info("fashion_mnist_14").sizes[split], 1, 14, 14)
            assert found.dtype == np.uint8
            assert np.abs(found - sum(corners) / 4).max() <= 0.5
        assert half.digest != full.digest
        assert half.mean == pytest.approx(full.mean, abs=0.1)
        assert half.std[0] < full.std[0]  # neighbours differ, so their means vary less

    def test_compressed_files_downloaded_by_hand_suffice(self, tmp_path, monkeypatch):
        """Compressed again, as in Debian's package, so that the archives' checksums differ from the published ones."""
        if not DEBIAN.is_dir():
            pytest.skip(f"{DEBIAN} is absent (Debian package dataset-fashion-mnist)")
        raw = tmp_path / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for file in DEBIAN.glob("*.gz"):
            shutil.copy(file, raw)
        monkeypatch.setenv(OFFLINE, "1")
        torchvision_images.fetch("fashion_mnist", tmp_path)
        assert torchvision_images.verify("fashion_mnist", tmp_path) == []

    def test_splits_are_fixed(self, fashion_files, tmp_path, monkeypatch):
        monkeypatch.setenv("RDP_DATA", str(fashion_files))
        monkeypatch.setenv(OFFLINE, "1")
        found = prepared.load("fashion_mnist_14", tmp_path).digest
        assert found == "bb2aafb043c8213f0c4a60b6772560642ed088562db71a9ecee2b12f15a9e138"

    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("train-images-idx3-ubyte", lambda old: old[:-1]),
            ("train-images-idx3-ubyte", lambda old: b""),
            ("t10k-labels-idx1-ubyte", lambda old: old[:500] + bytes([old[500] ^ 1]) + old[501:]),
            ("t10k-images-idx3-ubyte", lambda old: old + b"\0"),
        ],
        ids=["truncated", "empty", "altered", "longer"],
    )
    def test_a_damaged_file_is_named_in_one_line(self, name, damage, damaged_fashion, tmp_path):
        file = damaged_fashion(name, damage)
        message = refused(tmp_path / "results", "fashion_mnist")
        assert str(file) in message
        assert "rdp data fetch fashion_mnist" in message
        assert not (tmp_path / "results").exists()


class TestAveraging:
    def images(self, pixels: list[list[int]], targets: list[int]) -> SimpleNamespace:
        """A data set as torchvision holds it, of 4 x 4 grey images."""
        return SimpleNamespace(data=np.uint8(pixels).reshape(-1, 4, 4), targets=targets)

    def test_squares_of_2_by_2_pixels_become_their_mean(self):
        image = [0, 4, 8, 8, 8, 4, 8, 8, 255, 255, 1, 2, 255, 255, 3, 6]
        x, y = torchvision_images._arrays(self.images([image, image[::-1]], [7, 3]), 2)
        assert x.tolist() == [[[[4, 8], [255, 3]]], [[[3, 255], [8, 4]]]]
        assert (x.dtype, y.dtype, y.tolist()) == (np.uint8, np.int64, [7, 3])
        assert x.flags.c_contiguous

    def test_halves_are_rounded_to_even_to_preserve_brightness(self):
        sums = [2, 6, 10, 14]  # means 0.5, 1.5, 2.5, 3.5
        squares = np.array([[[s, 0], [0, 0]] for s in sums]).reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(16)
        x, _ = torchvision_images._arrays(self.images([squares.tolist()], [0]), 2)
        assert x.ravel().tolist() == [0, 2, 2, 4]

    def test_factor_1_changes_no_pixel(self):
        image = list(range(16))
        x, _ = torchvision_images._arrays(self.images([image], [0]), 1)
        assert x.shape == (1, 1, 4, 4)
        assert x.ravel().tolist() == image


@pytest.mark.parametrize("name", sorted(torchvision_images.DATASETS))
def test_missing_files_are_named_if_downloads_are_forbidden(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RDP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(OFFLINE, "1")
    message = refused(tmp_path / "results", name)
    assert str(tmp_path / "data") in message
    assert f"rdp data fetch {name}" in message
    assert not (tmp_path / "results").exists()


class Marker:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


CIFAR_FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


class TestCifar10:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("cifar10", "5b1ab3db7e0b1795ef8760cd3770825b0093a7591db1b8c1fce12cdb7a807da9"),
            ("cifar10_16", "61e4ef24c9f55bf8c03dc60933ba765e5721cff3191016379161e724efe8b6e9"),
        ],
    )
    def test_the_splits_of_the_real_images_are_fixed(self, name, digest, tmp_path, monkeypatch):
        if not all(path.exists() for path in torchvision_images.files(name, paths.datasets())):
            pytest.skip(f"CIFAR-10 is not in RDP_DATA ({paths.datasets()})")
        monkeypatch.setenv(OFFLINE, "1")
        assert prepared.load(name, tmp_path).digest == digest

    def test_a_file_with_wrong_bytes_is_never_unpickled(self, tmp_path, monkeypatch):
        folder, trace = tmp_path / "cifar-10-batches-py", tmp_path / "unpickled"
        folder.mkdir()
        for file in CIFAR_FILES:
            (folder / file).write_bytes(pickle.dumps(Marker(trace)))
        monkeypatch.setenv("RDP_DATA", str(tmp_path))
        monkeypatch.setenv(OFFLINE, "1")
        message = refused(tmp_path / "results", "cifar10")
        assert str(folder / CIFAR_FILES[0]) in message
        assert "md5" in message
        assert not trace.exists()
        pickle.loads((folder / CIFAR_FILES[0]).read_bytes())
        assert trace.exists()  # so the test would have seen it

    @pytest.mark.parametrize("missing", CIFAR_FILES)
    def test_every_file_that_torchvision_reads_is_required(self, missing, tmp_path):
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        for file in set(CIFAR_FILES) - {missing}:
            (folder / file).write_bytes(b"")
        with pytest.raises(UserError) as error:
            torchvision_images.read("cifar10", tmp_path, False)
        assert str(folder / missing) in str(error.value)

    def test_intact_files_become_channels_first_images_in_disjoint_splits(self, tmp_path, monkeypatch):
        """CIFAR-10's format with invented pixels, with its published checksums replaced by those of the files."""
        from torchvision.datasets import CIFAR10

        from rdp.utils import digest

        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (6, 10_000, 3072), dtype=np.uint8)
        labels = np.random.default_rng(1).integers(0, 10, (6, 10_000))
        for i, name in enumerate(CIFAR_FILES[:6]):
            content = {"data": pixels[i], "labels": labels[i].tolist()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=4))
        meta = {"label_names": [str(i) for i in range(10)]}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta))
        sums = {name: digest.of_file(folder / name, "md5") for name in CIFAR_FILES}
        monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in CIFAR_FILES[:5]])
        monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
        monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
        arrays = torchvision_images.read("cifar10", tmp_path, False)
        # The files hold one channel's 32 x 32 pixels after the other.
        np.testing.assert_array_equal(arrays["test_x"], pixels[5].reshape(-1, 3, 32, 32))
        np.testing.assert_array_equal(arrays["test_y"], labels[5])
        assert (len(arrays["train_x"]), len(arrays["validation_x"])) == (45_000, 5_000)
        found = np.concatenate([arrays["train_x"], arrays["validation_x"]]).reshape(50_000, -1)
        ours = sorted(rows(found[:, :64]))
        assert ours == sorted(rows(pixels[:5, :, :64].reshape(50_000, -1)))
