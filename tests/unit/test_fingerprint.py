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

    def __init__(self, source: Path, folder: Path, run_python) -> None:
        self.folder, self.run_python = folder, run_python
        self.package = folder / "rdp"
        shutil.copytree(source, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        self.before: dict[str, str] = {}

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

    def changed(self) -> set[str]:
        """The cells whose digest is no longer that of the unchanged package."""
        after = self.digests()
        return {cell for cell in self.before if self.before[cell] != after[cell]}

    def changed_by(self, file: str, old: str, new: str) -> set[str]:
        """The cells whose digest an edit changes."""
        self.edit(file, old, new)
        return self.changed()


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory, run_python) -> Copy:
    """A copy of the package as it is, with its digests."""
    copy = Copy(Path(fingerprint.__file__).parent, tmp_path_factory.mktemp("unchanged"), run_python)
    copy.before = copy.digests()
    return copy


@pytest.fixture
def package(unchanged, tmp_path, run_python) -> Copy:
    copy = Copy(unchanged.package, tmp_path, run_python)
    copy.before = unchanged.before
    return copy


FILES = sorted(Path(fingerprint.__file__).parent.rglob("*.py"))
EVERY = {"/".join(cell) for cell in CELLS}


class TestCodeDigest:
    def test_a_copy_has_the_digests_of_the_original(self, unchanged):
        assert unchanged.before == {"/".join(cell): fingerprint.code_digest(*cell) for cell in CELLS}

    def test_no_two_cells_share_a_digest(self):
        assert len({fingerprint.code_digest(*cell) for cell in CELLS}) == len(CELLS)

    def test_a_new_architecture_changes_nothing(self, package):
        new = '"resnet20": {"blocks": 3},\n    "resnet14": {"blocks": 2},'
        assert package.changed_by("models/resnet.py", '"resnet20": {"blocks": 3},', new) == set()

    def test_an_architectures_arguments_change_its_own_cells_alone(self, package):
        changed = package.changed_by("models/mlp.py", '"mlp32": {"depth": 32,', '"mlp32": {"depth": 31,')
        assert changed == {cell for cell in EVERY if cell.endswith("/mlp32")}

    def test_rewording_comments_and_docstrings_and_reflowing_lines_changes_nothing(self, package):
        package.edit("train.py", '"""The training loop.', '"""The loop that trains.')
        package.edit("train.py", '"""Train from where', '"""Go on from where')
        package.edit("train.py", "            self._train_step()\n", "\n            self._train_step()  # one\n\n")
        package.edit(
            "train.py", "self.spec, self.data, self.device = spec,", "self.spec, self.data, self.device = \\\n spec,"
        )
        package.edit("methods/residual_droppath.py", '"""ResidualDroppath (arXiv', '"""Residual Droppath (arXiv')
        package.edit("models/resnet.py", '"""The two layers of a basic block, up to the second normalisation."""', "")
        package.edit("models/resnet.py", "class Branch(nn.Sequential):", "class Branch(nn.Sequential):\n    # kept\n")
        assert package.changed() == set()

    def test_a_new_methods_file_changes_nothing(self, package):
        new = "from rdp.methods import Method\n\n\nclass Another(Method):\n    pass\n"
        (package.package / "methods" / "another.py").write_text(new)
        assert package.changed() == set()

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
            ("runner.py", "_STALE_SECONDS = 120.0", "_STALE_SECONDS = 121.0"),
            ("errors.py", "n=1", "n=2"),
            ("data/spiral.py", "_NOISE = 0.1", "_NOISE = 0.2"),  # the data digest sees that one
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

    def test_it_holds_every_module_of_this_package_that_a_real_run_loads(self, make_spec, run_python, tmp_path):
        script = (
            "import sys, torch; from pathlib import Path; from rdp.study import RunSpec; "
            "from rdp.data import prepared; from rdp.train import Run; "
            "spec = RunSpec.model_validate_json(sys.argv[1]); "
            "run = Run(spec, prepared.load(spec.dataset, Path(sys.argv[2])), torch.device('cpu')); "
            "run.train(lambda run: None); run.finish(); run.state(); "
            "print(*(name for name in sys.modules if name.startswith('rdp.')))"
        )
        spec = make_spec("residual_droppath", epochs=1)
        done = run_python("-c", script, spec.model_dump_json(), str(tmp_path), OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        loaded = set(done.stdout.split())
        # A source decides the data, whose digest stands for it; probes only measure.
        sources = {data.source(name).__name__ for name in data.available()}
        assert loaded - NEUTRAL - sources - {"rdp.probes"} == modules(spec.method, spec.architecture)


def parse(source: str) -> str:
    """A source's skeleton as the text that is digested."""
    return json.dumps(skeleton(ast.parse(source)))


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
            ("x = 1.0", "x = '1.0'"),
            ("x = b''", "x = \"b''\""),
        ],
    )
    def test_it_sees_every_change_of_meaning(self, one, other):
        assert parse(one) != parse(other)


SOURCES = {
    "f-strings": """
x = f"{a}"
y = f"{a!r:>10.3f} and {b=} {{braces}} {c!s}"
z = f"{d['key']} {', '.join(str(i) for i in e)}" 'plain' f'{f"{nested}"}'
w = rf"\\d{a}" f""
v = f'''{
    a + b
} on
lines'''
u = f"{a:%Y-%m-%d}" f"{x:}" f"{(lambda: 1)()}"
""",
    "nested format specs": """
x = f"{a:{width}}"
y = f"{a!r:>{width}.{precision}f}" f"{x:{'>'}{10}}"
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
from pathlib import Path
from typing import Any
given = json.load(sys.stdin)
exec(given["functions"])
print(json.dumps([json.dumps(skeleton(ast.parse(source))) for source in given["sources"]]))
"""


def bare_functions() -> str:
    """The source of the fingerprint's functions, which run without the packages that the module imports."""
    tree = ast.parse(inspect.getsource(fingerprint))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.decorator_list]
    return "\n".join(map(ast.unparse, functions))


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


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, dict[str, str]]:
    """The skeletons of all sources, and of this package's own files, under every other Python found here."""
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other Python of version 3.11 or later on PATH or under ~/.pyenv")
    sources = SOURCES | {str(file): file.read_text() for file in FILES}
    given = json.dumps({"functions": bare_functions(), "sources": list(sources.values())})
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    found = {}
    for version, path in pythons.items():
        done = subprocess.run(
            [path, "-I", "-c", ELSEWHERE], input=given, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"Python {version}: {done.stderr}"
        found[version] = dict(zip(sources, json.loads(done.stdout), strict=True))
    return found


class TestOtherPythons:
    @pytest.mark.parametrize("name", SOURCES)
    def test_every_kind_of_source_has_the_same_skeleton(self, name, elsewhere):
        for version, found in elsewhere.items():
            assert found[name] == parse(SOURCES[name]), f"Python {version}"

    def test_so_has_every_file_of_this_package(self, elsewhere):
        for version, found in elsewhere.items():
            for file in FILES:
                assert found[str(file)] == parse(file.read_text()), f"Python {version}: {file}"


class TestStack:
    def test_it_names_the_libraries_the_processor_and_its_instructions(self):
        import torch

        found = fingerprint.stack("cpu")
        assert found["torch"].startswith(torch.__version__.split("+")[0])
        assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
        assert {"numpy", "device"} <= found.keys()
        assert all(found.values())
        assert fingerprint.stack("cpu") == found
