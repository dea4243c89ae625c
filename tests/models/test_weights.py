"""Weights: files that timm loads with strict names, and released weights as a start."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import rdp
from rdp.errors import UserError
from rdp.models import weights
from tests.helpers.tiny import gaussian


def equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def vit(**options) -> nn.Module:
    return timm.create_model("test_vit", img_size=32, num_classes=5, **options)


def resnet(**options) -> nn.Module:
    return timm.create_model("test_resnet", num_classes=5, **options)


def train(model: nn.Module, schedule: rdp.Schedule, steps: int = 4) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(steps):
        x, y = gaussian(8, 3, 32, 32, seed=step), torch.arange(8) % 5
        with schedule.iteration(step):
            nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


class TestSaving:
    @pytest.mark.parametrize("build", [vit, resnet])
    def test_timm_loads_a_trained_model_with_strict_names(self, tmp_path, build):
        model = build()
        with rdp.ResidualDropPath(model, rate=0.3) as schedule:
            train(model, schedule)
            within = rdp.save_weights(model, tmp_path / "within.safetensors")
        after = rdp.save_weights(model, tmp_path / "after.safetensors")
        assert not equal(model, build())
        for path in (within, after):
            assert equal(build(checkpoint_path=str(path)), model)

    @pytest.mark.parametrize("build", [vit, resnet])
    @pytest.mark.parametrize(("path", "options"), [("plain", {}), ("pnnh", {}), ("pnnh", {"variant": "sum"})])
    def test_a_model_of_another_path_is_loaded_once_it_is_built_so(self, tmp_path, build, path, options):
        model = rdp.set_path(build(), path, seed=1, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * gaussian(*parameter.shape)
        file = rdp.save_weights(model, tmp_path / "model.safetensors")
        again = rdp.set_path(build(), path, **options)
        assert not equal(again, model)
        timm.models.load_checkpoint(again, str(file))
        assert equal(again, model)

    def test_a_folded_model_is_plain_tensors(self, tmp_path):
        folded = rdp.fuse(rdp.set_path(vit(), "pnnh"))
        file = rdp.save_weights(folded, tmp_path / "fast.safetensors")
        names = load_file(file).keys()
        assert not any("skew" in name for name in names)
        assert names == folded.state_dict().keys()

    @pytest.mark.parametrize(
        "wrap", [nn.DataParallel, pytest.param(torch.compile, marks=pytest.mark.slow)], ids=["parallel", "compiled"]
    )
    def test_what_wraps_a_model_leaves_no_trace(self, tmp_path, wrap):
        model = resnet()
        file = rdp.save_weights(nn.DataParallel(wrap(model)), tmp_path / "wrapped.safetensors")
        assert equal(resnet(checkpoint_path=str(file)), model)

    def test_a_tensor_of_two_names_is_there_under_both(self, tmp_path):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        found = load_file(rdp.save_weights(model, tmp_path / "tied.safetensors"))
        assert torch.equal(found["0.weight"], found["1.weight"])

    def test_bad_input_leaves_no_file(self, tmp_path):
        with pytest.raises(UserError, match=r"model.pth: the name must end in .safetensors"):
            rdp.save_weights(vit(), tmp_path / "model.pth")
        with pytest.raises(UserError, match="extra: expected a state_dict of tensors, got a value of type dict"):
            weights.write_weights({"extra": {}}, tmp_path / "model.safetensors")
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written"):
            rdp.save_weights(vit(), tmp_path / "file" / "model.safetensors")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def released(tmp_path):
    """A checkpoint as a hub has it: of a model that was trained elsewhere."""
    torch.manual_seed(5)
    model = resnet()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # timm starts some gains at 0, and no trained one is there
                module.weight.uniform_(0.5, 1.5)
                module.running_mean.normal_(std=0.1)
    torch.save(model.state_dict(), tmp_path / "released.pth")
    return model, tmp_path / "released.pth"


def hub(file: Path) -> dict:
    """What timm is told in place of an address."""
    return {"file": str(file), "num_classes": 5}


class TestReleasedCheckpoints:
    def test_a_schedule_trains_on_from_them_and_leaves_them_where_nothing_was_trained(self, released):
        model, file = released
        mine = resnet(pretrained=True, pretrained_cfg_overlay=hub(file))
        assert equal(mine, model)
        x = gaussian(4, 3, 32, 32)
        with rdp.ResidualDropPath(mine, rate=0.3) as schedule:
            assert equal(mine, model)
            assert torch.equal(mine.eval()(x), model.eval()(x))
            mine.train()
            train(mine, schedule)
        assert not equal(mine, model)
        assert type(mine.layer1[0]) is type(model.layer1[0])

    @pytest.mark.parametrize("how", ["model", "state_dict", "pth", "safetensors"])
    def test_a_plain_model_has_all_but_the_shortcuts(self, released, tmp_path, how):
        model, file = released
        source = {"model": model, "state_dict": model.state_dict(), "pth": file}
        source["safetensors"] = rdp.save_weights(model, tmp_path / "released.safetensors")
        plain = rdp.set_path(resnet(), "plain")
        start = rdp.start_from(plain, source[how])
        assert start.missing == ()
        assert start.unexpected
        assert all(".downsample." in name for name in start.unexpected)
        own, theirs = plain.state_dict(), model.state_dict()
        assert set(start.loaded) == own.keys()
        assert all(torch.equal(own[name], theirs[name]) for name in start.loaded)

    def test_set_path_keeps_all_weights_but_the_gains(self, released):
        model, file = released
        plain = rdp.set_path(resnet(pretrained=True, pretrained_cfg_overlay=hub(file)), "plain")
        own, theirs = plain.state_dict(), model.state_dict()
        changed = {name for name in own if not torch.equal(own[name], theirs[name])}
        assert changed
        assert all(name.endswith(("bn2.weight", "bn3.weight")) for name in changed)
        assert all((own[name] == 1).all() for name in changed)

    def test_a_pnnh_resnet_keeps_stem_head_and_what_changes_the_resolution(self, released):
        model, _ = released
        pnnh = rdp.set_path(resnet(), "pnnh", seed=3)
        fresh = rdp.set_path(resnet(), "pnnh", seed=3).state_dict()
        start = rdp.start_from(pnnh, model)
        own, theirs = pnnh.state_dict(), model.state_dict()
        assert {"conv1.0.weight", "layer3.0.conv2.weight", "fc.weight"} < set(start.loaded)
        assert all(torch.equal(own[name], theirs[name]) for name in start.loaded)
        assert any("coders" in name for name in start.missing)
        assert any("learner" in name for name in start.missing)
        assert all(torch.equal(own[name], fresh[name]) for name in start.missing)

    def test_a_pnnh_transformer_keeps_embedding_position_norm_and_head(self):
        start = rdp.start_from(rdp.set_path(vit(), "pnnh"), vit())
        assert {name.split(".")[0] for name in start.loaded} == {
            "cls_token",
            "pos_embed",
            "patch_embed",
            "norm",
            "head",
        }
        assert {name.split(".")[0] for name in start.missing} == {"blocks"}

    def test_a_head_of_other_classes_stays_new(self, released):
        model, _ = released
        mine = timm.create_model("test_resnet", num_classes=3)
        start = rdp.start_from(mine, model)
        assert set(start.missing) == set(start.unexpected) == {"fc.weight", "fc.bias"}

    def test_weights_that_fit_nowhere_are_refused_and_the_model_is_left(self, released):
        model, _ = released
        mine, same = vit(), vit()
        same.load_state_dict(mine.state_dict())
        with pytest.raises(UserError, match="VisionTransformer: no weight fits by name and shape"):
            rdp.start_from(mine, model)
        assert equal(mine, same)

    @pytest.mark.parametrize("damage", ["absent", "text", "truncated", "nothing"])
    def test_a_file_without_weights_is_named(self, released, tmp_path, damage):
        _, file = released
        path = tmp_path / "bad.pth"
        if damage == "text":
            path.write_text("no weights")
        elif damage == "truncated":
            path.write_bytes(file.read_bytes()[:1000])
        elif damage == "nothing":
            torch.save({"epoch": 3}, path)
        with pytest.raises(UserError, match=r"bad\.pth: "):
            rdp.start_from(resnet(), path)

    def test_what_a_file_would_execute_is_refused(self, tmp_path):
        torch.save(vit(), tmp_path / "whole.pth")  # a pickle of classes
        with pytest.raises(UserError, match=r"whole\.pth: not readable as weights"):
            rdp.start_from(vit(), tmp_path / "whole.pth")
