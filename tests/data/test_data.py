"""Datasets as their files say they are, mini-batches as pure functions of the step, damage named.

Those that torchvision reads are in test_data_images.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rdp import data
from rdp.data import prepared
from rdp.data.batches import TrainingBatches
from rdp.data.dataset import SPLITS, DatasetInfo
from rdp.data.prepared import Prepared
from rdp.data.sources import textures
from rdp.errors import UserError
from rdp.spec import Recipe
from rdp.utils import rng
from tests.helpers.sources import refused

BUNDLED = ["digits", "spiral", "textures"]
CPU = torch.device("cpu")


def rows(x: np.ndarray) -> list[bytes]:
    return [example.tobytes() for example in x]


class TestSources:
    @pytest.mark.parametrize("name", BUNDLED)
    def test_arrays_have_the_declared_sizes_shapes_and_types(self, name, dataset):
        found, info = dataset(name), data.info(name)
        assert found.arrays.keys() == {f"{split}_{part}" for split in SPLITS for part in "xy"}
        for split, size in info.sizes.items():
            x, y = found.arrays[f"{split}_x"], found.arrays[f"{split}_y"]
            assert x.shape == (size, *info.shape)
            assert x.dtype == (np.uint8 if info.kind == "image" else np.float32)
            assert (y.shape, y.dtype) == ((size,), np.int64)
            assert set(y.tolist()) == set(range(info.classes))

    @pytest.mark.parametrize(
        ("name", "digest"),
        [
            ("digits", "a5806f3838c0fbc6d62042afdd2a31e91a068db007ab6b0b504e03e148627044"),
            ("spiral", "ba9cbaae23e23a36dbd67e43f5b776a0323cbf0016e2775554512a2b03c490fd"),
        ],
    )
    def test_splits_are_fixed(self, name, digest, dataset):
        assert dataset(name).digest == digest

    def test_the_most_likely_texture_is_right_in_966_of_1000_images(self):
        power = textures.power()
        generator = rng.generator(1, "textures")
        labels = np.repeat(np.arange(8), 3000)
        noise = np.fft.fft2(generator.standard_normal((len(labels), textures.SIDE, textures.SIDE)))
        observed = np.abs(noise) ** 2 * power[labels] / textures.SIDE**2
        likelihoods = np.stack([-(np.log(p) + observed / p).sum((1, 2)) for p in power], axis=1)
        # The standard error is 0.0013.
        assert (likelihoods.argmax(1) == labels).mean() == pytest.approx(0.966, abs=0.004)

    def test_textures_have_the_power_spectrum_of_their_class(self, dataset):
        arrays = dataset("textures").arrays
        x = (arrays["test_x"][:, 0].astype(float) - 128) / 40
        observed = np.abs(np.fft.fft2(x)) ** 2 / textures.SIDE**2
        for label, power in enumerate(textures.power()):
            mean = observed[arrays["test_y"] == label].mean(0)
            assert np.corrcoef(mean.ravel(), power.ravel())[0, 1] > 0.95
        assert observed.mean() == pytest.approx(1, abs=0.05)

    def test_digits_splits_contain_each_image_of_scikit_learn_once(self, dataset):
        from sklearn.datasets import load_digits

        bunch, arrays = load_digits(), dataset("digits").arrays
        images = np.concatenate([arrays[f"{split}_x"][:, 0] for split in SPLITS])
        labels = np.concatenate([arrays[f"{split}_y"] for split in SPLITS])
        ours = sorted(zip(rows(images), labels.tolist(), strict=True))
        theirs = sorted(zip(rows(bunch.images.astype(np.uint8)), bunch.target.tolist(), strict=True))
        assert ours == theirs
        assert len(set(rows(images))) == len(images)  # no image twice, so the splits are disjoint

    def test_digits_classes_are_balanced_in_every_split(self, dataset):
        for split, size in data.info("digits").sizes.items():
            shares = np.bincount(dataset("digits").arrays[f"{split}_y"]) / size
            assert np.abs(shares - 0.1).max() < 0.04

    def test_spiral_splits_are_disjoint_and_balanced(self, dataset):
        arrays = dataset("spiral").arrays
        points = np.concatenate([arrays[f"{split}_x"] for split in SPLITS])
        assert len(set(rows(points))) == len(points)
        for split, size in data.info("spiral").sizes.items():
            assert abs(arrays[f"{split}_y"].mean() - 0.5) < 2.5 / size**0.5

    def test_spiral_arms_are_half_a_turn_apart(self, dataset):
        x, y = dataset("spiral").arrays["test_x"].astype(float), dataset("spiral").arrays["test_y"]
        radius = np.hypot(*x.T)
        turned = np.arctan2(x[:, 0], x[:, 1]) - 2 * np.pi * 1.75 * radius
        clear = radius > 0.3  # nearer the middle the noise is as wide as the gap between the arms
        for arm in (0, 1):
            mean = np.exp(1j * turned[clear & (y == arm)]).mean()
            assert abs(np.angle(mean * np.exp(-1j * np.pi * arm))) < 0.1

    def test_an_unknown_dataset_suggests_the_closest_name(self):
        with pytest.raises(UserError, match="unknown dataset 'cifar-10'; did you mean 'cifar10'"):
            data.info("cifar-10")

    def test_moments_are_those_of_the_training_split(self, dataset):
        for name, axes in (("digits", (0, 2, 3)), ("spiral", 0)):
            train = dataset(name).arrays["train_x"].astype(np.float64)
            np.testing.assert_allclose(dataset(name).mean, train.mean(axes), rtol=1e-6)
            np.testing.assert_allclose(dataset(name).std, train.std(axes), rtol=1e-6)


def tiny_images(count: int = 10, channels: int = 1, size: int = 4) -> Prepared:
    """Images in which no two pixels of a channel are equal, none is 0, and the label is the image's number."""
    pixels = 1 + np.arange(count * size * size, dtype=np.uint8).reshape(count, 1, size, size)
    x = np.concatenate([pixels + channel * 40 for channel in range(channels)], axis=1)
    info = DatasetInfo("image", (channels, size, size), count, dict.fromkeys(SPLITS, count), "", "")
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    return Prepared("tiny", info, {"train_x": x, "train_y": np.arange(count)}, zeros, ones, "")


