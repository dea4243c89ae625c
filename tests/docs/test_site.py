"""The site: built without a warning, whole, and asking for nothing outside it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    named = {page for entry in _configuration()["nav"] for page in entry.values()}
    assert {f"{path.stem}.md" for path in ROOT.glob("docs/*.md")} < named
    assert {path.name for path in site.glob("*.html")} == {page.replace(".md", ".html") for page in named} | {
        "404.html"
    }


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = [path.read_text() for path in site.glob("*.html")]
    assert len(pages) > 10
    for text in pages:
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"([^\"]+)", text)
        assert loaded
        for address in loaded:
            assert not re.match(r"(\w+:)?//", address), address
    for sheet in site.glob("assets/stylesheets/*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text())


def test_what_the_papers_say_is_the_reports_table(site: Path) -> None:
    page = (site / "choices.html").read_text()
    rows = yaml.safe_load((ROOT / "report/choices.yaml").read_text())
    assert len(rows) > 10
    assert page.count("<tr>") == len(rows) + 1


def test_links_out_of_the_site_are_names_of_files(site: Path) -> None:
    page = (site / "statistics.html").read_text()
    assert "<code>config/claims.yaml</code>" in page
    assert 'href="studies.html#claims"' in page
    assert "../" not in "".join(re.findall(r'href="([^"]*)"', page))


def test_a_link_that_leads_nowhere_fails(tmp_path: Path) -> None:
    for name in ("docs", "config", "profiles", "report", "results/recorded/README.md", "README.md", "mkdocs.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs/data.md").open("a") as page:
        page.write("\n[nowhere](../config/claimz.yaml)\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "claimz.yaml" in done.stderr


def _configuration() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())
