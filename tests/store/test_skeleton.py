"""Skeletons of syntax trees: blind to form, to nothing else, and the same under every Python."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rdp
from rdp.store import skeleton as module
from rdp.store.skeleton import parse as parse_module
from rdp.store.skeleton import skeleton

FILES = sorted(Path(rdp.__file__).parent.rglob("*.py"))


def parse(source: str) -> str:
    """A source's skeleton as the text that is digested."""
    return json.dumps(skeleton(parse_module(source)))


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
            ("x: int = 1", "x = 1"),
            ("def f(a: int, *b: str) -> None: pass", "def f(a, *b): pass"),
            ("def f():\n    x: list[int] = []\n    y: int", "def f():\n    x = []"),
            ("class A(nn.Module):\n    x: int\n    y: int = 1", "class A(nn.Module):\n    y = 1"),
            ("from typing import Any, cast\nx = cast(Any, y)", "x = y"),
            ("import a\nimport b", "import b\nimport a"),
            ("from a import b, c", "from a import c\nfrom a import b"),
            ("if TYPE_CHECKING:\n    import a\nx = 1", "x = 1"),
            ("from rdp.utils import rng", "from rdp.draws import rng"),
            ("x = 'rdp.training.mixup'", "x = 'rdp.mixup'"),
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
            ("@dataclass\nclass A:\n    x: int = 1", "@dataclass\nclass A:\n    x: float = 1"),
            ("class A(Model):\n    x: int", "class A(Model):\n    x: float"),
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
import json, sys
from pathlib import Path
from typing import Any
given = json.load(sys.stdin)
exec(given["functions"])
print(json.dumps([json.dumps(skeleton(parse(source))) for source in given["sources"]]))
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


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, dict[str, str]]:
    """The skeletons of all sources, and of this package's own files, under every other Python found here."""
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other Python of version 3.11 or later on PATH or under ~/.pyenv")
    sources = SOURCES | {str(file): file.read_text() for file in FILES}
    given = json.dumps({"functions": inspect.getsource(module), "sources": list(sources.values())})
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
