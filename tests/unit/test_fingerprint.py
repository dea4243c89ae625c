"""The code digest changes with what determines a cell's numbers, and with nothing else."""

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rdp import data, fingerprint
from rdp.fingerprint import NEUTRAL, modules, skeleton
from rdp.methods import available

CELLS = [(method, family) for method in available() for family in ("mlp32", "resnet20")]

DIGESTS = """
import json, sys
from rdp import fingerprint
assert fingerprint.__file__.startswith(sys.argv[1]), fingerprint.__file__
print(json.dumps({"/".join(cell): fingerprint.code_digest(*cell) for cell in json.loads(sys.argv[2])}))
"""


class Copy:
    """A copy of the package that a test may change."""

    def __init__(self, folder: Path, run_python) -> None:
        self.folder, self.run_python = folder, run_python
        self.package = folder / "rdp"
        source = Path(fingerprint.__file__).parent
        shutil.copytree(source, self.package, ignore=shutil.ignore_patterns("__pycache__"))

    def digests(self) -> dict[str, str]:
        """The code digest of every cell, as a process on this copy finds it."""
        script = ("-c", DIGESTS, str(self.folder), json.dumps(CELLS))
        done = self.run_python(*script, cwd=self.folder, PYTHONPATH=str(self.folder))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.package / file
        text = path.read_text()
        assert old in text, f"{file} no longer holds {old!r}"
        path.write_text(text.replace(old, new, 1))

    def changed_by(self, file: str, old: str, new: str) -> set[str]:
        """The cells whose digest an edit changes."""
        before = self.digests()
        self.edit(file, old, new)
        after = self.digests()
        return {cell for cell in before if before[cell] != after[cell]}


@pytest.fixture
def package(tmp_path, run_python) -> Copy:
    return Copy(tmp_path, run_python)


EVERY = {"/".join(cell) for cell in CELLS}


class TestCodeDigest:
    def test_a_copy_has_the_digests_of_the_original(self, package):
        assert package.digests() == {"/".join(cell): fingerprint.code_digest(*cell) for cell in CELLS}

    def test_no_two_cells_share_a_digest(self):
        assert len({fingerprint.code_digest(*cell) for cell in CELLS}) == len(CELLS)

    def test_members_of_one_family_share_theirs(self):
        assert fingerprint.code_digest("vanilla", "resnet20") == fingerprint.code_digest("vanilla", "resnet110")

    def test_rewording_comments_and_docstrings_and_reflowing_lines_changes_nothing(self, package):
        before = package.digests()
        package.edit("train.py", '"""The training loop.', '"""The loop that trains.')
        package.edit("train.py", '"""Train from where', '"""Go on from where')
        package.edit("train.py", "            self._train_step()\n", "\n            self._train_step()  # one\n\n")
        package.edit(
            "train.py", "self.spec, self.data, self.device = spec,", "self.spec, self.data, self.device = \\\n spec,"
        )
        package.edit("methods/residual_droppath.py", '"""ResidualDroppath (arXiv', '"""Residual Droppath (arXiv')
        package.edit("models/resnet.py", '"""The two layers of a basic block, up to the second normalisation."""', "")
        package.edit("models/resnet.py", "class Branch(nn.Sequential):", "class Branch(nn.Sequential):\n    # kept\n")
        assert package.digests() == before

    def test_a_new_methods_file_changes_nothing(self, package):
        before = package.digests()
        new = "from rdp.methods import Method\n\n\nclass Another(Method):\n    pass\n"
        (package.package / "methods" / "another.py").write_text(new)
        assert package.digests() == before

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("train.py", "loss.backward()", "(2 * loss).backward()"),
            ("train.py", "_EVALUATION_BATCH = 500", "_EVALUATION_BATCH = 501"),
            ("rng.py", '"little"', '"big"'),
            ("data/batches.py", "flips = draw.random", "flips = 1 - draw.random"),
            ("models/initial.py", "2.0 if", "2.5 if"),
            ("models/units.py", "shortcut + output * factor", "shortcut + factor * output"),
            ("methods/__init__.py", "return FULL", "return Iteration('full')"),
            ("methods/iteration.py", "rest_trained: bool = True", "rest_trained: bool = False"),
        ],
    )
    def test_what_every_run_goes_through_changes_every_cell(self, file, old, new, package):
        assert package.changed_by(file, old, new) == EVERY

    def test_a_methods_file_changes_its_own_cells_alone(self, package):
        changed = package.changed_by("methods/residual_droppath.py", "step // 2", "step // 3")
        assert changed == {"residual_droppath/mlp32", "residual_droppath/resnet20"}

    def test_what_two_methods_share_changes_the_cells_of_both_alone(self, package):
        changed = package.changed_by("methods/masks.py", "uniform < rates", "uniform <= rates")
        assert changed == {cell for cell in EVERY if "droppath" in cell}

    def test_a_familys_file_changes_its_own_cells_alone(self, package):
        changed = package.changed_by("models/resnet.py", "(16, 32, 64)", "(16, 32, 48)")
        assert changed == {cell for cell in EVERY if cell.endswith("/resnet20")}

    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("store.py", "SCHEMA = 1", "SCHEMA = 2"),
            ("runner.py", "CHECKPOINT_SECONDS = 60.0", "CHECKPOINT_SECONDS = 61.0"),
            ("cli.py", '"show"', '"show me"') if False else ("errors.py", "n=1", "n=2"),
        ],
    )
    def test_what_only_keeps_or_tells_changes_nothing(self, file, old, new, package):
        assert package.changed_by(file, old, new) == set()


