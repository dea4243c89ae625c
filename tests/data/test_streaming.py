"""Streamed mini-batches are functions of seed and step, for any number of processes and any slices."""

import itertools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from rdp import study
from rdp.data import augment, images, prepared, workers
from rdp.data.batches import TrainingBatches as ResidentBatches
from rdp.data.dataset import Prepared
from rdp.data.index import Streamed
from rdp.data.streaming import TrainingBatches, _fill
from rdp.errors import UserError
from rdp.spec import Recipe
from rdp.store import fingerprint
from rdp.training.trainer import Trainer
from rdp.utils import rng
from tests.helpers import folders

CPU = torch.device("cpu")
DRAWN = {"resized_crop": 0.2, "crop_padding": 2, "flip": True, "cutout": 5}
ALL = DRAWN | {"randaugment": "rand-m9-mstd0.5-inc1"}  # every process imports timm for it, which takes seconds
STEPS = 6  # of an epoch: 48 images in mini-batches of 8


@pytest.fixture
def source(small: Path) -> Streamed:
    return prepared.load("small", small / "results")


@pytest.fixture
def make(source: Streamed) -> Iterator[Callable[..., TrainingBatches]]:
    made = []

    def make(seed: int = 0, **recipe) -> TrainingBatches:
        made.append(TrainingBatches(source, Recipe(**{"batch_size": 8} | recipe), seed, CPU))
        return made[-1]

    yield make
    for batches in made:
        batches.close()
    assert not multiprocessing.active_children()


def bits(batch: tuple[torch.Tensor, torch.Tensor]) -> bytes:
    x, y = batch
    return x.contiguous().numpy().tobytes() + y.numpy().tobytes()


class TestPurity:
    def test_an_epoch_has_every_image_once_in_the_order_of_its_seed(self, make, source):
        batches = make(seed=3)
        assert (batches.size, batches.steps_per_epoch) == (48, STEPS)
        for epoch in (0, 1):
            order = rng.generator(3, "order", epoch).permutation(48)
            found = [batches.batch(epoch * STEPS + step) for step in range(STEPS)]
            assert torch.equal(torch.cat([y for _, y in found]), torch.from_numpy(source.labels("train")[order]))
            x = torch.cat([x for x, _ in found])
            expected = torch.from_numpy(source.examples("train", slice(None))[order])
            assert torch.equal(x, batches.normalise(expected))

    def test_a_resumed_run_reads_the_same_batches(self, make):
        undisturbed, resumed = make(**ALL), make(**ALL)
        expected = [bits(undisturbed.batch(step)) for step in range(2 * STEPS)]
        assert [bits(resumed.batch(step)) for step in range(4, 2 * STEPS)] == expected[4:]
        assert len(set(expected)) == 2 * STEPS

    def test_steps_may_be_requested_in_any_order_and_repeatedly(self, make):
        batches, other = make(**DRAWN), make(**DRAWN)
        expected = [bits(batches.batch(step)) for step in range(8)]
        for step in (5, 5, 0, 2, 2, 4, 4, 3, 7, 6, 1, 0):
            assert bits(other.batch(step)) == expected[step]

    @pytest.mark.parametrize("count", ["2", "3"])
    def test_the_number_of_workers_changes_nothing(self, count, make, monkeypatch):
        monkeypatch.setenv(workers.VARIABLE, "1")
        expected = [bits(make(**DRAWN).batch(step)) for step in (0, 7)]
        monkeypatch.setenv(workers.VARIABLE, count)
        batches = make(**DRAWN)
        assert [bits(batches.batch(step)) for step in range(8)][::7] == expected

    @pytest.mark.parametrize("cuts", [(0, 4, 8), (0, 2, 4, 6, 8), (0, 1, 8)])
    def test_slices_of_a_batch_equal_the_whole(self, cuts, make):
        whole, parts = make(**DRAWN), make(**DRAWN)
        for step in (0, 1, 2, 5, 6):
            found = [parts.batch(step, slice(a, b)) for a, b in itertools.pairwise(cuts)]
            expected = whole.batch(step)
            assert torch.equal(torch.cat([x for x, _ in found]), expected[0])
            assert torch.equal(torch.cat([y for _, y in found]), expected[1])

    def test_alternating_flips_and_cutout_equal_those_of_resident_images(self, make, source):
        arrays = {"train_x": source.examples("train", slice(None)), "train_y": source.labels("train")}
        resident = Prepared("small", source.info, arrays, source.mean, source.std, "")
        recipe = {"flip": "alternating", "cutout": 5}
        streamed, held = make(**recipe), ResidentBatches(resident, Recipe(batch_size=8, **recipe), 0, CPU)
        for step in (0, 3, STEPS, 2 * STEPS + 1):
            for part in (slice(0, 4), slice(4, 8)):
                assert bits(streamed.batch(step, part)) == bits(held.batch(step, part))

    def test_channels_last_changes_only_the_layout(self, make):
        first, last = make(**DRAWN).batch(3), make(**DRAWN, channels_last=True).batch(3)
        assert torch.equal(first[0], last[0])
        assert first[0].is_contiguous()
        assert last[0].is_contiguous(memory_format=torch.channels_last)

    def test_seeds_and_epochs_differ(self, make):
        first, other = make(**DRAWN), make(seed=1, **DRAWN)
        assert bits(first.batch(0)) != bits(other.batch(0))

    def test_global_generators_are_unchanged(self, make):
        random.seed(0)
        expected = random.Random(0).random()
        make(**DRAWN).batch(0)
        assert random.random() == expected

    def test_train_size_selects_the_first_images(self, make, source):
        batches = make(train_size=16, batch_size=16)
        assert sorted(batches.batch(0)[1].tolist()) == sorted(source.labels("train")[:16].tolist())
        assert batches.steps_per_epoch == 1


