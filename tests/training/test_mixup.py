"""Mixup and CutMix equal timm's, with draws that depend on seed and step."""

import numpy as np
import pytest
import torch

from rdp.spec import Recipe
from rdp.training.mixup import Mixup

KINDS = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.4, "cutmix": 1.0}}


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.arange(8) % 5


def mix(step: int, seed: int = 0, part: slice = slice(None), **recipe) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch()
    return Mixup(Recipe(**recipe), 5, seed)(x, y, step, part)


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_labels_are_mixed_by_the_same_coefficient(kind):
    x, y = batch()
    for step in range(6):
        mixed, labels = mix(step, **KINDS[kind])
        assert labels.shape == (8, 5)
        torch.testing.assert_close(labels.sum(1), torch.ones(8))
        share = labels[0, y[0]]  # of the first image, whose partner is the last
        if y[0] == y[7]:
            continue
        blend = share * x + (1 - share) * x.flip(0)
        whole = (mixed == x).all(1) | (mixed == x.flip(0)).all(1)  # pixel by pixel, all channels of one image
        if whole.all():
            assert (mixed == x).all(1)[0].float().mean() >= share - 1e-6
        else:
            torch.testing.assert_close(mixed, blend)


def test_label_smoothing_equals_timms():
    _, labels = mix(0, mixup=0.4, label_smoothing=0.1)
    torch.testing.assert_close(labels.min(), torch.tensor(0.1 / 5))


def test_draws_depend_only_on_seed_step_and_part():
    same = [mix(3, mixup=0.4, cutmix=1.0)[0] for _ in range(2)]
    assert torch.equal(*same)
    others = [mix(4, mixup=0.4), mix(3, seed=1, mixup=0.4), mix(3, part=slice(8, 16), mixup=0.4)]
    first = mix(3, mixup=0.4)[1]
    assert all(not torch.equal(first, other[1]) for other in others)


def test_numpys_global_generator_is_restored():
    np.random.seed(5)  # noqa: NPY002 (the state under test)
    mix(0, mixup=0.4)
    after = np.random.random()  # noqa: NPY002 (the state under test)
    np.random.seed(5)  # noqa: NPY002 (the state under test)
    assert after == np.random.random()  # noqa: NPY002 (the state under test)


def test_a_run_with_mixup_learns_and_has_its_own_code_digest(make_spec, make_run):
    from rdp.store.fingerprint import code_of

    spec = make_spec(dataset="digits", architecture="resnet20", mixup=0.2, cutmix=1.0, epochs=4, batch_size=32)
    run = make_run(spec)
    run.train(lambda run: None)
    assert run.history[-1]["validation_accuracy"] > 0.4
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    assert code_of(spec) != code_of(make_spec(dataset="digits", architecture="resnet20", epochs=4, batch_size=32))
