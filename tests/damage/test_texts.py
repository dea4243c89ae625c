"""External texts are escaped in the page, the paper and the tables."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest
import yaml

from rdp import tables
from rdp.claims import verdict_json
from rdp.report import contents, page, paper
from rdp.tables import collect
from rdp.utils import paths
from tests.claims.conftest import AS_CLAIMED
from tests.damage.conftest import DRAWING
from tests.helpers.planting import load, plant

pytestmark = pytest.mark.slow  # the plainest of it is in tests/report, and in every run of the tests

HOSTILE = (
    "<script>alert(1)</script> '\"><img src=x onerror=alert(2)> </style> <!-- {{ 7 * 7 }} << version >> <% endif %> "
    '#read("/etc/passwd") #panic() $x$ @cells // /* \\input{/etc/passwd} \\" %}'
)
PLACES = ("title", "description", "claim", "tests", "reading", "place", "paper", "reason", "commit", "device", "stack")
COMMANDS = {"begin", "end", "toprule", "midrule", "bottomrule", "infty", "usepackage"}
ESCAPES = {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"}


def text(place: str) -> str:
    return f"{HOSTILE} {place}"


class Page(HTMLParser):
    """A page's text, as a reader sees it, and its tags with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study in which all that may be a text of somebody else's is hostile, and says where it stands."""
    folder = tmp_path_factory.mktemp("hostile")
    claims = yaml.safe_load(paths.claims().read_text(encoding="utf-8"))
    for claim in claims["claims"].values():
        claim |= {"title": text("claim"), "tests": text("tests"), "reading": text("reading")}
        claim["source"] = {"paper": text("paper"), "place": text("place")}
    (folder / "config").mkdir()
    (folder / "config" / "claims.yaml").write_text(json.dumps(claims))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        methods = {"vanilla": None, "residual_droppath": None}
        grids = [{"datasets": ["digits"], "architectures": ["resnet56"]}]
        named = {"title": text("title"), "description": text("description")}
        plan = load(folder, seeds=2, methods=methods, grids=grids, **named)
        table, history, sweep = collect.read(plan.name, plant(plan, folder, AS_CLAIMED).results)
        table["commit"] = text("commit")
        table["stack"] = json.dumps({"device": text("device"), "torch": text("stack")})
        table.loc[0, ["status", "reason"]] = ["failed", text("reason")]
        collect.save(plan.name, folder, table, history, sweep)
        verdict_json.write(tables.load(plan, folder))
        for name in contents.figures(plan):
            contents.save_drawing(plan, name, folder / plan.name / "figures", DRAWING)
        page.write(plan, folder)
        paper.write(plan, folder)
    return folder / plan.name


def test_the_page_escapes_them(report: Path) -> None:
    found = Page((report / "report" / "index.html").read_text(encoding="utf-8"))
    for place in PLACES:
        assert text(place) in found.text, place
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [
        {"type": "application/json", "id": "data"},
        {},
    ]
    assert all(attributes["src"].startswith("data:") for tag, attributes in found.tags if tag == "img")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in found.tags if tag == "style"]) == 1


def test_the_paper_escapes_them(report: Path) -> None:
    source = (report / "report" / "paper.typ").read_text(encoding="utf-8")
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", source)
    assert source.count("/etc/passwd") > len(PLACES)
    for words in ("passwd", "alert", "panic", "endif", "<<", "7 * 7"):
        assert words not in bare
    shown = "".join(page.extract_text() for page in pypdf.PdfReader(report / "report" / "paper.pdf").pages)
    letters = re.sub(r"[\s\u200b\u00ad-]", "", shown)
    for place in PLACES:
        assert f"%}}{place}" in letters, place
    assert "root:" not in shown


@pytest.mark.parametrize("name", ["accuracy", "claims", "comparisons", "cost", "compute_cost", "efficiency"])
def test_the_tables_contain_no_formula(name: str, report: Path) -> None:
    source = (report / "tables" / f"{name}.tex").read_text(encoding="utf-8")
    assert set(re.findall(r"\\([a-z]+)", source)) <= COMMANDS | ESCAPES
    assert source.count(r"\begin{") == source.count(r"\end{") == 1
    unescaped = re.findall(r"(?<!\\)[$#%]", source.partition("\n")[2])
    assert set(unescaped) <= {"$"}  # of signs of ours, in pairs
    assert len(unescaped) % 2 == 0


def test_a_table_returns_them_unchanged(report: Path) -> None:
    with (report / "tables" / "claims.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["title"] for row in rows} == {text("claim")}
    assert {row["source"] for row in rows} == {text("paper")}