def batches_of(source: Prepared, seed: int = 0, **recipe) -> TrainingBatches:
    return TrainingBatches(source, Recipe(**recipe), seed, CPU)


def _centres(seed: int, step: int, batch_size: int, side: int) -> list[list[int]]:
    """Rows and columns of the centres of Cutout's squares in square images."""
    return rng.generator(seed, "cutout", step).integers(side, size=(2, batch_size)).tolist()


class TestBatches:
    @pytest.mark.parametrize(
        ("name", "recipe"),
        [
            ("spiral", {"batch_size": 60}),
            ("digits", {"batch_size": 100}),
            ("digits", {"batch_size": 100, "crop_padding": 1, "flip": True}),
            ("digits", {"batch_size": 100, "flip": "alternating", "cutout": 3}),
        ],
    )
    def test_a_batch_does_not_depend_on_earlier_batches(self, name, recipe, dataset):
        undisturbed = batches_of(dataset(name), **recipe)
        in_order = [undisturbed.batch(step) for step in range(3 * undisturbed.steps_per_epoch)]
        jumping = batches_of(dataset(name), **recipe)
        for step in (17, 0, 20, 19, 5, 5, 12):
            alone = batches_of(dataset(name), **recipe).batch(step)
            for found in (jumping.batch(step), alone):
                assert torch.equal(found[0], in_order[step][0])
                assert torch.equal(found[1], in_order[step][1])

    def test_each_epoch_is_a_new_permutation_of_the_training_set(self):
        batches = batches_of(tiny_images(), batch_size=2)
        epochs = [tuple(torch.cat([batches.batch(5 * e + i)[1] for i in range(5)]).tolist()) for e in range(20)]
        assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
        assert len(set(epochs)) == 20

    def test_an_incomplete_last_batch_is_skipped(self):
        batches = batches_of(tiny_images(), batch_size=4)
        assert batches.steps_per_epoch == 2
        labels = torch.cat([batches.batch(step)[1] for step in range(2)])
        assert len(set(labels.tolist())) == 8

    def test_order_depends_on_the_seed_and_not_on_augmentation(self, dataset):
        plain, other, augmented = (
            batches_of(dataset("digits"), seed, batch_size=64, **options).batch(3)[1]
            for seed, options in ((0, {}), (1, {}), (0, {"crop_padding": 2, "flip": True, "cutout": 2}))
        )
        assert torch.equal(plain, augmented)
        assert not torch.equal(plain, other)

    def test_train_size_selects_the_first_examples(self):
        batches = batches_of(tiny_images(), batch_size=2, train_size=6)
        labels = torch.cat([batches.batch(step)[1] for step in range(3)])
        assert sorted(labels.tolist()) == list(range(6))

    def test_a_batch_larger_than_the_training_set_is_refused(self):
        with pytest.raises(ValueError, match="batch_size 11 is more than the 10"):
            batches_of(tiny_images(), batch_size=11)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
    def test_augmented_images_are_crops_of_their_padded_originals(self, channels, padding, flip):
        source = tiny_images(channels=channels)
        batches = batches_of(source, batch_size=5, crop_padding=padding, flip=flip)
        space = ((0, 0), (padding, padding), (padding, padding))
        padded = [np.pad(image, space) for image in source.arrays["train_x"]]
        offsets = range(2 * padding + 1)
        windows = [(top, left, mirror) for top in offsets for left in offsets for mirror in range(1 + flip)]
        counts = dict.fromkeys(windows, 0)
        steps = 400
        for step in range(steps):
            x, y = batches.batch(step)
            assert x.dtype == torch.float32
            for image, label in zip(x.numpy(), y.tolist(), strict=True):
                matching = []
                for top, left, mirror in windows:
                    window = padded[label][:, top : top + 4, left : left + 4]
                    if np.array_equal(image, window[:, :, ::-1] if mirror else window):
                        matching.append((top, left, mirror))
                assert len(matching) == 1
                counts[matching[0]] += 1
        # Each window is as likely as any other.
        expected = steps * 5 / len(windows)
        assert max(abs(count - expected) for count in counts.values()) < 4.5 * expected**0.5

    def test_augmentation_differs_between_epochs_and_between_images(self):
        batches = batches_of(tiny_images(), batch_size=10, crop_padding=2)
        by_epoch = []
        for epoch in range(5):
            x, y = batches.batch(epoch)
            by_epoch.append(x[y.argsort()] != 0)
        assert len({shape.numpy().tobytes() for shape in by_epoch}) == 5
        assert len({image.numpy().tobytes() for image in by_epoch[0]}) > 1

    def test_alternating_flips_are_at_random_in_the_first_epoch_and_every_other_one_from_there(self):
        source = tiny_images(count=64)
        images = torch.from_numpy(source.arrays["train_x"]).float()
        seen = []
        for seed in (0, 1):
            batches, by_epoch = batches_of(source, seed, batch_size=16, flip="alternating"), []
            for epoch in range(4):
                found = [batches.batch(4 * epoch + step) for step in range(4)]
                x, y = (torch.cat(parts) for parts in zip(*found, strict=True))
                flipped = (x == images[y].flip(-1)).flatten(1).all(1)
                assert torch.equal(flipped, ~(x == images[y]).flatten(1).all(1))
                by_epoch.append(flipped[y.argsort()].tolist())
            first = by_epoch[0]
            assert 16 < sum(first) < 48
            assert by_epoch == [[flip == (epoch % 2 == 0) for flip in first] for epoch in range(4)]
            seen.append(first)
        assert seen[0] != seen[1]

    @pytest.mark.parametrize("side", [1, 2, 3, 6])
    @pytest.mark.parametrize("layout", [{}, {"channels_last": True}, {"crop_padding": 1, "flip": True}])
    def test_cutout_sets_a_square_around_a_random_pixel_to_0(self, side, layout, dataset):
        source = dataset("digits")
        plain = batches_of(source, batch_size=50, **layout)
        cut = batches_of(source, batch_size=50, cutout=side, **layout)
        for step in (0, plain.steps_per_epoch):
            expected, (found, labels) = plain.batch(step)[0], cut.batch(step)
            for image, row, column in zip(expected, *_centres(0, step, 50, 8), strict=True):
                for y in range(row - side // 2, row - side // 2 + side):
                    for x in range(column - side // 2, column - side // 2 + side):
                        if 0 <= y < 8 and 0 <= x < 8:
                            image[:, y, x] = 0
            assert torch.equal(found, expected)
            assert torch.equal(labels, plain.batch(step)[1])
            parts = [cut.batch(step, slice(start, start + 10))[0] for start in range(0, 50, 10)]
            assert torch.equal(torch.cat(parts), expected)

    def test_the_centre_of_cutout_is_uniform_over_the_image(self):
        batches, counts, steps = batches_of(tiny_images(), batch_size=10, cutout=1), torch.zeros(4, 4), 400
        for step in range(steps):
            x, _ = batches.batch(step)
            assert ((x == 0).sum((1, 2, 3)) == 1).all()
            counts += (x == 0).sum((0, 1))
        expected = steps * 10 / 16
        assert (counts - expected).abs().max() < 4 * expected**0.5

    @pytest.mark.parametrize("name", BUNDLED)
    def test_batches_are_normalised_by_mean_and_standard_deviation(self, name, dataset):
        source = dataset(name)
        size = len(source.arrays["train_y"])
        x, y = batches_of(source, batch_size=size).batch(0)
        axes = (0, 2, 3) if x.dim() == 4 else 0
        torch.testing.assert_close(x.mean(axes), torch.zeros(x.shape[1]), rtol=0, atol=1e-5)
        torch.testing.assert_close(x.std(axes, correction=0), torch.ones(x.shape[1]), rtol=1e-5, atol=0)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)

    def test_a_constant_feature_becomes_0(self, dataset):
        spiral = dataset("spiral")
        x = spiral.arrays["train_x"].copy()
        x[:, 1] = 5
        mean, std = np.float32([0, 5]), np.float32([1, 0])
        flat = Prepared("flat", spiral.info, spiral.arrays | {"train_x": x}, mean, std, "")
        assert (batches_of(flat).batch(0)[0][:, 1] == 0).all()

    @pytest.mark.parametrize("augment", [{}, {"crop_padding": 1, "flip": True}])
    def test_channels_last_changes_only_the_layout(self, augment):
        source = tiny_images(channels=3)
        usual = batches_of(source, batch_size=5, **augment).batch(1)[0]
        last = batches_of(source, batch_size=5, channels_last=True, **augment).batch(1)[0]
        assert usual.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert not last.is_contiguous()
        assert torch.equal(usual, last)

    def test_images_stay_on_the_device_as_uint8(self):
        assert batches_of(tiny_images(), batch_size=2, crop_padding=1).x.dtype == torch.uint8


@pytest.fixture
def spiral_files(tmp_path):
    """The spiral, prepared in a results directory of its own: (results, data file, manifest)."""
    manifest = prepared.prepare("spiral", tmp_path)
    return tmp_path, manifest.with_name("data.safetensors"), manifest


class TestPrepared:
    def test_prepared_arrays_load_unchanged(self, spiral_files):
        found = prepared.load("spiral", spiral_files[0])
        read = data.source("spiral").read("spiral", Path("nowhere"), False)
        assert found.arrays.keys() == read.keys()
        for key, array in read.items():
            np.testing.assert_array_equal(found.arrays[key], array)
            assert found.arrays[key].dtype == array.dtype

    def test_preparing_twice_writes_the_same_bytes(self, spiral_files):
        results, file, manifest = spiral_files
        before = file.read_bytes(), manifest.read_bytes()
        prepared.prepare("spiral", results)
        assert (file.read_bytes(), manifest.read_bytes()) == before
        assert sorted(p.name for p in file.parent.iterdir()) == [".lock", "data.safetensors", "manifest.json"]

    def test_loading_prepares_a_missing_dataset(self, tmp_path):
        prepared.load("spiral", tmp_path)
        assert (tmp_path / "data" / "spiral" / "manifest.json").is_file()

    @pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
    def test_a_truncated_file_is_named(self, keep, spiral_files):
        results, file, _ = spiral_files
        file.write_bytes(file.read_bytes()[:keep])
        message = refused(results)
        assert str(file) in message
        assert "rdp data prepare spiral" in message

    def test_a_missing_data_file_is_named(self, spiral_files):
        results, file, _ = spiral_files
        file.unlink()
        assert str(file) in refused(results)

    @pytest.mark.parametrize("share", [0.0, 0.005, 0.3, 0.6, 0.9999])
    def test_a_flipped_byte_is_named(self, share, spiral_files, flip_byte):
        results, file, _ = spiral_files
        flip_byte(file, int(share * file.stat().st_size), 0x10)
        assert str(file) in refused(results)

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '"text"', '{"digest": "x"}', "\x00\x01"])
    def test_a_broken_manifest_is_named(self, content, spiral_files):
        results, _, manifest = spiral_files
        manifest.write_text(content)
        assert str(manifest) in refused(results)

    @pytest.mark.parametrize("key", ["mean", "std"])
    def test_edited_moments_in_the_manifest_are_named(self, key, spiral_files):
        results, _, manifest = spiral_files
        content = json.loads(manifest.read_text())
        content[key][0] += 0.25
        manifest.write_text(json.dumps(content))
        assert str(manifest) in refused(results)

    def test_the_files_of_another_dataset_are_refused(self, spiral_files):
        results, _, manifest = spiral_files
        manifest.parent.rename(results / "data" / "digits")
        assert "digits" in refused(results, "digits")

    def test_a_read_only_directory_is_named(self, tmp_path):
        (tmp_path / "data").write_text("a file where a folder should be")
        assert str(tmp_path / "data") in refused(tmp_path)
