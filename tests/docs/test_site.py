"""The site builds without warnings, holds every page, and loads nothing from outside."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import expect

from tests.docs.blocks import READMES, ROOT


def test_every_page_is_in_the_navigation(site: Path) -> None:
    named = set(_pages(_configuration()["nav"]))
    assert {f"{path.stem}.md" for path in ROOT.glob("docs/*.md")} < named
    assert {path.name for path in site.glob("*.html")} == {page.replace(".md", ".html") for page in named} | {
        "404.html"
    }


def test_pages_load_nothing_from_outside(site: Path) -> None:
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


def test_the_page_of_choices_has_the_table_of_the_report(site: Path) -> None:
    page = (site / "choices.html").read_text()
    rows = yaml.safe_load((ROOT / "report/choices.yaml").read_text())
    assert len(rows) > 10
    assert page.count("<tr>") == len(rows) + 1


def test_links_to_other_files_become_their_names(site: Path) -> None:
    page = (site / "statistics.html").read_text()
    assert "<code>config/claims.yaml</code>" in page
    assert 'href="studies.html#claims"' in page
    assert "../" not in "".join(re.findall(r'href="([^"]*)"', page))


@pytest.mark.slow
def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    for name in ("docs", "config", "profiles", "report", "mkdocs.yml", *READMES):
        if (tmp_path / name).exists():
            continue
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs/data.md").open("a") as page:
        page.write("\n[nowhere](../config/claimz.yaml)\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "claimz.yaml" in done.stderr, done.stderr


def test_search_works_from_the_disk(site: Path, visit) -> None:
    """`visit` fails if a page requests anything but files or logs an error."""
    page = visit(site / "index.html")
    page.locator(".md-search__input").click()
    expect(page.locator(".md-search-result__meta")).to_have_text("Type to start searching", timeout=20_000)
    page.keyboard.type("droppath")  # the search listens to keyup events
    expect(page.locator(".md-search-result__link").first).to_be_visible(timeout=20_000)


@pytest.mark.slow
def test_no_page_is_wider_than_a_phone(site: Path, visit) -> None:
    for path in sorted(set(site.glob("*.html")) - {site / "404.html"}):  # for servers: its addresses begin at the root
        page = visit(path, viewport={"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path.name
        page.close()


def _pages(navigation: list) -> list[str]:
    """The pages of a navigation, sections included."""
    entries = [value for entry in navigation for value in entry.values()]
    return [page for entry in entries for page in (_pages(entry) if isinstance(entry, list) else [entry])]


def _configuration() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())
