"""Extensions: methods, architectures, datasets, probes, metrics, figures and claims of the user's own.

They live outside this package, one file each, under the same contracts as its own:

- in ``extensions/<kind>/`` of the working directory, or
- in the folders ``<kind>/`` of an installed package that declares an entry point in the group ``rdp.extensions``.

A package of ours that holds one kind searches these folders too: ``__path__ = extensions.search_path(__path__, KIND)``.
So ``extensions/methods/mine.py`` is the module ``rdp.methods.schedules.mine``. Files whose names begin with an
underscore are helpers: they can be imported, and are not listed.
"""

import ast
import importlib.util
import pkgutil
from collections.abc import Iterable
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
    """The user's folders of one kind: the working directory's, then those of installed packages by name."""
    roots = [Path("extensions").absolute()]
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        spec = importlib.util.find_spec(entry.value)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"entry point {entry.name} in {GROUP}: {entry.value} is not an installed package")
        roots += map(Path, spec.submodule_search_locations)
    return tuple(folder for root in roots if (folder := root / kind).is_dir())


def search_path(own: Iterable[str], kind: str) -> list[str]:
    """The ``__path__`` of a package of ours, with the user's folders of that kind after its own."""
    return [*own, *map(str, folders(kind))]


def modules(package: ModuleType) -> dict[str, Path]:
    """The files of a package by module name, the user's among them, without importing any.

    Raises:
        UserError: two folders hold a file of the same name.
    """
    files: dict[str, Path] = {}
    for folder in map(Path, package.__path__):
        for name in sorted(module.name for module in pkgutil.iter_modules([str(folder)])):
            file = folder / f"{name}.py"
            if name in files:
                raise UserError(f"{file}: the name is taken by {files[name]}; rename the file")
            if not name.startswith("_"):
                files[name] = file
    return files


def claims() -> list[Path]:
    """The user's files of claims."""
    return [file for folder in folders("claims") for file in sorted(folder.glob("*.yaml"))]


def literals(file: Path, names: Iterable[str]) -> dict[str, Any]:
    """The values that a file assigns to the given names at module level, without running the file.

    Raises:
        UserError: a value that is not a literal.
    """
    wanted = set(names)
    values = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in wanted:
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in wanted:
                pass
            case _:
                continue
        try:
            values[name] = ast.literal_eval(value)
        except ValueError:
            raise UserError(f"{file}: {name} must be a literal, since it is read without running the file") from None
    return values