class TestClosure:
    def test_it_is_what_one_would_expect(self):
        always = {
            "rdp.train",
            "rdp.cost",
            "rdp.rng",
            "rdp.data.batches",
            "rdp.methods",
            "rdp.methods.iteration",
            "rdp.models",
            "rdp.models.initial",
            "rdp.models.paths",
            "rdp.models.units",
        }
        for method in available():
            own = {f"rdp.methods.{method}"} | ({"rdp.methods.masks"} if "droppath" in method else set())
            assert modules(method, "mlp32") == always | own | {"rdp.models.mlp"}
            assert modules(method, "resnet20") == always | own | {"rdp.models.resnet"}

    def test_every_name_it_leaves_out_is_that_of_a_module(self):
        package = Path(fingerprint.__file__).parent
        for name in NEUTRAL:
            stem = package.joinpath(*name.split(".")[1:])
            assert stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file(), name

    @pytest.mark.parametrize("method", ["residual_droppath", "pnnh"])
    def test_it_holds_every_module_of_this_package_that_a_real_run_loads(self, method, make_spec, run_python, tmp_path):
        script = (
            "import sys, torch; from pathlib import Path; from rdp.study import RunSpec; "
            "from rdp.data import prepared; from rdp.train import Run; "
            "spec = RunSpec.model_validate_json(sys.argv[1]); "
            "run = Run(spec, prepared.load(spec.dataset, Path(sys.argv[2])), torch.device('cpu')); "
            "run.train(lambda run: None); run.finish(); run.state(); "
            "print(*(name for name in sys.modules if name.startswith('rdp.')))"
        )
        spec = make_spec(method, epochs=1)
        done = run_python("-c", script, spec.model_dump_json(), str(tmp_path))
        assert done.returncode == 0, done.stderr
        loaded = set(done.stdout.split())
        # A source decides the data, whose digest stands for it; probes only measure.
        sources = {data.source(name).__name__ for name in data.available()}
        assert loaded - NEUTRAL - sources - {"rdp.probes"} == modules(method, spec.architecture)


def parse(source: str) -> object:
    return skeleton(ast.parse(source))


class TestSkeleton:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("x = 1", "x   =  1  # one"),
            ("def f():\n    '''Text.'''\n    return 1", "def f():\n    return 1"),
            ("class A:\n    '''Text.'''\n    x = 1", "class A:\n    '''Other.'''\n    x = 1"),
            ("'''Module.'''\nimport os", "import os"),
            ("x = 'a' 'b'", 'x = "ab"'),
            ("x = (1 + 2) * (3)", "x = (1 + 2) * 3"),
            ("x = u'a'", "x = 'a'"),
            ("x = 0x10", "x = 16"),
        ],
    )
    def test_it_is_blind_to_form(self, one, other):
        assert parse(one) == parse(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("x = 1", "x = 2"),
            ("x = 1", "x = True"),
            ("x = 1", "x = 1.0"),
            ("x = 1", "x = '1'"),
            ("x = 0.1", "x = 0.1000000000000001"),
            ("x = a - b", "x = b - a"),
            ("x = a + b", "x = a - b"),
            ("f(a)", "f(a=a)"),
            ("def f(a, b=1): pass", "def f(a, *, b=1): pass"),
            ("f(*a)", "f(**a)"),
            ("x = f'{a}'", "x = f'{a!r}'"),
            ("x = f'{a:.2f}'", "x = f'{a:.3f}'"),
            ("if a:\n    f()\ng()", "if a:\n    f()\n    g()"),
            ("x = 'text'", "x = 'other'"),
            ("return_ = 1", "return__ = 1"),
            ("x = None", "x = ..."),
            ("x = []", "x = ()"),
            ("@a\ndef f(): pass", "def f(): pass"),
            ("def f():\n    'a'\n    'b'", "def f():\n    'a'"),
            ("x = y[1:]", "x = y[:1]"),
            ("x: int = 1", "x: float = 1"),
            pytest.param(
                "x = 1.0", "x = '1.0'", marks=pytest.mark.xfail(strict=True, reason="floats become their text")
            ),
            pytest.param("x = b''", "x = \"b''\"", marks=pytest.mark.xfail(strict=True, reason="so do bytes")),
        ],
    )
    def test_it_sees_every_change_of_meaning(self, one, other):
        assert parse(one) != parse(other)

    def test_it_is_json_and_comes_back_the_same(self):
        for file in Path(fingerprint.__file__).parent.rglob("*.py"):
            found = parse(file.read_text())
            assert json.loads(json.dumps(found)) == found


