"""Syntax trees as nested lists, without parts that cannot change a number: docstrings, annotations, import paths.

The lists are the same on every Python version: `ast.dump` prints empty fields that some versions lack. This module
imports only the standard library, so that tests can run it under other versions.
"""

import ast
from collections.abc import Callable
from typing import Any

# Maps the name of a module of this package to a digest of its content, and any other name to None.
Content = Callable[[str], str | None]

_TYPING = frozenset({"__future__", "collections.abc", "types", "typing"})
# Bases whose subclasses do not read the annotations of their bodies, unlike dataclasses and pydantic models.
_PLAIN_BASES = frozenset({"nn.Module", "nn.Sequential", "torch.nn.Module"})
_FIELD = ("target", "annotation", "value")  # of a dataclass or a pydantic model, where the annotation decides


def parse(source: str) -> ast.Module:
    """The tree of a source without the blocks under ``if TYPE_CHECKING:``, which never run."""
    tree = ast.parse(source)
    tests = (ast.unparse(node.test) if isinstance(node, ast.If) else "" for node in tree.body)
    names = [test.rpartition(".")[2] for test in tests]
    tree.body = [node for node, name in zip(tree.body, names, strict=True) if name != "TYPE_CHECKING"]
    return tree


def skeleton(node: Any, content: Content = lambda module: None) -> Any:
    """A syntax tree as nested lists, without docstrings, annotations, positions and empty fields.

    Args:
        node: a tree, a list of trees or a constant.
        content: maps the name of a module of this package to its content, and any other name to None.
    """
    if isinstance(node, list):
        return [skeleton(item, content) for item in node]
    if isinstance(node, str) and node.startswith("rdp.") and node.replace(".", "").isidentifier():
        return node.rpartition(".")[2]  # a module to import by name: its content counts where it is imported
    if not isinstance(node, ast.AST):
        # Floats, bytes and the like must not look like a text that reads the same.
        return node if isinstance(node, str | int | bool) else [type(node).__name__, repr(node)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"cast", "typing.cast"} and len(node.args) == 2:
        return skeleton(node.args[1], content)
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign(targets=[node.target], value=node.value)
    fields = []
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns"} and not isinstance(node, ast.AnnAssign):
            continue
        if name in {"body", "orelse", "finalbody"} and isinstance(value, list):
            value = _statements(node, name, value, content)
        elif name == "values" and isinstance(node, ast.JoinedStr):
            # Some versions have an empty text at the end of a format specification.
            value = skeleton([part for part in value if getattr(part, "value", None) != ""], content)
        elif value is None or value == [] or name in {"ctx", "kind", "type_comment", "type_ignores"}:
            continue
        else:
            value = skeleton(value, content)
        if value != []:
            fields.append([name, value])
    return [type(node).__name__, fields]


def _statements(parent: ast.AST, field: str, body: list[ast.stmt], content: Content) -> list[Any]:
    """The skeletons of a block. Imports next to each other are ordered by content, since sorters order them by path."""
    if field == "body":
        body = without_docstring(body)
    reads_annotations = isinstance(parent, ast.ClassDef) and _reads_annotations(parent)
    block: list[Any] = []
    imports: list[Any] = []
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports += _aliases(statement, content)
            continue
        block += sorted(imports, key=repr)
        imports = []
        if isinstance(statement, ast.AnnAssign) and reads_annotations:
            block.append(["Field", [skeleton(getattr(statement, name), content) for name in _FIELD]])
        elif isinstance(statement, ast.AnnAssign) and statement.value is None:
            continue
        elif not _lists_architectures(statement):
            block.append(skeleton(statement, content))
    return block + sorted(imports, key=repr)


def _reads_annotations(definition: ast.ClassDef) -> bool:
    plain = all(ast.unparse(base) in _PLAIN_BASES for base in definition.bases)
    return bool(definition.decorator_list or definition.keywords) or not plain


def _aliases(node: ast.Import | ast.ImportFrom, content: Content) -> list[Any]:
    """One entry for each imported name: how it is called here, and where it is from."""
    entries = []
    for alias in node.names:
        bound = alias.asname or alias.name
        if isinstance(node, ast.Import):
            ours, source = alias.name.startswith("rdp."), alias.name
        else:
            ours = bool(node.module and node.module.partition(".")[0] == "rdp")
            source = "." * node.level + (node.module or "")
        if source in _TYPING:
            continue
        if not ours:
            entries.append(["import", source, alias.name, bound])
        elif isinstance(node, ast.ImportFrom) and (module := content(f"{source}.{alias.name}")) is not None:
            entries.append(["module", bound, module])
        else:
            entries.append(["name", alias.name.rpartition(".")[2], bound, content(source) or ""])
    return entries


def _lists_architectures(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return isinstance(targets[0], ast.Name) and targets[0].id == "ARCHITECTURES"


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a block after its docstring."""
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:] if isinstance(body[0].value.value, str) else body
    return body
