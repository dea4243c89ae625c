"""Checkpoints are read bit for bit, and a damaged one is named and skipped."""

import resource

import pytest
import torch

from rdp.errors import UserError
from rdp.training import checkpoint
from rdp.training.checkpoint import Checkpoint

IDENTITY = {"spec": "a" * 64, "data": "b" * 64, "code": "c" * 64, "stack": "d" * 64}


def make(step: int, identity: dict[str, str] = IDENTITY, size: int = 5) -> Checkpoint:
    tensors = {
        "network/w": torch.full((size, 3), float(step)),
        "network/count": torch.tensor(step),
        "optimizer/0/momentum_buffer": torch.tensor([1e-40, float("nan"), -0.0, float("inf")]),
        "empty": torch.zeros(0, 2),
    }
    return Checkpoint(step, identity, tensors, {"history": [{"loss": 0.1 + 0.2}], "note": None})


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints are equal to the last bit."""
    bits = [{name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in c.tensors.items()} for c in (one, other)]
    return bits[0] == bits[1] and all(
        getattr(one, field) == getattr(other, field) for field in ("step", "identity", "state")
    )


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_checkpoint_is_read_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path, make(7))
    found, damaged = checkpoint.latest([tmp_path], IDENTITY)
    assert same(found, make(7))
    assert damaged == []


def test_noncontiguous_tensors_are_read_unchanged(tmp_path):
    kernel = torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path, Checkpoint(1, IDENTITY, {"kernel": kernel, "view": kernel[:, 1]}, {}))
    found, _ = checkpoint.latest([tmp_path], IDENTITY)
    assert torch.equal(found.tensors["kernel"], kernel)
    assert torch.equal(found.tensors["view"], kernel[:, 1])


def test_without_a_checkpoint_the_result_is_none(tmp_path):
    assert checkpoint.latest([tmp_path, tmp_path / "absent"], IDENTITY) == (None, [])
    assert checkpoint.latest([], IDENTITY) == (None, [])


def test_the_newest_two_stay(tmp_path):
    steps = (5, 10, 100, 101)
    for number, step in enumerate(steps):
        checkpoint.save(tmp_path, make(step))
        assert names(tmp_path) == [f"checkpoint-{s:09d}.safetensors" for s in steps[max(number - 1, 0) : number + 1]]


def test_if_the_newest_is_damaged_the_other_is_used(tmp_path, flip_byte):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, make(step))
    flip_byte(tmp_path / "checkpoint-000000003.safetensors", -1)
    found, damaged = checkpoint.latest([tmp_path], IDENTITY)
    assert same(found, make(2))
    assert "checkpoint-000000003" in damaged[0]


def test_the_furthest_of_several_attempts_is_used(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, step in zip(folders, (20, 300, 4), strict=True):
        folder.mkdir()
        checkpoint.save(folder, make(step))
    assert checkpoint.latest(folders, IDENTITY)[0].step == 300


@pytest.mark.parametrize("part", list(IDENTITY))
def test_a_checkpoint_of_another_identity_is_skipped_without_a_message(part, tmp_path):
    for name, step, identity in (("a", 9, IDENTITY | {part: "e" * 64}), ("b", 4, IDENTITY)):
        (tmp_path / name).mkdir()
        checkpoint.save(tmp_path / name, make(step, identity))
    found, damaged = checkpoint.latest([tmp_path / "a", tmp_path / "b"], IDENTITY)
    assert (found.step, damaged) == (4, [])


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "not a checkpoint"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(damage, tmp_path, flip_byte):
    for name, step in (("a", 9), ("b", 4)):
        (tmp_path / name).mkdir()
        checkpoint.save(tmp_path / name, make(step))
    path = tmp_path / "a" / "checkpoint-000000009.safetensors"
    if damage == "flipped":
        flip_byte(path, -1)
    else:
        content = {"truncated": path.read_bytes()[:-1], "empty": b"", "not a checkpoint": b"text" * 100}
        path.write_bytes(content[damage])
    found, damaged = checkpoint.latest([tmp_path / "a", tmp_path / "b"], IDENTITY)
    assert same(found, make(4))
    assert len(damaged) == 1
    assert str(path) in damaged[0]
    assert "\n" not in damaged[0]


def test_no_flipped_bit_gives_a_wrong_checkpoint(tmp_path, flip_byte):
    checkpoint.save(tmp_path, make(9))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    named, places = 0, range(0, len(whole), 3)
    for position in places:
        flip_byte(path, position, 1 << position % 8)
        found, damaged = checkpoint.latest([tmp_path], IDENTITY)
        if found is None:
            assert str(path) in damaged[0]
            named += 1
        else:  # blank space that pads the header
            assert same(found, make(9))
        path.write_bytes(whole)
    assert named > 0.97 * len(places)


class TestTheOneBefore:
    """It is kept until the next is whole."""

    @pytest.fixture
    def saved(self, tmp_path):
        checkpoint.save(tmp_path, make(1))
        return tmp_path

    def check(self, folder) -> None:
        assert names(folder) == ["checkpoint-000000001.safetensors"]
        assert same(checkpoint.latest([folder], IDENTITY)[0], make(1))

    def test_when_the_state_cannot_be_written_as_json(self, saved):
        with pytest.raises(ValueError, match="JSON"):
            checkpoint.save(saved, Checkpoint(2, IDENTITY, {}, {"loss": float("nan")}))
        self.check(saved)

    def test_when_the_disk_is_full(self, saved):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(UserError, match=r"checkpoint-000000002.safetensors: .*[Ff]ile too large"):
                checkpoint.save(saved, make(2, size=1000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.check(saved)

    def test_when_a_killed_job_left_a_partial_file(self, saved):
        whole = (saved / "checkpoint-000000001.safetensors").read_bytes()
        (saved / ".checkpoint-000000002.safetensors.1.part").write_bytes(whole[: len(whole) // 2])
        found, damaged = checkpoint.latest([saved], IDENTITY)
        assert (found.step, damaged) == (1, [])


def test_a_checkpoint_has_the_users_permissions(tmp_path):
    (tmp_path / "any").touch()
    checkpoint.save(tmp_path, make(1))
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
