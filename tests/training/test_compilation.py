"""Compiled runs: the numbers of uncompiled ones up to rounding, bitwise resume, a bounded number of compilations."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from rdp.errors import UserError
from rdp.jobs import parallel
from rdp.store import Store, fingerprint
from rdp.training import checkpoint, compilation
from rdp.training.checkpoint import Checkpoint
from rdp.training.trainer import Trainer
from rdp.utils import digest

IMAGES = {"architecture": "resnet20", "dataset": "digits", "batch_size": 16, "train_size": 160, "epochs": 1}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Code that earlier processes compiled is not used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        yield
    torch._dynamo.reset()


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Traces and counts in place of compiling, which takes seconds for each form of a block."""
    counter, compile_module = CompileCounterWithBackend("aot_eager"), nn.Module.compile

    def compile_with(module: nn.Module, *, options: dict, **rest) -> None:
        compile_module(module, backend=counter, **rest)

    monkeypatch.setattr(nn.Module, "compile", compile_with)
    return counter


class Stop(Exception):
    """Raised where a job would be killed."""


def train(run: Trainer) -> dict:
    run.train(lambda run: None)
    numbers, predictions, _ = run.finish()
    return numbers | {name: found.tolist() for name, found in predictions.items()}


def losses(run: Trainer, steps: int) -> list[float]:
    """The losses of the first steps of a run."""
    for _ in range(steps):
        run.train_step()
        run.step += 1
    return run.state()[0]["losses"][:steps].tolist()


METHODS = {
    "vanilla": ("vanilla", {}, {}),
    "plain": ("plain", {}, {}),
    "pnnh": ("pnnh", {}, {}),
    "one mask per example": ("droppath", {"rate": 0.5}, {}),
    "frozen branches": ("random_freeze", {"rate": 0.5}, {"accumulate": 2}),
    "dropped and frozen branches": ("residual_droppath", {"rate": 0.5}, {"ema": 0.9}),
    "norms by running statistics": ("residual_droppath", {"rate": 0.5, "frozen_norm": "eval"}, {}),
    "norms by batch statistics": ("residual_droppath", {"rate": 0.5, "frozen_norm": "batch"}, {}),
    "unscaled branches": ("residual_droppath", {"rate": 0.5, "scaling": "none", "train_rest": True}, {}),
}


@pytest.mark.parametrize(("method", "options", "recipe"), METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("architecture", ["resnet20", "vit_micro"])
@pytest.mark.slow
def test_a_traced_network_trains_as_an_untraced_one(
    architecture, method, options, recipe, counter, make_spec, make_run
):
    recipe = IMAGES | {"architecture": architecture} | recipe
    expected, traced = (make_run(make_spec(method, options, **recipe, compile=on)) for on in (False, True))
    assert losses(traced, 8) == pytest.approx(losses(expected, 8), rel=1e-4)
    assert counter.frame_count > 0
    weights, reference = traced.network.state_dict(), expected.network.state_dict()
    assert list(weights) == list(reference)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, reference[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "recipe"),
    [
        ("vanilla", {}),
        ("vanilla", {"precision": "bfloat16", "channels_last": True, "ema": 0.5}),
        ("residual_droppath", {}),
        ("residual_droppath", {"precision": "bfloat16", "accumulate": 2}),
    ],
)
@pytest.mark.slow
def test_a_compiled_network_trains_as_an_uncompiled_one_and_resumes_bitwise(
    method, recipe, make_spec, make_run, tmp_path
):
    make = {False: {}, True: {"compile": True}}
    options = {"rate": 0.5} if method != "vanilla" else {}
    specs = {on: make_spec(method, options, **recipe, **compiled) for on, compiled in make.items()}
    undisturbed = train(make_run(specs[True]))
    tolerance = 0.05 if "precision" in recipe else 1e-3
    for found, expected in zip(undisturbed["history"], train(make_run(specs[False]))["history"], strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=tolerance)
    for step in (1, 7, 10):  # between a drop and a recover iteration, and at the end of an epoch

        def stop(run: Trainer, step: int = step) -> None:
            if run.step == step:
                raise Stop

        run = make_run(specs[True])
        with pytest.raises(Stop):
            run.train(stop)
        checkpoint.save(tmp_path, Checkpoint(run.step, {}, *run.state()))
        torch._dynamo.reset()  # as in a new process, which compiles first what the run does next
        resumed = make_run(specs[True])
        resumed.restore(checkpoint.latest([tmp_path], {})[0])
        assert train(resumed) == undisturbed, step


@pytest.mark.slow
def test_a_compiled_convolutional_network_trains_as_an_uncompiled_one(make_spec, make_run):
    expected, compiled = (make_run(make_spec(**IMAGES, crop_padding=1, compile=on)) for on in (False, True))
    assert losses(compiled, 8) == pytest.approx(losses(expected, 8), rel=1e-3)


