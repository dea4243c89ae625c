"""Two of the four digests of a run identity: the code that determines its numbers, and the stack it ran on.

The code digest is taken over content: the syntax trees of the training loop, the cell's method, its architecture's
family and everything these import, without comments, docstrings and annotations. An import of a module of this package
counts as that module's content, not as its path. So rewording, typing or moving a file retrains nothing, a new method
retrains nothing else, and a changed training loop retrains everything.
"""

import ast
import platform
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import TYPE_CHECKING

from rdp import data, models
from rdp.store.skeleton import parse, skeleton, without_docstring
from rdp.utils import digest, extensions

if TYPE_CHECKING:
    from rdp.spec import RunSpec

# Packages and modules that the training code imports and that cannot change a number: the spec or the data digest
# covers what they decide, or they only read, write and report. tests/test_golden.py catches wrong entries.
NEUTRAL_PACKAGES = frozenset({"rdp.data.sources", "rdp.spec", "rdp.store", "rdp.study"})
NEUTRAL = NEUTRAL_PACKAGES | {
    "rdp.data",
    "rdp.data.catalogue",
    "rdp.data.dataset",
    "rdp.data.download",
    "rdp.data.index",
    "rdp.data.class_folders",
    "rdp.data.prepared",
    "rdp.data.published",
    "rdp.data.workers",
    "rdp.errors",
    "rdp.methods.schedules",
    "rdp.models.families",
    "rdp.training.checkpoint",  # a resumed run is tested to be bitwise equal to the undisturbed one
    "rdp.utils.digest",
    "rdp.utils.extensions",
    "rdp.utils.files",
    "rdp.utils.humanize",
    "rdp.utils.paths",
    "rdp.utils.validation",
}
# Libraries whose version can change a number and is not part of the stack, with the names of their distributions.
_LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "PIL": "pillow"}
_STACK = ("torch", "numpy")
_PACKAGE = Path(__file__).parents[1]
_installed = cache(packages_distributions)  # reads the metadata of every installed distribution
_EXTENDED = {package: kind for kind, package in extensions.PACKAGES.items()}


@cache  # called for every run of a study
def code_digest(
    method: str, architecture: str, dataset: str, *, tuned: bool = False, mixes: bool = False, compiled: bool = False
) -> str:
    """Digest of the modules that determine the numbers of a cell.

    Only the arguments of the cell's own architecture count, so a new entry in a family's list retrains no other. The
    version of timm counts for families that use its layers, and the versions of torchvision and Pillow for streamed
    images.

    Args:
        method, architecture, dataset: names.
        tuned: whether the run has a sweep, so that the rule of choice counts too.
        mixes: whether the recipe mixes examples.
        compiled: whether the network is compiled.
    """
    uses = {"rdp.jobs.tuning": tuned, "rdp.training.mixup": mixes, "rdp.training.compilation": compiled}
    optional = [name for name, used in uses.items() if used]
    names = modules(method, architecture, dataset) | _closure(optional)
    return digest.of([_content(names), models.architecture(architecture).arguments, _versions(names)])


def code_of(spec: "RunSpec") -> str:
    """`code_digest` of a run."""
    options = {"tuned": spec.tuning is not None, "mixes": spec.recipe.mixes, "compiled": spec.recipe.compile}
    return code_digest(spec.method, spec.architecture, spec.dataset, **options)


def module_digest(module: str) -> str:
    """Digest of one module and its imports. The workflow reruns a rule when the digest of its code changes."""
    return _content(_closure([module]))


@cache
def package_digest() -> str:
    """Digest of every file of this package, comments included."""
    return digest.of({str(file.relative_to(_PACKAGE)): digest.of_file(file) for file in sorted(_PACKAGE.rglob("*.py"))})


def modules(method: str, architecture: str, dataset: str) -> set[str]:
    """The names of the modules that determine a cell's numbers."""
    family = models.architecture(architecture).module
    schedule = f"{extensions.PACKAGES['methods']}.{method}"
    return _closure(["rdp.training.trainer", schedule, family, data.batches_module(dataset)])


def neutral(module: str) -> bool:
    """Whether a module of this package cannot change a number."""
    return module in NEUTRAL or any(module.startswith(f"{package}.") for package in NEUTRAL_PACKAGES)


