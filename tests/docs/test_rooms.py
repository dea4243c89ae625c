"""The packages of `rdp/` import downwards, in the order that docs/architecture.md gives."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def rooms(root) -> list[str]:
    """The packages in the order of the table."""
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", text, re.M)


@pytest.fixture(scope="module")
def imports(root) -> set[tuple[str, str]]:
    """Pairs of a module and a package it imports, type hints included."""
    return {
        (".".join(path.relative_to(root).with_suffix("").parts), package)
        for path in sorted((root / "rdp").rglob("*.py"))
        if path.parent.name != "rdp"
        for package in _packages(path)
    }


def _packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("rdp."))


def _upward(imports: set[tuple[str, str]], rooms: list[str]) -> list[str]:
    return [
        f"{module} imports {package}"
        for module, package in sorted(imports)
        if rooms.index(module.split(".")[1]) > rooms.index(package)
    ]


def test_the_root_holds_packages_and_three_files(root):
    entries = {path.name for path in (root / "rdp").iterdir() if path.name != "__pycache__"}
    files = {name for name in entries if (root / "rdp" / name).is_file()}
    assert files == {"__init__.py", "errors.py", "py.typed"}


def test_the_table_names_every_package_once(root, rooms):
    packages = {path.parent.name for path in (root / "rdp").glob("*/__init__.py")}
    assert sorted(rooms) == sorted({*packages, "errors"})


def test_packages_import_only_packages_below_them(imports, rooms):
    assert _upward(imports, rooms) == []


def test_the_check_finds_upward_imports(imports, rooms):
    assert len(_upward(imports, rooms[::-1])) > 300
