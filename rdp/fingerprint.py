"""Two of the four digests of a run's identity: the code that determines its numbers, and the stack it ran on.

The code digest is taken over syntax trees without comments and docstrings, of the training loop, the cell's
own method, its own architecture's family and all that these import: a reworded comment retrains nothing, a new
method's file retrains nothing else, a changed loop retrains everything.
"""

import ast
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp import data, digest, methods, models

if TYPE_CHECKING:
    from rdp.spec import RunSpec

# Imported by what trains, but unable to change a number: what they decide is in the spec or the data digest,
# or they only keep and tell. Golden runs (tests/test_golden.py) catch what this list gets wrong.
NEUTRAL = frozenset(
    f"rdp.{name}"
    for name in (
        "checkpoint",  # a resumed run is tested to be bitwise the undisturbed one
        "data",
        "data.dataset",
        "data.download",
        "data.index",
        "data.info",
        "data.listing",
        "data.prepared",
        "data.published",
        "data.workers",
        "digest",
        "errors",
        "files",
        "fingerprint",
        "migrations",
        "places",
        "progress",
        "spec",
        "store",
        "study",
        "study_file",
        "validation",
        "words",
    )
)
# What a module imports whose version can change a number, and is no part of the stack; and how it is distributed.
_LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "PIL": "pillow"}
_PACKAGE = Path(__file__).parent


@cache  # asked for every run of a study
def code_digest(method: str, architecture: str, dataset: str, *, tuned: bool = False, mixes: bool = False) -> str:
    """Digest of the modules that determine the numbers of a cell with this method, architecture and dataset.

    Of a family's list of architectures only the one in question counts: a new entry retrains no other. Where a
    family is built from timm's layers, timm's version counts; where images are streamed, so does that of what decodes
    them.

    Args:
        method, architecture, dataset: their names.
        tuned: whether a sweep chooses the learning rate, so that the rule of choice counts too.
        mixes: whether the recipe mixes examples.
    """
    arguments = models.architecture(architecture).arguments
    more = [name for name, used in (("rdp.tuning", tuned), ("rdp.mixing", mixes)) if used]
    names = modules(method, architecture, dataset) | _closure(more)
    found = [_modules_digest(tuple(sorted(names))), arguments]
    for library, distribution in _LIBRARIES.items():
        if any(library in _third_parties(name) for name in names):
            found.append([library, version(distribution)])
    return digest.of(found)


def code_of(spec: "RunSpec") -> str:
    """`code_digest` of a run."""
    how = {"tuned": spec.tuning is not None, "mixes": spec.recipe.mixes}
    return code_digest(spec.method, spec.architecture, spec.dataset, **how)


def module_digest(module: str) -> str:
    """Digest of one module and those it imports: the workflow makes what they make again when it changes."""
    return _modules_digest(tuple(sorted(_closure([module]))))


@cache
def package_digest() -> str:
    """Digest of every file of this package, to the last comment: of what may have made something that is kept."""
    found = {str(file.relative_to(_PACKAGE)): digest.of_file(file) for file in sorted(_PACKAGE.rglob("*.py"))}
    return digest.of(found)


def modules(method: str, architecture: str, dataset: str) -> set[str]:
    """The names of the modules that determine a cell's numbers."""
    family = models.architecture(architecture).module
    return _closure(["rdp.train", f"{methods.__name__}.{method}", family, data.loader(dataset)])


def _closure(pending: list[str]) -> set[str]:
    """The given modules and all they import of this package, but for those that cannot change a number."""
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found and name not in NEUTRAL:
            found.add(name)
            pending.extend(_imports(name))
    return found


def _file(module: str) -> Path | None:
    """The file of a module of this package; None for a name that is not a module (an imported function)."""
    stem = _PACKAGE.joinpath(*module.split(".")[1:])
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that ``module`` imports anywhere, its own parent packages included."""
    names = {module.rpartition(".")[0]}
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(name for name in names if name.startswith("rdp.") and _file(name))


@cache
def _third_parties(module: str) -> set[str]:
    """The packages outside this one that a module imports."""
    names = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - {"rdp"}


@cache
def _modules_digest(names: tuple[str, ...]) -> str:
    return digest.of({name: skeleton(_tree(name)) for name in names})


def skeleton(node: Any) -> Any:
    """A syntax tree as nested lists, without docstrings, positions and empty fields.

    ``ast.dump`` prints the empty fields that one Python version has and the next has not; leaving them out
    makes the result the same on every version; so does leaving out the empty text at the end of a format
    specification, which some have.
    """
    if isinstance(node, ast.AST):
        fields = []
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list):
                value = [item for item in _without_docstring(value) if not _lists_architectures(item)]
            if name == "values" and isinstance(node, ast.JoinedStr):
                value = [part for part in value if getattr(part, "value", None) != ""]
            if value is None or value == [] or name in {"ctx", "kind", "type_comment", "type_ignores"}:
                continue
            fields.append([name, skeleton(value)])
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [skeleton(item) for item in node]
    # Floats, bytes and the like must not look like a text that reads the same.
    return node if isinstance(node, str | int | bool) else [type(node).__name__, repr(node)]


def _lists_architectures(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "ARCHITECTURES"
    )


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text and isinstance(first.value.value, str) else body


def stack(device: str) -> dict[str, str]:
    """What computes: libraries whose versions can change a bit, device kind, and instruction set.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    import torch

    found = {name: version(name) for name in ("torch", "numpy")}
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
    else:
        # Kernels choose their blocking, and so the order of sums, by the processor's model and caches.
        found["device"] = _processor()
        found["instructions"] = torch.backends.cpu.get_cpu_capability()
    return found


@cache
def _processor() -> str:
    fields = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    name = fields.get("model name") or platform.processor() or platform.machine()
    known = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return ", ".join([name, *known])
