"""Folders of class folders as datasets: declarations, indices and unreadable images."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms.v2 import functional as F

from rdp import data
from rdp.data import images, index, prepared, streaming, workers
from rdp.data.class_folders import describe
from rdp.data.dataset import SPLITS
from rdp.data.sources import image_folders
from rdp.errors import UserError
from rdp.spec import Recipe
from rdp.utils import digest, rng
from tests.helpers import folders

SHIPPED = {"imagenet": 1000, "tiny_imagenet": 200, "tiny_imagenet_20": 20}
TINY = "tiny_imagenet_20"


def prepare(workdir: Path, name: str = "small") -> dict[str, Any]:
    """Prepare a dataset, and return its manifest."""
    image_folders._read.cache_clear()  # a test may have written the declaration anew
    return json.loads(prepared.prepare(name, workdir / "results").read_text())


def load(workdir: Path, name: str = "small") -> index.Streamed:
    image_folders._read.cache_clear()
    return prepared.load(name, workdir / "results")


def paths(found: index.Streamed, split: str) -> list[str]:
    names = found.files(split, np.arange(len(found.labels(split))))[0]
    return [str(Path(name).relative_to(found.root)) for name in names]


class TestDeclarations:
    @pytest.mark.parametrize(("name", "classes"), SHIPPED.items())
    def test_declared_datasets_are_known_before_they_are_read(self, name, classes):
        found = data.info(name)
        assert found.classes == classes
        assert found.shape[0] == 3
        assert data.streamed(name)
        assert data.batches_module(name) == "rdp.data.streaming"
        assert not data.streamed("digits")

    def test_imagenet_has_the_published_number_of_images(self):
        sizes = data.info("imagenet").sizes
        assert sizes["train"] + sizes["validation"] == 1_281_167
        assert sizes["test"] == 50_000

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"colour": 1}, "colour: unknown key"),
            ({"classes": 1}, "classes: input should be greater than or equal to 2"),
            ({"validation": 0}, "validation: a sub-folder or a number of images to hold out is needed, found 0"),
            ({"test": True}, "test: a sub-folder or a number"),
            ({"validation": 13}, "sizes.validation: 12, but 13 images are held out"),
            ({"sizes": {"train": 1}}, "sizes.validation: field required"),
        ],
    )
    def test_an_invalid_declaration_is_reported_in_one_line_with_its_file(self, changes, message, small):
        file = folders.declare(small, **changes)
        with pytest.raises(UserError, match=message) as caught:
            data.info("small")
        assert str(file) in str(caught.value)

    def test_a_damaged_declaration_affects_no_other(self, small):
        (small / "config/datasets/bad.yaml").write_text("a: [")
        data._sources.cache_clear()
        assert {"bad", "small", "digits"} <= set(data.available())
        assert data.info("small").classes == 3
        with pytest.raises(UserError, match=r"bad\.yaml: not readable as YAML"):
            data.info("bad")

    def test_a_duplicate_name_is_refused(self, small):
        folders.declare(small, "digits")
        data._sources.cache_clear()
        with pytest.raises(UserError, match=r"dataset digits: .*both define it"):
            data.available()


class TestIndex:
    def test_every_image_is_in_one_split_with_its_label_and_checksum(self, small):
        found = load(small)
        listed = {split: paths(found, split) for split in SPLITS}
        assert {split: len(names) for split, names in listed.items()} == data.info("small").sizes
        there = {str(p.relative_to(found.root)) for p in found.root.rglob("*.*") if p.is_file()}
        assert sorted(there) == sorted(name for names in listed.values() for name in names)
        for split, names in listed.items():
            assert [folders.CLASSES.index(Path(name).parts[1]) for name in names] == found.labels(split).tolist()
            sha256 = [hashlib.sha256((found.root / name).read_bytes()).digest() for name in names]
            assert b"".join(sha256) == found.files(split, np.arange(len(names)))[1]

    def test_moments_are_those_of_the_cropped_training_images(self, small):
        found = load(small)
        x = found.examples("train", slice(None)).astype(np.float64)
        assert x.shape == (48, 3, 16, 16)
        np.testing.assert_allclose(found.mean, x.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(found.std, x.std((0, 2, 3)), rtol=1e-5)

    def test_preparing_twice_gives_the_same_index(self, small):
        first = load(small)
        prepared.prepare("small", small / "again")
        assert prepared.load("small", small / "again").digest == first.digest

    def test_undecodable_images_are_named_counted_and_left_out(self, small, caplog):
        before = {split: paths(load(small), split) for split in SPLITS}
        bad = {"train/bee/0.jpg", "val/cat/1.jpg"}
        for name in bad:
            (small / "small" / name).write_bytes((small / "small" / name).read_bytes()[:200])
        (small / "small/train/ant/3.png").write_bytes(b"")
        bad.add("train/ant/3.png")
        manifest = json.loads(prepared.prepare("small", small / "results").read_text())
        assert manifest["unreadable"].keys() == bad
        assert "incomplete or truncated" in manifest["unreadable"]["train/bee/0.jpg"]
        messages = caplog.messages
        assert "small: left out 3 images that cannot be decoded" in messages
        for name in bad:
            assert any(line.startswith(f"small: {name}: cannot be decoded (") for line in messages)
        # The order of the others is unchanged.
        found = load(small)
        for split in SPLITS:
            assert paths(found, split) == [name for name in before[split] if name not in bad]
        assert found.info.sizes == {split: len(paths(found, split)) for split in SPLITS}
        assert sum(found.info.sizes.values()) == 72 - 3

    def test_a_flipped_byte_that_crashes_the_decoder_costs_only_its_file(self, small, flip_byte, caplog):
        """One of 40 PNGs, at which torchvision's decoder ends with a segmentation fault."""
        for label, name in enumerate(("a", "b")):
            (small / "pngs" / name).mkdir(parents=True)
            for i in range(20):
                folders.picture(100 * label + i).save(small / "pngs" / name / f"{i}.png")
        bad = small / "pngs/b/7.png"
        flip_byte(bad, bad.stat().st_size // 2)
        folders.declare(small, "pngs", **yaml.safe_load(describe(small / "pngs")))
        data._sources.cache_clear()
        found = load(small, "pngs")
        names = [name for split in SPLITS for name in paths(found, split)]
        assert len(names) == 39
        assert "b/7.png" not in names
        manifest = json.loads((small / "results/data/pngs/manifest.json").read_text())
        assert manifest["unreadable"].keys() == {"b/7.png"}
        assert "pngs: left out 1 image that cannot be decoded" in caplog.messages
        assert any(line.startswith("pngs: b/7.png: cannot be decoded (") for line in caplog.messages)

    def test_hidden_files_and_folders_of_systems_are_skipped_at_every_depth(self, small):
        before = load(small)
        root, image = small / "small", (small / "small/train/bee/0.jpg").read_bytes()
        for name in (
            "train/bee/.ipynb_checkpoints/0-checkpoint.jpg",
            "train/bee/nested/.thumbnails/deep/x.png",
            "train/bee/._0.jpg",
            "train/.trash/1.jpg",
            "train/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
            "train/__MACOSX/bee/._0.jpg",
            "val/cat/.DS_Store/x.png",
            "val/cat/Thumbs.db",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(image)
        assert yaml.safe_load(describe(root))["sizes"] == {"train": 54, "validation": 6, "test": 12}
        prepare(small)
        assert load(small).digest == before.digest

    @pytest.mark.parametrize(
        "links",
        [
            {"train/bee/up": ".."},
            {"train/bee/up": "../.."},
            {"train/bee/deep/er/again": "../../../bee"},
            {"train/up": "."},
            {"val/cat/top": "../.."},
            {"train/bee/up": "..", "train/up": "../..", "val/cat/again": "."},
        ],
        ids=lambda links: " ".join(f"{link}->{target}" for link, target in links.items()),
    )
    def test_a_link_to_a_folder_that_contains_it_is_named_counted_and_not_followed(self, links, small, caplog):
        before, described = load(small), describe(small / "small")
        for link, target in links.items():
            (small / "small" / link).parent.mkdir(parents=True, exist_ok=True)
            (small / "small" / link).symlink_to(target)
        assert describe(small / "small") == described
        assert prepare(small)["loops"] == sorted(links)
        assert load(small).digest == before.digest
        for link in links:
            assert f"small: {link}: a link to a folder that contains it" in caplog.messages
        counted = f"small: left out {len(links)} link{'s' if len(links) > 1 else ''} to a folder that contains it"
        assert counted in caplog.messages

    def test_links_that_lead_back_through_other_links_are_not_followed(self, small):
        """A class elsewhere, which links to its dataset, and two folders that link to each other."""
        before, root = load(small), small / "small"
        (root / "train/bee").rename(small / "bees")
        (root / "train/bee").symlink_to(small / "bees")
        (small / "bees/home").symlink_to(root / "train")
        for one, other in (("one", "other"), ("other", "one")):
            (small / one).mkdir()
            (small / one / "next").symlink_to(small / other)
        (root / "val/cat/one").symlink_to(small / "one")
        assert prepare(small)["loops"] == ["train/bee/home", "val/cat/one/next/next"]
        assert load(small).digest == before.digest

    def test_links_to_other_folders_and_files_are_followed(self, small):
        before, root = load(small), small / "small"
        (root / "train/bee/0.jpg").rename(small / "0.jpg")
        (root / "train/bee/0.jpg").symlink_to(small / "0.jpg")
        (root / "val").rename(small / "held_out")
        (root / "val").symlink_to(small / "held_out")
        assert prepare(small)["loops"] == []
        assert load(small).digest == before.digest

    @pytest.mark.parametrize("target", ["nowhere.png", "9.png"], ids=["missing", "itself"])
    def test_a_link_to_a_missing_file_is_left_out_as_an_undecodable_image(self, target, small, caplog):
        before = load(small)
        (small / "small/train/bee/9.png").symlink_to(target)
        folders.declare(small, sizes={"train": 49, "validation": 12, "test": 12})
        assert yaml.safe_load(describe(small / "small"))["sizes"]["train"] == 55
        assert prepare(small)["unreadable"] == {"train/bee/9.png": "a link to a missing file"}
        assert "small: left out 1 image that cannot be decoded" in caplog.messages
        assert "small: train/bee/9.png: cannot be decoded (a link to a missing file)" in caplog.messages
        listed = [{*paths(found, "train"), *paths(found, "validation")} for found in (before, load(small))]
        assert listed[0] == listed[1]

    def test_images_in_two_splits_are_named_counted_and_kept(self, small, caplog):
        root, copies = small / "small", ("val/bee/2.jpg", "val/cat/1.jpg")
        for name in copies:
            shutil.copy(root / "train/ant/0.jpg", root / name)
        assert prepare(small)["duplicates"] == dict.fromkeys(copies, "train/ant/0.jpg")
        assert "small: 2 images of validation and test are in an earlier split too" in caplog.messages
        for name in copies:
            line = f"small: {name}: has the same bytes as train/ant/0.jpg, which is in another split"
            assert line in caplog.messages
        assert len(load(small).labels("test")) == 12

    def test_copies_that_are_held_out_of_the_training_images_are_found(self, small):
        for file in list((small / "small/train").rglob("*.*")):
            shutil.copy(file, file.parent / f"copy_{file.name}")
        folders.declare(small, sizes={"train": 108, "validation": 12, "test": 12})
        duplicates = prepare(small)["duplicates"]
        found = load(small)
        train, held_out = paths(found, "train"), paths(found, "validation")
        assert duplicates
        assert duplicates.keys() <= {*held_out}
        for name, other in duplicates.items():
            assert other in train
            assert (found.root / name).read_bytes() == (found.root / other).read_bytes()

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda root: shutil.copy(root / "train/ant/0.jpg", root / "val/cat/1.jpg"), "1 image of validation and"),
            (lambda root: (root / "val/cat/1.jpg").write_bytes(b""), "left out 1 image that cannot be decoded"),
        ],
        ids=["duplicate", "undecodable"],
    )
    def test_a_strict_declaration_makes_them_errors(self, damage, message, small):
        folders.declare(small, strict=True)
        prepare(small)
        damage(small / "small")
        with pytest.raises(UserError, match=f"^small: {message}.*; its declaration is strict$"):
            prepare(small)

    def test_declared_sizes_may_exclude_undecodable_images(self, small):
        (small / "small/val/ant/0.jpg").write_bytes(b"no image")
        folders.declare(small, sizes={"train": 48, "validation": 12, "test": 11})
        assert load(small).info.sizes["test"] == 11

    def test_a_wrong_number_of_images_is_refused(self, small):
        (small / "small/val/ant/0.jpg").unlink()
        (small / "small/val/ant/1.jpg").write_bytes(b"no image")
        with pytest.raises(UserError, match="test: 12 images are declared, there are 11, of which 1 cannot be decoded"):
            load(small)

    def test_a_wrong_number_of_classes_is_refused(self, small):
        shutil.rmtree(small / "small/train/bee")
        with pytest.raises(UserError, match="2 class folders, small has 3"):
            load(small)

    def test_a_class_without_training_images_is_refused(self, small):
        (small / "small/val/bee").rename(small / "small/val/beee")
        with pytest.raises(UserError, match="no class of the training images; did you mean 'bee'"):
            load(small)

    def test_a_missing_folder_is_named_with_instructions(self, small):
        folders.declare(small, folder="elsewhere", get="ask a friend")
        with pytest.raises(UserError, match="elsewhere/train: no such folder; small is needed: ask a friend"):
            load(small)

    def test_labels_of_tiny_imagenets_validation_images_come_from_its_annotations(self, small):
        before = load(small)
        labels = dict(zip(paths(before, "test"), before.labels("test").tolist(), strict=True))
        root, lines, moved = small / "small", [], {}
        (root / "val/images").mkdir()
        for number, name in enumerate(sorted(labels)):
            moved[f"val/images/{number}.jpg"] = labels[name]
            (root / name).rename(root / f"val/images/{number}.jpg")
            lines.append(f"{number}.jpg\t{Path(name).parts[1]}\t0\t0\t63\t63")
        for name in folders.CLASSES:
            (root / "val" / name).rmdir()
            (root / "train" / name / "images").mkdir()  # as that dataset has them, boxes and all
            (root / "train" / name / f"{name}_boxes.txt").write_text("")
            for file in (root / "train" / name).glob("*.jpg"):
                file.rename(file.parent / "images" / file.name)
        (root / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
        prepared.prepare("small", small / "results")
        after = load(small)
        assert dict(zip(paths(after, "test"), after.labels("test").tolist(), strict=True)) == moved
        assert len(after.labels("train")) == 48
        (root / "val/images/3.jpg").unlink()
        with pytest.raises(UserError, match=r"3\.jpg is not both there and in val_annotations\.txt"):
            prepared.prepare("small", small / "results")

    def test_a_test_split_may_be_held_out_of_the_training_images(self, small):
        folders.declare(small, test=10, sizes={"train": 38, "validation": 12, "test": 10})
        listed = [name for split in SPLITS for name in paths(load(small), split)]
        assert len(set(listed)) == len(listed) == 60
        assert all(name.startswith("train/") for name in listed)

    @pytest.mark.parametrize("change", [b"changed", None])
    def test_a_changed_file_is_named_in_evaluation(self, change, small):
        found = load(small)
        file = found.root / paths(found, "test")[5]
        file.unlink()
        if change:
            file.write_bytes(change)
        found.examples("test", slice(0, 5))
        with pytest.raises(UserError, match="changed since" if change else "cannot be read") as caught:
            found.examples("test", slice(0, 6))
        assert str(file) in str(caught.value)

    def test_the_index_is_verified_by_its_checksum(self, small, flip_byte):
        load(small)
        file = small / "results/data/small/data.safetensors"
        flip_byte(file, file.stat().st_size // 2)
        with pytest.raises(UserError, match="damaged"):
            load(small)


class TestImages:
    @pytest.mark.parametrize("size", [(24, 24), (40, 24), (24, 40), (17, 100), (8, 8)])
    def test_images_are_resized_and_cropped_at_the_centre(self, size):
        x = torch.from_numpy(np.array(folders.picture(0, *size))).permute(2, 0, 1)
        found = images.evaluation_crop(x, 16)
        assert found.shape == (3, 16, 16)
        assert torch.equal(found, F.center_crop(F.resize(x, [18], antialias=True), [16, 16]))

    def test_an_image_of_the_right_size_is_unchanged(self):
        x = torch.from_numpy(np.array(folders.picture(0, 16, 16))).permute(2, 0, 1)
        assert torch.equal(images.evaluation_crop(x, 16), x)

    @pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
    def test_decoding_equals_pillow(self, mode, suffix, tmp_path):
        file = tmp_path / f"image.{suffix}"
        try:
            folders.picture(0).convert(mode).save(file)
        except OSError:
            pytest.skip(f"{suffix} has no {mode}")
        with Image.open(file) as image:
            expected = np.array(image.convert("RGB"))
        np.testing.assert_array_equal(images.decode(images.read(file)).permute(1, 2, 0).numpy(), expected)

    def test_16_bit_images_are_reduced_to_their_upper_8_bits(self, tmp_path):
        pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
        Image.fromarray(pixels).save(tmp_path / "image.png")
        found = images.decode(images.read(tmp_path / "image.png"))
        np.testing.assert_array_equal(found[0].numpy(), pixels >> 8)

    @pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
    def test_16_bit_grey_images_are_equal_in_every_format(self, suffix, tmp_path):
        pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
        image = Image.fromarray(pixels)
        image.save(tmp_path / f"image.{suffix}")
        found = images.decode(images.read(tmp_path / f"image.{suffix}"))
        np.testing.assert_array_equal(found.numpy(), np.stack([pixels >> 8] * 3))

    def test_16_bit_colours_are_reduced_to_their_upper_8_bits(self, tmp_path):
        pixels = np.arange(1800, dtype=np.uint16).reshape(20, 30, 3) * 36
        (tmp_path / "image.tif").write_bytes(folders.tiff(pixels))
        found = images.decode(images.read(tmp_path / "image.tif"))
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), pixels >> 8)

    def test_big_endian_grey_images_are_read(self):
        pixels = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
        found = images.decode(bytearray(folders.tiff(pixels.astype(">u2"))))
        np.testing.assert_array_equal(found[0].numpy(), pixels >> 8)

    @pytest.mark.parametrize(
        ("dtype", "change"),
        [
            ("<i4", {}),
            ("<u4", {}),
            ("<i2", {}),
            ("<f4", {}),
            ("<u2", {"interpretation": 0}),  # white is 0, which Pillow would not invert
            ("<u2", {"bits": 12}),
        ],
        ids=["int32", "uint32", "int16", "float", "white is 0", "12 bits"],
    )
    def test_grey_pixels_of_no_known_range_are_refused(self, dtype, change):
        content = folders.tiff(np.arange(600).reshape(20, 30).astype(dtype), **change)
        with pytest.raises(images.Unreadable, match="not 16-bit with black as 0"):
            images.decode(bytearray(content))

    def test_float_pixmaps_are_refused(self):
        content = b"Pf\n30 20\n-1.0\n" + np.linspace(0, 1, 600, dtype="<f4").tobytes()
        with pytest.raises(images.Unreadable, match="mode F"):
            images.decode(bytearray(content))

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_an_option(self, orientation, suffix, tmp_path):
        file, exif = tmp_path / f"image.{suffix}", Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        folders.picture(0, 30, 20).save(file, exif=exif)
        with Image.open(file) as image:
            stored = np.array(image)
            turned = np.array(ImageOps.exif_transpose(image))
        content = images.read(file)
        np.testing.assert_array_equal(images.decode(content).permute(1, 2, 0).numpy(), stored)
        np.testing.assert_array_equal(images.decode(content, True).permute(1, 2, 0).numpy(), turned)

    def test_a_tiff_is_always_turned(self, tmp_path):
        picture = folders.picture(0, 30, 20)
        picture.save(tmp_path / "image.tif", tiffinfo={ExifTags.Base.Orientation: 6})
        for option in (False, True):
            found = images.decode(images.read(tmp_path / "image.tif"), option)
            np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), np.array(picture.rotate(-90, expand=True)))

    @pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff\xd8\xff\xe0 no image", b"\x89PNG\r\n\x1a\n", b"text"])
    def test_invalid_images_are_reported_in_one_line(self, content):
        with pytest.raises(images.Unreadable) as caught:
            images.decode(bytearray(content))
        assert str(caught.value)
        assert "\n" not in str(caught.value)


