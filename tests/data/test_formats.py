"""Datasets in their original formats, read through torchvision from verified files."""

import gzip

import numpy as np
import pytest

from rdp import data
from rdp.data import published
from rdp.data.dataset import SPLITS
from rdp.data.sources import torchvision_images
from rdp.errors import UserError
from tests.helpers.sources import TRAIN, VALIDATION, Written, write

WHOLE = sorted(torchvision_images._CLASSES)


@pytest.fixture
def written(request, tmp_path, monkeypatch) -> Written:
    return write(request.param, tmp_path, monkeypatch)


def read(written: Written, name: str | None = None) -> dict[str, np.ndarray]:
    return torchvision_images.read(name or written.name, written.root, False)


def refusal(written: Written) -> str:
    with pytest.raises(UserError) as error:
        read(written)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("written", WHOLE, indirect=True)
def test_images_and_labels_are_read_once_each(written):
    arrays = read(written)
    assert arrays.keys() == {f"{split}_{part}" for split in SPLITS for part in "xy"}
    for key, array in arrays.items():
        assert array.dtype == (np.uint8 if key.endswith("x") else np.int64)
        assert array.flags.c_contiguous
    np.testing.assert_array_equal(arrays["test_x"], written.arrays["test"][0])
    np.testing.assert_array_equal(arrays["test_y"], written.arrays["test"][1])
    assert (len(arrays["train_y"]), len(arrays["validation_y"])) == (TRAIN - VALIDATION, VALIDATION)

    def pairs(x, y):
        return sorted((image.tobytes(), label) for image, label in zip(x, y.tolist(), strict=True))

    x, y = (np.concatenate([arrays[f"train_{part}"], arrays[f"validation_{part}"]]) for part in "xy")
    assert pairs(x, y) == pairs(*written.arrays["train"])


@pytest.mark.parametrize("written", WHOLE, indirect=True)
def test_intact_files_have_no_problems(written):
    assert torchvision_images.verify(written.name, written.root) == []


@pytest.mark.parametrize("written", WHOLE, indirect=True)
def test_missing_files_are_named_before_damaged_ones(written):
    first, *_, last = written.files
    first.write_bytes(first.read_bytes()[:-1])
    last.unlink()
    assert refusal(written).startswith(f"{last}: no such file")
    found = torchvision_images.verify(written.name, written.root)
    assert [line.partition(":")[0] for line in found] == [str(last), str(first)]
    assert all(f"rdp data fetch {written.name}" in line for line in found)


@pytest.mark.parametrize("written", ["svhn"], indirect=True)
def test_a_folder_in_place_of_a_file_is_refused(written):
    written.files[0].unlink()
    written.files[0].mkdir()
    assert refusal(written).startswith(f"{written.files[0]}: no such file")


@pytest.mark.parametrize("written", ["cifar10"], indirect=True)
def test_cifar_at_half_its_resolution_has_the_same_labels_in_the_same_splits(written):
    whole, half = read(written), read(written, "cifar10_16")
    for split in SPLITS:
        np.testing.assert_array_equal(half[f"{split}_y"], whole[f"{split}_y"])
        x = whole[f"{split}_x"].astype(float)
        means = sum(x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
        assert half[f"{split}_x"].shape[1:] == data.info("cifar10_16").shape
        assert np.abs(half[f"{split}_x"] - means).max() <= 0.5


@pytest.mark.parametrize("written", WHOLE, indirect=True)
def test_file_names_are_those_of_torchvision(written):
    assert set(published._checksums(torchvision_images._CLASSES[written.name], written.root)) == set(written.files)


@pytest.mark.parametrize("written", ["mnist"], indirect=True)
class TestMnist:
    """MNIST publishes checksums of the compressed files, and torchvision reads the extracted ones."""

    def test_compressed_files_are_verified_and_extracted(self, written):
        read(written)
        for path in written.files:
            assert path.with_suffix("").read_bytes() == gzip.decompress(path.read_bytes())

    def test_nothing_is_extracted_if_one_file_is_damaged(self, written):
        written.files[-1].write_bytes(b"")
        refusal(written)
        assert not any(path.with_suffix("").exists() for path in written.files)

    @pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: old + b"\0", lambda old: old[:-1] + b"\xff"])
    def test_an_extracted_file_that_differs_is_named(self, damage, written):
        read(written)
        path = written.files[1].with_suffix("")
        path.write_bytes(damage(path.read_bytes()))
        assert refusal(written) == f"{path}: damaged: differs from the content of {path.name}.gz; delete it"
        path.unlink()
        read(written)

    def test_a_folder_in_place_of_an_extracted_file_is_named(self, written):
        path = written.files[2].with_suffix("")
        path.mkdir()
        assert refusal(written).startswith(f"{path}: damaged")

    def test_an_extracted_file_without_its_archive_is_refused(self, written):
        read(written)
        written.files[0].unlink()
        assert refusal(written) == (
            f"{written.files[0]}: no such file; train-images-idx3-ubyte cannot be verified without it; "
            "mnist is needed: rdp data fetch mnist, with a network"
        )
