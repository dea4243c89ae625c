"""README's floors of `rdp/`: every module is named, and uses only what is named after it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def floors(root) -> list[str]:
    """The names in README's table, from the top down, and in a row from left to right."""
    table = (root / "README.md").read_text(encoding="utf-8").partition("\n| floor |")[2].partition("\n\n")[0]
    return [name for row in table.splitlines()[2:] for name in re.findall(r"`([\w.]+)`", row.split("|")[2])]


@pytest.fixture(scope="module")
def imports(root) -> dict[str, set[str]]:
    """What each module of `rdp` imports of it, wherever in its text, but for what only type hints need."""
    files = {_name(path.relative_to(root)): path for path in sorted((root / "rdp").rglob("*.py"))}
    return {
        name: {found if found in files else found.rpartition(".")[0] for found in _imported(path)} & set(files)
        for name, path in files.items()
        if name != "rdp"  # whose names are imported when they are asked for
    }


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> Iterator[str]:
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    for node in pending:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def _floor(module: str, floors: list[str]) -> str:
    """The name that a module goes by: its own, or that of a package it is in."""
    parts = module.split(".")[1:]
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in floors), module)


def _wrong(imports: dict[str, set[str]], floors: list[str]) -> list[str]:
    place = {name: i for i, name in enumerate(floors)}
    return [
        f"{module} uses {used}, which README names before it"
        for module, all_used in imports.items()
        for used in sorted(all_used - {"rdp"})
        if place.get(_floor(used, floors), len(floors)) < place.get(_floor(module, floors), -1)
    ]


def test_every_module_is_named_once(imports, floors):
    assert len(set(floors)) == len(floors)
    found = {_floor(module, floors) for module in imports}
    assert found - set(floors) == set(), "README.md, How it is built: not named there"
    assert set(floors) - found == set(), "README.md, How it is built: no such module"


def test_a_module_uses_only_what_is_named_after_it(imports, floors):
    assert _wrong(imports, floors) == []


def test_upside_down_nearly_every_use_would_be_wrong(imports, floors):
    assert len(_wrong(imports, floors[::-1])) > 300