class TestOrientation:
    """An option of the declaration, for training and evaluation alike."""

    @pytest.fixture
    def turned(self, small):
        """The dataset with a quarter turn in the EXIF data of every JPEG."""
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        for file in (small / "small").rglob("*.jpg"):
            with Image.open(file) as image:
                image.save(file, quality=95, exif=exif)
        return small

    def test_it_reaches_evaluation_training_and_checksum(self, turned):
        recipe = Recipe(batch_size=48)
        found = {}
        for option in (False, True):
            folders.declare(turned, exif_orientation=option)
            prepare(turned)
            source = load(turned)
            batches = streaming.TrainingBatches(source, recipe, 0, torch.device("cpu"))
            order = rng.generator(0, "order", 0).permutation(48)
            examples = source.examples("train", slice(None))
            assert torch.equal(batches.batch(0)[0], batches.normalise(torch.from_numpy(examples[order])))
            batches.close()
            found[option] = (source, examples)
        jpeg = np.array([name.endswith(".jpg") for name in paths(found[True][0], "train")])
        stored, shown = found[False][1], found[True][1]
        np.testing.assert_array_equal(shown[~jpeg], stored[~jpeg])
        differences = np.abs(np.rot90(stored[jpeg], -1, (2, 3)).astype(int) - shown[jpeg])
        assert differences.max() <= 2  # the crops are resized before or after the turn
        assert np.abs(stored[jpeg].astype(int) - shown[jpeg]).max() > 20
        assert found[False][0].digest != found[True][0].digest

    def test_an_index_made_with_the_other_choice_is_refused(self, small):
        load(small)
        folders.declare(small, exif_orientation=True)
        with pytest.raises(UserError, match="made with another exif_orientation; run: rdp data prepare small"):
            load(small)


