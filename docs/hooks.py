"""What MkDocs does not do by itself: pages from elsewhere in the project, links out of the site, and one table.

The project, `config/`, `profiles/` and `results/recorded/` describe themselves in a README, which is a page here too.
Links are written as they work in the project's folders: those to another page are led to it here, and those to a file
that is no part of the site become its name.
"""

import os
import re
from pathlib import Path

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ELSEWHERE = {
    "cluster.md": "profiles/README.md",
    "project.md": "README.md",
    "recorded.md": "results/recorded/README.md",
    "studies.md": "config/README.md",
}
IMAGE = "report/screenshot.png"
TABLE = "<!-- the table of report/choices.yaml -->"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the README's image."""
    files.append(File(IMAGE, str(ROOT), config.site_dir, config.use_directory_urls))
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the table in its place, and lead links to where they go on the site."""
    source = Path(ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    if TABLE in markdown:
        markdown = markdown.replace(TABLE, choices())
    return _LINK.sub(lambda link: _led(*link.groups(default=""), source.parent), markdown)


def choices() -> str:
    """What the papers say and what was chosen, as a table."""
    rows = yaml.safe_load((ROOT / "report/choices.yaml").read_text(encoding="utf-8"))
    keys = ("about", "paper", "chosen", "why")
    cells = [[" ".join(row[key].split()).replace("|", "\\|") for key in keys] for row in rows]
    lines = [["", "what the papers say", "what we chose", "why"], ["---"] * 4, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _led(text: str, target: str, anchor: str, folder: Path) -> str:
    """A link from a page in a folder of the project, as the site has it."""
    path = os.path.normpath(folder / target)
    pages = {source: page for page, source in ELSEWHERE.items()}
    if path in pages or path.startswith("docs/"):
        return f"[{text}]({pages.get(path, path.removeprefix('docs/'))}{anchor})"
    if not (ROOT / path).exists():  # for MkDocs to say so
        return f"[{text}]({target}{anchor})"
    return f"`{path}`" if text.strip("`") in (target, path, Path(path).name) else f"{text} (`{path}`)"
