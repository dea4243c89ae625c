"""Label smoothing of every kind of loss: (1 - s) of the target, and s spread over all classes."""

import pytest
import torch

from rdp.spec import Recipe
from rdp.training.mixup import Mixup

SMALL = {"architecture": "resnet20", "dataset": "digits", "batch_size": 16, "epochs": 1}
CASES = {
    "a mini-batch": ("vanilla", {}),
    "parts of a mini-batch": ("vanilla", {"accumulate": 4}),
    "one mask per example": ("droppath", {}),
    "frozen branches": ("residual_droppath", {"accumulate": 2}),
    "bfloat16": ("vanilla", {"precision": "bfloat16"}),
    "Mixup": ("vanilla", {"mixup": 0.4}),
    "CutMix in parts": ("droppath", {"cutmix": 1.0, "accumulate": 2}),
    "Mixup and CutMix": ("residual_droppath", {"mixup": 0.4, "cutmix": 1.0}),
}


@pytest.mark.parametrize(("method", "recipe"), CASES.values(), ids=CASES)
def test_the_loss_of_a_step_is_its_closed_form(method, recipe, make_spec, make_run):
    smoothing, seen = 0.3, []
    run = make_run(
        make_spec(method, {"rate": 0.5} if method != "vanilla" else {}, **SMALL, **recipe, label_smoothing=smoothing)
    )
    run.network.register_forward_hook(lambda network, inputs, logits: seen.append(logits.detach().float()))
    for step in range(3):
        seen.clear()
        run.train_step()
        losses = []
        for part, logits in zip(run._microbatches, seen, strict=True):
            x, y = run.batches.batch(step, part)
            target = torch.nn.functional.one_hot(y, 10).float()
            if run.recipe.mixes:
                _, target = Mixup(Recipe(**recipe), 10, seed=0)(x, y, step, part)
            target = (1 - smoothing) * target + smoothing / 10
            losses.append(-(target * logits.log_softmax(1)).sum(1).mean())
        assert run.state()[0]["losses"][step].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
        run.step += 1
