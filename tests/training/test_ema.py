"""The moving average equals timm's, is used for evaluation, and is restored from a checkpoint."""

import pytest
import torch
from torch import nn

from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint
from rdp.training.ema import ExponentialMovingAverage


def step(network: nn.Module) -> None:
    """Change weights and running statistics."""
    network.train()(torch.randn(8, 3, 8, 8))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def test_it_equals_timms(network):
    from timm.utils import ModelEmaV3

    ours, timms = ExponentialMovingAverage(network, 0.9), ModelEmaV3(network, decay=0.9, foreach=False)
    for _ in range(5):
        step(network)
        ours.update()
        timms.update(network)
    expected = timms.module.state_dict()
    assert ours.state.keys() == expected.keys()
    for name, tensor in ours.state.items():
        torch.testing.assert_close(tensor, expected[name])
    assert ours.state["1.num_batches_tracked"] == 5


def test_it_replaces_the_weights_and_restores_them(network):
    average = ExponentialMovingAverage(network, 0.5)
    step(network)
    average.update()
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameters = list(network.parameters())
    with average.swapped_in():
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, average.state[name])
            assert name.endswith("tracked") or not torch.equal(tensor, own[name])
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))  # the optimizer's still


def test_a_run_evaluates_and_stores_the_average(make_spec, make_run):
    plain, averaged = (make_run(make_spec(**changes)) for changes in ({}, {"ema": 0.9}))
    for run in (plain, averaged):
        run.train(lambda run: None)
    losses = [[row["train_loss"] for row in run.history] for run in (plain, averaged)]
    assert losses[0] == losses[1]
    assert plain.history[-1]["validation_loss"] != averaged.history[-1]["validation_loss"]
    _, _, weights = averaged.finish()
    own = averaged.network.state_dict()
    assert all(torch.equal(weights[name], averaged.ema.state[name]) for name in own)
    assert any(not torch.equal(weights[name], own[name]) for name in own)


def test_a_resumed_run_with_an_average_is_bitwise_equal(make_spec, make_run, tmp_path):
    spec = make_spec("residual_droppath", {"rate": 0.5}, ema=0.9)
    whole, begun = make_run(spec), make_run(spec)
    whole.train(lambda run: None)

    def stop(run) -> None:
        if run.step == 13:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        begun.train(stop)
    checkpoint.save(tmp_path, Checkpoint(begun.step, {}, *begun.state()))
    resumed = make_run(spec)
    resumed.restore(checkpoint.latest([tmp_path], {})[0])
    resumed.train(lambda run: None)
    assert resumed.finish()[0] == whole.finish()[0]