class TestDescribe:
    def test_the_description_is_a_valid_declaration(self, small):
        said = yaml.safe_load(describe(small / "small"))
        assert said["folder"] == "small"
        assert (said["validation"], said["test"], said["size"], said["classes"]) == (6, "val", 24, 3)
        assert said["sizes"] == {"train": 54, "validation": 6, "test": 12}
        folders.declare(small, **said)
        assert load(small).info.sizes == said["sizes"]

    def test_class_folders_without_splits_are_split(self, small):
        said = yaml.safe_load(describe(small / "small/train"))
        assert (said["train"], said["validation"], said["test"]) == (".", 6, 6)
        folders.declare(small, **said)
        assert load(small).info.sizes == {"train": 48, "validation": 6, "test": 6}

    def test_images_of_different_sizes_get_the_default_size(self, small):
        folders.write_class(small / "small/train/dog", 7, 8, width=30, height=40)
        assert yaml.safe_load(describe(small / "small"))["size"] == 224

    def test_a_folder_without_classes_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="2 class folders or more are needed, found 0"):
            describe(tmp_path)

    def test_the_command_prints_it(self, small, run_python):
        done = run_python("-m", "rdp.cli", "data", "describe", "small", cwd=small, RDP_DATA=str(small))
        assert done.returncode == 0, done.stderr
        assert done.stdout == describe(small / "small")