def _closure(roots: Iterable[str]) -> set[str]:
    """The given modules and all modules of this package they import, except neutral ones and packages without code."""
    pending, reached = list(roots), set()
    while pending:
        name = pending.pop()
        if name not in reached and not neutral(name):
            reached.add(name)
            pending.extend(_imports(name))
    return {name for name in reached if without_docstring(_tree(name).body)}


@cache
def _file(module: str) -> Path | None:
    """The file of a module of this package, or None if the name is not a module (an imported function, say)."""
    package, _, name = module.rpartition(".")
    own = _PACKAGE.joinpath(*package.split(".")[1:])
    for folder in (own, *extensions.folders(_EXTENDED[package])) if package in _EXTENDED else (own,):
        for file in (folder / f"{name}.py", folder / name / "__init__.py"):
            if file.is_file():
                return file
    return None


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    assert file is not None, module
    return parse(file.read_text(encoding="utf-8"))


@cache
def _imported(module: str) -> frozenset[str]:
    """The names of what a module imports anywhere, and of the modules that it is imported from."""
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
            names.add(source)
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that ``module`` imports anywhere, its parent package included."""
    names = {module.rpartition(".")[0], *_imported(module)}
    return frozenset(name for name in names if name.startswith("rdp.") and _file(name))


def _third_parties(module: str) -> set[str]:
    """The top-level packages outside this one that a module imports."""
    return {name.partition(".")[0] for name in _imported(module)} - {"rdp"}


def _versions(names: set[str]) -> list[list[str]]:
    """Name and version of each library that can change a number: a known one, or any that an extension imports.

    Of modules that belong to no installed distribution, such as those of a project in development, the content counts.
    """
    used = {library for name in names for library in _third_parties(name) if library in _LIBRARIES}
    distributions = {_LIBRARIES[library] for library in used}
    own = [name for name in names if (file := _file(name)) and not file.is_relative_to(_PACKAGE)]
    outside = {library for name in own for library in _third_parties(name)} - sys.stdlib_module_names - {*_STACK}
    installed = _installed() if outside else {}
    distributions.update(name for library in outside for name in installed.get(library, ()))
    uninstalled = outside - installed.keys()
    return [[name, version(name)] for name in sorted(distributions)] + [
        [name, _source(name)] for name in sorted(uninstalled)
    ]


def _source(library: str) -> str:
    """Digest of the Python files of a top-level module or package."""
    if (spec := find_spec(library)) is None:
        return ""  # an optional import; others fail where the module is loaded
    folders = map(Path, spec.submodule_search_locations or ())
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))] or [Path(spec.origin or "")]
    return digest.of([digest.of_file(file) for file in files if file.is_file()])


@cache
def _blank(module: str) -> str:
    """Digest of a module in which an import of this package counts as the imported name alone."""
    return digest.of(skeleton(_tree(module), lambda name: "" if _file(name) else None))


@cache
def _whole(module: str) -> str:
    """Digest of a module in which an import of this package counts as the content of the module it leads to."""

    def content(name: str) -> str | None:
        if not _file(name):
            return None
        return "" if neutral(name) else _blank(name)

    return digest.of(skeleton(_tree(module), content))


def _content(names: Iterable[str]) -> str:
    return digest.of(sorted(_whole(name) for name in names))


def stack_of(spec: "RunSpec", device: str) -> dict[str, str]:
    """`stack` of a run: of a compiled network also the compiler, without which it raises `UserError`."""
    if not spec.recipe.compile:
        return stack(device)
    from rdp.training.compilation import compiler

    return stack(device) | compiler(device)


def stack(device: str) -> dict[str, str]:
    """Versions of the libraries that can change a bit, the device, and the instruction set."""
    import torch

    content = {name: version(name) for name in _STACK}
    if device == "cuda":
        content["device"] = torch.cuda.get_device_name()
        content["cuda"] = str(torch.version.cuda)
        content["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call] # torch does not annotate it
    else:
        # Kernels choose their blocking, and so the order of sums, by the processor's model and caches.
        content["device"] = _processor()
        content["instructions"] = torch.backends.cpu.get_cpu_capability()
    return content


@cache
def _processor() -> str:
    fields = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return ", ".join([name, *numbers])