SOURCES = {
    "f-strings": """
x = f"{a}"
y = f"{a!r:>{width}.{precision}f} and {b=} {{braces}} {c!s}"
z = f"{d['key']} {', '.join(str(i) for i in e)}" 'plain' f'{f"{nested}"}'
w = rf"\\d{a}" f""
v = f'''{
    a + b
} on
lines'''
u = f"{a:%Y-%m-%d}" f"{x:{'>'}{10}}" f"{lambda_:}" f"{(lambda: 1)()}"
""",
    "match": """
match command:
    case {"key": [first, *rest], **others} if first > 0:
        pass
    case Point(x=0, y=0) | (0, 0) | None:
        pass
    case "a" | 1.5 | -1 | True as what:
        pass
    case _:
        '''not a docstring'''
""",
    "hints": """
from typing import Annotated
def f(a: int, /, b: "str" = "x", *args: *Ts, c: Annotated[int, "text"] | None = None, **kw: dict[str, int]) -> None:
    '''Docstring.'''
    x: list[int] = []
    y: int
    (z): int = 1
""",
    "decorators": """
@cache
@deco(a, b=1)
async def f():
    '''Docstring.'''
    async with a as b, c: yield b
    async for i in x: await i
@dataclass(frozen=True)
class A(B, metaclass=C):
    '''Docstring.'''
    @property
    def x(self): return self._x
""",
    "expressions": """
if (n := len(a)) > 10: pass
x = [i async for i in y if (z := i)] + [*a, *b] + [{**c, 'd': 1}]
f = lambda a, *b, c=1, **d: (yield)
global_ = 1_000_000 + 0xFF + 1e-5 + 1j + 0.1 + 1e400 - 1e400
s = b'bytes' b'more', ..., None, True, r'raw\\n', 'quote"s', "it's", 'caf\\u00e9', '\\ud83d\\ude00'
del a[0], a.b
a[1:2, ..., ::3] = a[b] = c
print(not a, -b, ~c, a if b else c, a < b <= c != d, a and b or c, a @ b, a // b, a ** b, a is not b, a not in b)
""",
    "statements": """
from . import a
from ..b import c as d, e
import f.g as h
try:
    raise A from b
except* (B, C) as error:
    raise
else:
    pass
finally:
    with open(a) as b, (c): assert d, 'message'
try: pass
except: pass
while True:
    break
else:
    continue
def outer():
    x = 1
    def inner():
        nonlocal x
        global y
        x += 1
        return
class Empty: '''Only a docstring.'''
def empty(): '''Only a docstring.'''
""",
}

ELSEWHERE = """
import ast, json, sys
from typing import Any
given = json.load(sys.stdin)
exec(given["functions"])
print(json.dumps([skeleton(ast.parse(source)) for source in given["sources"]]))
"""


def other_pythons() -> dict[str, str]:
    """Interpreters of version 3.11 or later that can be found here, by version; this one's left out."""
    names = [f"python3.{minor}" for minor in range(11, 16)]
    found = [path for name in names if (path := shutil.which(name))]
    found += map(str, sorted(Path.home().glob(".pyenv/versions/*/bin/python")))
    by_version = {}
    for path in found:
        # A pyenv shim of a version that is not switched on only complains.
        done = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            by_version[tuple(map(int, done.stdout.split()))] = path
    here = sys.version_info[:2]
    return {f"{a}.{b}": p for (a, b), p in by_version.items() if (a, b) >= (3, 11) and (a, b) != here}


def test_it_is_the_same_on_every_python_version_found_here():
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other Python of version 3.11 or later on PATH or under ~/.pyenv")
    files = sorted(Path(fingerprint.__file__).parent.rglob("*.py"))
    sources = SOURCES | {str(file): file.read_text() for file in files}
    functions = inspect.getsource(skeleton) + "\n\n" + inspect.getsource(fingerprint._without_docstring)
    given = json.dumps({"functions": functions, "sources": list(sources.values())})
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for version, path in pythons.items():
        done = subprocess.run(
            [path, "-I", "-c", ELSEWHERE], input=given, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"Python {version}: {done.stderr}"
        for (name, source), found in zip(sources.items(), json.loads(done.stdout), strict=True):
            assert found == parse(source), f"Python {version} reads {name} in another way"


class TestStack:
    def test_it_names_the_libraries_the_processor_and_its_instructions(self):
        import torch

        found = fingerprint.stack("cpu")
        assert found["torch"].startswith(torch.__version__.split("+")[0])
        assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert {"numpy", "device"} <= found.keys()
        assert all(found.values())
        assert fingerprint.stack("cpu") == found