@pytest.mark.parametrize("stated", ["0", "-1", "many", "1.5", "9999"])
def test_an_invalid_number_of_workers_is_refused(stated, monkeypatch):
    monkeypatch.setenv(workers.VARIABLE, stated)
    with pytest.raises(UserError, match=f"RDP_WORKERS: .*found '{stated}'"):
        workers.count()


def test_20_classes_of_tiny_imagenet_are_indexed(tmp_path, monkeypatch):
    declared = image_folders.declaration(TINY)
    if not declared.root.is_dir():
        pytest.skip(f"{declared.root} is absent")
    found = prepared.load(TINY, tmp_path)
    assert found.info.sizes == declared.sizes.model_dump()
    assert np.bincount(found.labels("test")).tolist() == [50] * 20
    train = np.bincount(found.labels("train")) + np.bincount(found.labels("validation"))
    assert train.tolist() == [500] * 20
    assert found.digest == digest.of_arrays(found.arrays)
    assert found.examples("validation", slice(0, 7)).shape == (7, 3, 64, 64)


def test_each_split_is_shuffled(small):
    prepared.prepare("small", small / "results")
    data = prepared.load("small", small / "results")
    for split in ("train", "validation", "test"):
        first = data.labels(split)[: len(data.labels(split)) // 3]  # sorted by path, they would be of one class
        assert len(set(first.tolist())) > 1, split