class TestAugmentation:
    @pytest.mark.parametrize("size", [(30, 40), (64, 64), (300, 20), (20, 300), (1, 1), (500, 375)])
    def test_crops_equal_torchvisions_for_the_same_seed(self, size):
        image = torch.from_numpy(np.array(folders.picture(0, *size[::-1]))).permute(2, 0, 1)
        change = augment.Augmentation(16, 0.2, 0, False, None, (0.0, 0.0, 0.0))
        for seed in augment.seeds(0, 0, 50):
            torch.manual_seed(seed)
            box = RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3])
            expected = F.resized_crop(image, *box, [16, 16], antialias=True)
            assert torch.equal(change(image, seed), expected)

    def test_seeds_differ_between_examples_steps_and_runs(self):
        assert len({*augment.seeds(0, 0, 50), *augment.seeds(0, 1, 50), *augment.seeds(1, 0, 50)}) == 150

    def test_shifts_and_flips_are_crops_of_the_padded_image(self):
        image = torch.from_numpy(np.array(folders.picture(0, 16, 16))).permute(2, 0, 1)
        change = augment.Augmentation(16, None, 2, True, None, (0.0, 0.0, 0.0))
        padded, seen = F.pad(image, [2, 2, 2, 2]), set()
        for seed in augment.seeds(0, 0, 400):
            found = change(image, seed)
            for flip in (False, True):
                for top in range(5):
                    for left in range(5):
                        window = padded[:, top : top + 16, left : left + 16]
                        if torch.equal(found, window.flip(-1) if flip else window):
                            seen.add((top, left, flip))
        assert len(seen) == 50

    def test_randaugment_equals_timms_for_the_same_draws(self):
        from timm.data.auto_augment import rand_augment_transform

        how = {"translate_const": 10, "img_mean": (1, 2, 3), "interpolation": Image.Resampling.BILINEAR}
        name = "rand-m5-n3-mstd0.5"
        theirs, change = rand_augment_transform(name, how), augment.Augmentation(24, None, 0, False, name, (1, 2, 3))
        for number, seed in enumerate(augment.seeds(0, 0, 60)):
            picture = folders.picture(number)
            ours = change(torch.from_numpy(np.array(picture)).permute(2, 0, 1), seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 (what timm draws from)
            np.testing.assert_array_equal(ours.permute(1, 2, 0).numpy(), np.array(theirs(picture)))

    def test_the_largest_posterize_magnitude_gives_black(self):
        change = augment.rand_augment("rand-m10-p1-inc1-n1", 24, (0, 0, 0))
        posterize = next(op for op in change.ops if op.name == "PosterizeIncreasing")
        assert not np.array(posterize(folders.picture(0))).any()

    def test_an_unknown_randaugment_is_refused(self, make):
        with pytest.raises(UserError, match=r"recipe\.randaugment: timm does not know 'rand-x5'"):
            make(randaugment="rand-x5")


class TestFailures:
    @pytest.mark.parametrize("content", [b"changed", None])
    def test_a_changed_file_stops_the_run_and_is_named(self, content, make, source):
        place = int(rng.generator(0, "order", 0).permutation(48)[2 * 8 + 5])
        file = Path(source.files("train", [place])[0][0])
        file.unlink()
        if content:
            file.write_bytes(content)
        batches = make()
        batches.batch(0)
        batches.batch(1)
        with pytest.raises(
            UserError, match="changed since its dataset was prepared" if content else "cannot be read"
        ) as e:
            batches.batch(2)
        assert str(file) in str(e.value)

    def test_an_error_in_a_library_names_the_image(self, make, source, monkeypatch):
        batches = make(**ALL)
        task = batches._task((0, 0, 8))
        monkeypatch.setattr(images, "decode", lambda *arguments: 1 // 0)
        with pytest.raises(UserError, match=r"train/.*cannot be decoded or augmented \(ZeroDivisionError"):
            _fill(task, np.empty((8, 3, 16, 16), np.uint8))

    def test_a_killed_process_is_reported(self, make):
        batches = make()
        batches.batch(0)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        with pytest.raises(UserError, match="a process that decodes images ended early"):
            batches.batch(17)

    def test_a_train_size_above_the_number_of_images_is_refused(self, small, source):
        with pytest.raises(UserError, match="48 training images can be decoded, not 49"):
            TrainingBatches(source, Recipe(train_size=49), 0, CPU)


class TestProcesses:
    def test_they_end_when_the_batches_are_closed(self, make):
        batches = make()
        batches.batch(0)
        assert len(multiprocessing.active_children()) == workers.count()
        batches.close()
        assert not multiprocessing.active_children()
        expected = bits(batches.batch(1))  # which starts them again
        assert bits(make().batch(1)) == expected

    def test_they_end_when_the_batches_are_deleted(self, source):
        batches = TrainingBatches(source, Recipe(batch_size=8), 0, CPU)
        batches.batch(0)
        del batches
        assert not multiprocessing.active_children()

    @pytest.mark.parametrize("end", ["", "; os.kill(os.getpid(), 9)"])
    @pytest.mark.slow
    def test_they_end_silently_with_the_interpreter(self, end, small, source, run_python):
        script = (
            "import multiprocessing, os, torch\nfrom pathlib import Path\n"
            "from rdp.data import prepared, streaming\nfrom rdp.spec import Recipe\n"
            "data = prepared.load('small', Path('results'))\n"
            "batches = streaming.TrainingBatches(data, Recipe(batch_size=8), 0, torch.device('cpu'))\n"
            f"batches.batch(0); print(*[child.pid for child in multiprocessing.active_children()], flush=True){end}\n"
        )
        done = run_python("-c", script, cwd=small, RDP_DATA=str(small), RDP_WORKERS="2")
        assert (done.returncode, done.stderr) == (-9 if end else 0, "")
        started = [int(pid) for pid in done.stdout.split()]
        assert len(started) == 2
        for pid in started:
            for _ in range(200):
                if not Path(f"/proc/{pid}").exists():
                    break
                signal.sigtimedwait([], 0.05)
            else:
                pytest.fail("a process outlived the one that asked it for mini-batches")


class TestRuns:
    @pytest.mark.parametrize("architecture", ["resnet20", "vit_tiny"])
    def test_a_run_on_streamed_images_is_reproducible(self, architecture, source, make_spec):
        spec = make_spec(architecture=architecture, dataset="small", epochs=1, batch_size=16, **DRAWN)
        done = []
        for _ in range(2):
            run = Trainer(spec, source, CPU)
            run.train(lambda run: None)
            done.append(run.finish())
        first, second = done
        assert first[0] == second[0]
        assert first[0]["steps"] == 3
        assert first[1]["test"].shape == (12,)

    def test_a_batch_used_in_two_steps_is_the_same(self, make):
        batches, other = make(), make()
        found = [bits(batches.batch(step - step % 2)) for step in range(8)]
        assert found == [bits(other.batch(step - step % 2)) for step in range(8)]
        assert found[::2] == found[1::2]

    @pytest.mark.parametrize("key", [{"resized_crop": 0.3}, {"randaugment": "rand-m9"}])
    def test_options_for_streamed_images_are_refused_for_resident_ones(self, key, study_content, write_study):
        study_content["recipe"] |= key
        with pytest.raises(UserError, match=f"recipe: {next(iter(key))} needs streamed images"):
            study.load(write_study(study_content))

    def test_decoding_is_part_of_the_code_digest(self):
        names = fingerprint.modules("vanilla", "resnet20", "imagenet")
        assert {"rdp.data.streaming", "rdp.data.images", "rdp.data.augment"} <= names
        assert not {"rdp.data.index", "rdp.data.workers"} & names
        assert not {"rdp.data.streaming", "rdp.data.images"} & fingerprint.modules("vanilla", "resnet20", "cifar10")
        assert {"torchvision", "timm", "PIL"} <= {lib for name in names for lib in fingerprint._third_parties(name)}

    @pytest.mark.parametrize("library", ["torchvision", "timm", "pillow"])
    def test_library_versions_are_part_of_the_code_digest(self, library, monkeypatch):
        def digests() -> list[str]:
            fingerprint.code_digest.cache_clear()
            return [fingerprint.code_digest("vanilla", "resnet20", name) for name in ("imagenet", "cifar10")]

        before, version = digests(), fingerprint.version
        monkeypatch.setattr(fingerprint, "version", lambda name: "0.0" if name == library else version(name))
        after = digests()
        monkeypatch.undo()
        fingerprint.code_digest.cache_clear()
        assert before[0] != after[0]
        assert before[1] == after[1]