@pytest.mark.parametrize(
    ("architecture", "most"),
    [("mlp8", 10), ("mlp32", 10), *(pytest.param(f"resnet{n}", 32, marks=pytest.mark.slow) for n in (20, 56))],
)
@pytest.mark.slow
def test_the_number_of_compilations_does_not_grow_with_depth_or_masks(architecture, most, counter, make_spec, make_run):
    small = IMAGES if architecture.startswith("resnet") else {"architecture": architecture, "epochs": 6}
    run = make_run(make_spec("residual_droppath", {"rate": 0.5}, **small | {"learning_rate": 1e-3}, compile=True))
    masks = {run.iteration(step).trained.tobytes() for step in range(60)}
    losses(run, 10) if small is IMAGES else run.train(lambda run: None)
    assert 0 < counter.frame_count <= most < len(masks)


@pytest.mark.parametrize("method", ["vanilla", "residual_droppath"])
def test_networks_of_other_seeds_compile_nothing(method, counter, make_spec, make_run):
    train(make_run(make_spec(method, epochs=3, compile=True)))
    compiled = counter.frame_count
    assert (compiled == 1) == (method == "vanilla")  # a network of which nothing is dropped is compiled as a whole
    for seed in (1, 2):
        train(make_run(make_spec(method, epochs=3, seed=seed, compile=True)))
    assert counter.frame_count <= compiled + (method != "vanilla")  # a rare form may be new


@pytest.mark.parametrize("method", ["vanilla", "residual_droppath"])
def test_evaluation_is_uncompiled_and_names_are_those_of_the_network(method, counter, make_spec, make_run):
    plain, compiled = (make_run(make_spec(method, compile=on)) for on in (False, True))
    first, other = (run.evaluate("test") for run in (plain, compiled))
    assert counter.frame_count == 0
    assert (first.loss, first.predictions.tolist()) == (other.loss, other.predictions.tolist())
    train(compiled)
    assert counter.frame_count > 0
    weights = compiled.finish()[2]
    assert weights.keys() == plain.network.state_dict().keys() == compiled.network.state_dict().keys()
    assert not any("_orig_mod" in name for name in compiled.state()[0])
    seen = counter.frame_count
    assert compiled.evaluate("validation").loss is not None
    assert counter.frame_count == seen


def test_more_forms_than_the_limit_are_an_error(counter, make_spec, make_run, monkeypatch):
    monkeypatch.setattr(compilation, "_FORMS", 2)
    run = make_run(make_spec("residual_droppath", {"rate": 0.5}, compile=True))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        losses(run, 10)


class TestIdentity:
    @pytest.fixture(autouse=True)
    def _no_known_compiler(self) -> Iterator[None]:
        compilation.compiler.cache_clear()
        yield
        compilation.compiler.cache_clear()

    def test_a_compiled_run_has_its_own_code_and_names_its_compiler(self, make_spec):
        plain, compiled = make_spec(), make_spec(compile=True)
        assert fingerprint.code_of(plain) != fingerprint.code_of(compiled)
        stack = fingerprint.stack_of(plain, "cpu")
        assert stack == fingerprint.stack("cpu")
        more = fingerprint.stack_of(compiled, "cpu")
        assert more.items() > stack.items()
        assert more.keys() - stack.keys() == {"compiler", "inductor"}
        assert any(character.isdigit() for character in more["compiler"])

    @pytest.mark.parametrize(
        ("name", "counts"), [("TORCHINDUCTOR_FREEZING", True), ("TORCHINDUCTOR_CACHE_DIR", False), ("PATH_X", False)]
    )
    def test_flags_of_the_compiler_count(self, name, counts, monkeypatch):
        before = compilation.compiler("cpu")
        compilation.compiler.cache_clear()
        monkeypatch.setenv(name, "1")
        assert (compilation.compiler("cpu") != before) == counts

    def test_the_record_holds_the_compilers_version(self, counter, make_spec, tmp_path):
        spec = make_spec("vanilla", epochs=1, compile=True)
        (record,) = parallel.run_job([spec], tmp_path, "cpu", cores=1)
        assert record.status == "completed", record.reason
        assert record.telemetry.stack == fingerprint.stack_of(spec, "cpu")
        assert record.identity.stack == digest.of(record.telemetry.stack)

    @pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "'"])
    @pytest.mark.parametrize("cores", [1, 2])
    def test_a_missing_compiler_is_reported_before_training(self, compiler, cores, make_spec, tmp_path, monkeypatch):
        monkeypatch.setenv("CXX", compiler)
        specs = [make_spec(seed=seed, compile=True) for seed in (0, 1)]
        with pytest.raises(
            UserError, match=r"^recipe: compile: true needs a C\+\+ compiler, and '.*' cannot be run;"
        ) as e:
            parallel.run_job(specs, tmp_path, "cpu", cores=cores)
        assert "\n" not in str(e.value)
        assert not list(Store(tmp_path).root.rglob("*.json"))


def test_a_command_reports_a_missing_compiler_in_one_line(run_python, study_content, write_study):
    study_content["recipe"]["compile"] = True
    file = Path(write_study(study_content))
    done = run_python("-m", "rdp.cli", "train", file.name, cwd=file.parent, CXX="no-such-compiler")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("rdp: recipe: compile: true needs a C++ compiler")
    assert os.environ.get("CXX") != "no-such-compiler"
