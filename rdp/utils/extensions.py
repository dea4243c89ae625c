"""Extensions: the user's own methods, architectures, datasets, probes, metrics, figures and claims.

They lie outside this package, one file each, and follow the same contracts as the package's own:

- in ``extensions/KIND/`` of the working directory, or
- in the folders ``KIND/`` of an installed package that declares an entry point in the group ``rdp.extensions``.

A package of ours that holds one kind also searches these folders (`search_path`), so ``extensions/methods/mine.py``
is the module ``rdp.methods.schedules.mine``. A file whose name begins with an underscore is a helper: it can be
imported and is not listed.
"""

import ast
import importlib
import importlib.util
import pkgutil
import re
import traceback
from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from rdp.errors import UserError

GROUP = "rdp.extensions"

# The package that searches the folders of each kind. Claims are YAML files, so no package holds them.
PACKAGES = {
    "methods": "rdp.methods.schedules",
    "architectures": "rdp.models.families",
    "datasets": "rdp.data.sources",
    "probes": "rdp.probes.measures",
    "metrics": "rdp.claims.metrics",
    "figures": "rdp.report.plots",
}
KINDS = (*PACKAGES, "claims")


@cache
def folders(kind: str) -> tuple[Path, ...]:
    """Return the existing folders of one kind: the working directory's, then those of packages by entry point name.

    Raises:
        UserError: an entry point does not name an installed package.
    """
    roots = (Path("extensions").absolute(), *_packages())
    return tuple(folder for root in roots if (folder := root / kind).is_dir())


@cache  # once for all kinds: the search reads the metadata of every installed distribution
def _packages() -> tuple[Path, ...]:
    """The folders of packages with an entry point, by its name."""
    packages: list[Path] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            spec = importlib.util.find_spec(entry.value)
        except ImportError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"entry point {entry.name} in {GROUP}: {entry.value} is not an installed package")
        packages += map(Path, spec.submodule_search_locations)
    return tuple(packages)


def search_path(own: Iterable[str], kind: str) -> list[str]:
    """Return the ``__path__`` of a package of ours, with the user's folders of that kind after its own."""
    return [*own, *map(str, folders(kind))]


def modules(package: ModuleType) -> dict[str, Path]:
    """Return the files of a package and of its extensions by module name, without importing them.

    Raises:
        UserError: a name is not in lower case, or two folders hold files of the same name.
    """
    files: dict[str, Path] = {}
    for folder in map(Path, package.__path__):
        for name in sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg):
            file = folder / f"{name}.py"
            if name in files:
                raise UserError(f"{file}: the name is taken by {files[name]}; rename the file")
            if not re.fullmatch("[a-z_][a-z0-9_]*", name):
                raise UserError(f"{file}: rename the file to lower-case letters, digits and underscores")
            if not name.startswith("_"):
                files[name] = file
    return files


def load(name: str, *required: str) -> ModuleType:
    """Import a module that may be an extension and must define the ``required`` names.

    Raises:
        UserError: an extension fails to import, or lacks a required name. Modules of this package raise their errors.
    """
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if file := _extension_file(name):
            raise UserError(f"{file}: {_describe(error, file)}") from error
        raise
    for attribute in required:
        if not hasattr(module, attribute):
            raise UserError(f"{module.__file__}: defines no {attribute}")
    return module


def claims() -> list[Path]:
    """Return the user's files of claims."""
    return [file for folder in folders("claims") for file in sorted(folder.glob("*.yaml"))]


def literals(file: Path, names: Collection[str]) -> dict[str, Any]:
    """Return the values that a file assigns to the given names at module level, without running the file.

    Raises:
        UserError: the file is not Python, or a value is not a literal.
    """
    values: dict[str, Any] = {}
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{file}: {_describe(error, file)}") from None
    for node in body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if name in names:
                try:
                    values[name] = ast.literal_eval(value)
                except ValueError:
                    raise UserError(f"{file}: {name} must be a literal: it is read without running the file") from None
    return values


def _extension_file(module: str) -> Path | None:
    package, _, name = module.rpartition(".")
    kinds = [kind for kind, holder in PACKAGES.items() if holder == package]
    files = (folder / f"{name}.py" for kind in kinds for folder in folders(kind))
    return next(filter(Path.is_file, files), None)


def _describe(error: Exception, file: Path) -> str:
    """Return an error's type and message, after the last line of the file in its traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{f'line {lines[-1]}: ' if lines else ''}{type(error).__name__}: {error}"
