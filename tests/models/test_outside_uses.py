"""Branches whose layers compute something else too, and blocks with several branches of one value."""

import pytest
import torch
import transformers as tf
from torch import nn

import rdp
from rdp.errors import UserError


def layers(width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


class Attention(nn.Module):
    """Returns its output and the weights that it was computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        weights = (self.q(x) @ x.transpose(1, 2)).softmax(-1)
        return weights @ self.v(x), weights


class WithWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, x):
        output, weights = self.attention(x)
        return x + output, weights


class Stack(nn.Module):
    """Adds the mean of all attention weights to the output, or not."""

    def __init__(self, *, uses_weights: bool) -> None:
        super().__init__()
        self.blocks, self.uses_weights = nn.ModuleList(WithWeights() for _ in range(3)), uses_weights

    def forward(self, x):
        for block in self.blocks:
            x, weights = block(x)
        return x + weights.mean() if self.uses_weights else x


class Parallel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(8), layers(), layers()

    def forward(self, x):
        normed = self.norm(x)
        return x + self.attention(normed) + self.mlp(normed)


X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def schedule_of(model: nn.Module, **options) -> rdp.Schedule:
    return rdp.ResidualDropPath(model, rate=0.5, schedule="uniform", seed=1, **options)


def drop_steps(schedule: rdp.Schedule, *args, **kwargs) -> None:
    """Ten drop iterations, with the gradients of the sum of the model's output or of its loss."""
    for step in range(0, 20, 2):
        with schedule.iteration(step):
            output = schedule.model(*args, **kwargs)
            (output.sum() if isinstance(output, torch.Tensor) else output.loss).backward()
        schedule.model.zero_grad(set_to_none=True)


class TestWeightsThatAreReturned:
    @pytest.mark.parametrize("example", [None, X], ids=["", "example"])
    def test_a_branch_whose_weights_nothing_uses_is_a_unit(self, example):
        model = Stack(uses_weights=False)
        schedule = schedule_of(model, example=example)
        assert schedule.units == ["blocks.0", "blocks.1", "blocks.2"]
        drop_steps(schedule, X)

    def test_with_an_example_a_branch_whose_weights_are_used_is_left_out(self):
        with pytest.warns(UserWarning, match=r"1 WithWeights \(blocks\.2\)"):
            schedule = schedule_of(Stack(uses_weights=True), example=X)
        assert schedule.units == ["blocks.0", "blocks.1"]

    def test_without_an_example_it_is_refused_where_it_would_be_dropped(self):
        schedule = schedule_of(Stack(uses_weights=True))
        with pytest.raises(UserError, match=r"WithWeights: .* used outside of its branch too; pass an input"):
            drop_steps(schedule, X)


class Flat(nn.Module):
    """Computes attention in its own forward pass, and returns the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        weights = (self.q(x) @ x.transpose(1, 2)).softmax(-1)
        return x + self.out(weights @ self.v(x)), weights


def flat(*, uses_weights: bool) -> Stack:
    stack = Stack(uses_weights=uses_weights)
    stack.blocks = nn.ModuleList(Flat() for _ in range(3))
    return stack


LAYER = sum(p.numel() for p in nn.Linear(8, 8).parameters())


def owned(schedule: rdp.Schedule) -> list[int]:
    """The number of parameters of each unit."""
    return [sum(p.numel() for p in group.parameters) for group in schedule._units.groups[:-1]]


class TestValuesThatTheBlockReturns:
    def test_with_an_example_that_does_not_use_them_the_branch_owns_the_layers_that_compute_them(self):
        schedule = schedule_of(flat(uses_weights=False), example=X)
        assert owned(schedule) == [3 * LAYER] * 3
        drop_steps(schedule, X)

    def test_with_an_example_that_uses_them_it_does_not(self):
        schedule = schedule_of(flat(uses_weights=True), example=X)
        assert owned(schedule) == [3 * LAYER, 3 * LAYER, 2 * LAYER]
        drop_steps(schedule, X)

    def test_a_later_use_is_refused(self):
        schedule = schedule_of(model := flat(uses_weights=False), example=X)
        model.uses_weights = True
        with pytest.raises(UserError, match=r"Flat: .* used outside of its branch too"):
            drop_steps(schedule, X)

    def test_without_an_example_the_branch_does_not_own_them(self):
        schedule = schedule_of(flat(uses_weights=True))
        assert owned(schedule) == [2 * LAYER] * 3
        drop_steps(schedule, X)

    def test_a_dropped_branch_is_left_out_and_the_values_are_returned(self):
        model = flat(uses_weights=False)
        block = model.blocks[0]
        (_, weights), schedule = block(X), schedule_of(model, example=X, scaling="none")
        with schedule.iteration(0) as iteration:
            outputs = [(model.blocks[i](X), active) for i, active in enumerate(iteration.active)]
            model(X)
        assert not all(active for _, active in outputs)
        assert torch.equal(outputs[0][0][1], weights)
        for (output, _), active in outputs:
            assert torch.equal(output, X) is not active


class TestTransformers:
    tokens = torch.randint(1, 49, (2, 7), generator=torch.Generator().manual_seed(0))

    def model(self, kind: str, attention: str) -> nn.Module:
        config, model = {
            "albert": (tf.AlbertConfig, tf.AlbertForMaskedLM),
            "bloom": (tf.BloomConfig, tf.BloomForCausalLM),
        }[kind]
        sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 32, "num_hidden_groups": 2, "embedding_size": 8} if kind == "albert" else {}
        return model(config(**sizes, attn_implementation=attention)).train()

    @pytest.mark.parametrize(("kind", "attention"), [("albert", "eager"), ("albert", "sdpa"), ("bloom", "eager")])
    def test_the_attention_of_each_layer_owns_its_projections(self, kind, attention):
        model = self.model(kind, attention)
        schedule = schedule_of(model, example={"input_ids": self.tokens, "labels": self.tokens})
        blocks = [m for m in model.modules() if type(m).__name__ in {"AlbertAttention", "BloomBlock"}]
        expected = [_count_attention(block) for block in blocks]
        assert len(expected) == 2
        assert [n for name, n in zip(schedule.units, owned(schedule), strict=True) if "attention" in name] == expected
        drop_steps(schedule, input_ids=self.tokens, labels=self.tokens)

    def test_without_an_example_a_warning_names_what_cannot_be_traced(self):
        with pytest.warns(
            UserWarning, match=r"no units: 2 AlbertAttention \(.*; pass an input of the model as example"
        ):
            schedule_of(self.model("albert", "sdpa"))


def _count_attention(block: nn.Module) -> int:
    """The parameters of a block's attention: its linear layers, and Bloom's norm in front of them."""
    modules = [block.input_layernorm, block.self_attention] if hasattr(block, "self_attention") else block.children()
    return sum(p.numel() for m in modules if m is not getattr(block, "LayerNorm", None) for p in m.parameters())


def t5() -> nn.Module:
    config = tf.T5Config(
        vocab_size=100,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    return tf.T5ForConditionalGeneration(config).train()


class TestT5:
    """The first layer computes the bias of the attention of all layers."""

    tokens = torch.randint(1, 99, (2, 7), generator=torch.Generator().manual_seed(0))

    def test_with_an_example_only_the_layers_that_compute_it_are_left_out(self):
        example = {"input_ids": self.tokens, "labels": self.tokens}
        with pytest.warns(UserWarning, match=r"2 T5LayerSelfAttention \(encoder\.block\.0\.layer\.0, "):
            units = schedule_of(t5(), example=example).units
        assert not any(unit.endswith("block.0.layer.0") for unit in units)
        assert {"encoder.block.1.layer.0", "decoder.block.1.layer.0", "decoder.block.0.layer.1"} <= {*units}

    def test_without_an_example_it_is_refused_where_it_would_be_dropped(self):
        schedule = schedule_of(t5())
        with pytest.raises(UserError, match="used outside of its branch too; pass an input of the model as example"):
            drop_steps(schedule, input_ids=self.tokens, labels=self.tokens)


class TestSeveralBranchesOfOneValue:
    def test_each_is_a_unit(self):
        model = nn.Sequential(Parallel(), Parallel())
        schedule = schedule_of(model, scaling="none")
        assert schedule.units == ["0.attention", "0.mlp", "1.attention", "1.mlp"]
        assert not rdp.find_units(model, X).left_out
        with schedule.iteration(0) as iteration:
            output = model(X)
        x, active = X, iter(iteration.active)
        for block in model:
            normed = block.norm(x)
            for branch in (block.attention, block.mlp):
                x = x + branch(normed) if next(active) else x
        assert torch.allclose(output, x)

    def test_cohere_has_both_of_each_layer(self):
        config = tf.CohereConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
        )
        units = schedule_of(tf.CohereForCausalLM(config)).units
        assert len(units) == 4


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.m = layers(), layers()

    def forward(self, x):
        x = x + self.a(x)
        return torch.add(x, self.m(x), alpha=0.5)


class Mixed(nn.Module):
    """A second branch that is added where its class does not say."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop_path, self.m = layers(), nn.Dropout(0.0), layers()

    def forward(self, x):
        x = x + self.drop_path(self.a(x))
        return x + self.m(x)


class TestHintsOfFindUnits:
    def test_a_branch_that_no_registration_makes_a_unit_has_no_hint(self):
        (left, _) = rdp.find_units(nn.Sequential(Halved(), Halved()), X).left_out
        assert (left.kind, left.ends) == ("Halved", ())
        assert "register_block" not in str(left)

    def test_a_hint_names_the_ends_that_the_block_has_already(self):
        model = nn.Sequential(Mixed(), Mixed())
        found = rdp.find_units(model, X)
        assert found.units == ("0", "1")
        assert str(found.left_out[0]).endswith("; rdp.register_block(Mixed, 'drop_path', 'm') makes it a unit")
        rdp.register_block(Mixed, "drop_path", "m")
        assert rdp.find_units(model, X).units == ("0.drop_path", "0.m", "1.drop_path", "1.m")


class TwoStreams(nn.Module):
    """As in TNT: the first stream, which the block returns, leads to a branch of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop_path, self.m = layers(), nn.Dropout(0.0), layers()

    def forward(self, x, y):
        x = x + self.drop_path(self.a(x))
        return x, y + self.m(x)


class OfTwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TwoStreams() for _ in range(2))

    def forward(self, x):
        y = x
        for block in self.blocks:
            x, y = block(x, y)
        return x + y


def test_a_branch_that_starts_from_a_returned_value_is_named():
    with pytest.warns(UserWarning, match=r"nothing declares their ends: 2 TwoStreams \(blocks\.0, "):
        schedule = schedule_of(OfTwoStreams(), example=X)
    assert schedule.units == ["blocks.0", "blocks.1"]
    drop_steps(schedule, X)
