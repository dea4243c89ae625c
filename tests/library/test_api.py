"""The public functions: found without torch, documented to the last argument, with examples that run."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys

import pytest

import rdp
from rdp import probes
from rdp.errors import UserError

FUNCTIONS = sorted(name for name in rdp.__all__ if name != "UserError")
MODULES = sorted({inspect.getmodule(getattr(rdp, name)).__name__ for name in FUNCTIONS})


def documented(text: str, section: str) -> str:
    """A section of a docstring in Google's style; empty where there is none."""
    found = re.search(rf"^{section}:\n((?:    .*\n|\n)+)", inspect.cleandoc(text) + "\n", re.M)
    return found[1] if found else ""


def test_the_package_loads_nothing_heavy_until_it_is_used():
    code = "import sys, rdp; print(sorted({'torch', 'timm', 'numpy', 'pydantic', 'pandas'} & {*sys.modules}), dir(rdp))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("[] ")
    assert all(f"'{name}'" in told for name in rdp.__all__)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'rdp' has no attribute 'ResidualDroppath'"):
        rdp.ResidualDroppath  # noqa: B018 (asking for it is the test)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented(name):
    function = getattr(rdp, name)
    told = documented(function.__doc__, "Args")
    for parameter in inspect.signature(function).parameters.values():
        entry = rf"^    [*]*{parameter.name}: \S"
        assert re.search(entry, told, re.M), f"{name}: no word about '{parameter.name}'"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_it_raises_is_documented(name):
    function = getattr(rdp, name)
    if name in {"list_models", "list_probes", "fuse"}:  # nothing to get wrong
        return
    assert "UserError:" in documented(function.__doc__, "Raises"), f"{name}: no word about what it raises"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_shows_an_example(name):
    if name == "load_model":  # its example needs a run: tests/library/test_exported.py
        return
    assert doctest.DocTestParser().get_examples(getattr(rdp, name).__doc__), f"{name}: no example"


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_hold(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted or module == "rdp.store.export"
    assert not found.failed


def test_every_probe_says_what_it_measures():
    for name in probes.available():
        module = probes.probe_module(name)
        assert module.MEASURES
        assert "Returns" in module.measure.__doc__


def test_bad_input_is_the_documented_error():
    for call, told in (
        (lambda: rdp.create_model("rsnet56"), "did you mean 'resnet56'"),
        (lambda: rdp.create_model("resnet20", path="plane"), "did you mean 'plain'"),
        (lambda: rdp.create_model("resnet20", variant="sum"), "a residual network has no option 'variant'"),
        (lambda: rdp.create_model("resnet20", input_shape=(2,)), "resnet20 reads images"),
        (lambda: rdp.make_method("droppath", rate=2), "rate"),
        (lambda: rdp.probe("cka", None, None), "unknown probe 'cka'"),
    ):
        with pytest.raises(UserError, match=told):
            call()
