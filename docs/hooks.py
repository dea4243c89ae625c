"""MkDocs hooks: pages from outside docs/, links between them, and the table of choices.

README.md, CONTRIBUTING.md, CHANGELOG.md and the READMEs of `config/`, `profiles/` and `results/recorded/` are pages of
the site too. Links are written relative to the file that holds them. A link to another page becomes a link on the site,
and a link to any other file becomes the file's name.
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
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "cluster.md": "profiles/README.md",
    "project.md": "README.md",
    "recorded.md": "results/recorded/README.md",
    "studies.md": "config/README.md",
}
TABLE = "<!-- the table of report/choices.yaml -->"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the table of choices and resolve links."""
    source = Path(ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}"))
    if TABLE in markdown:
        markdown = markdown.replace(TABLE, choices())
    markdown = markdown.replace("](docs/assets/", "](assets/")
    return _LINK.sub(lambda link: _resolved(*link.groups(default=""), source.parent), markdown)


def choices() -> str:
    """The choices of report/choices.yaml as a Markdown table."""
    rows = yaml.safe_load((ROOT / "report/choices.yaml").read_text(encoding="utf-8"))
    keys = ("about", "paper", "chosen", "why")
    cells = [[" ".join(row[key].split()).replace("|", "\\|") for key in keys] for row in rows]
    lines = [["", "what the papers say", "what we chose", "why"], ["---"] * 4, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _resolved(text: str, target: str, anchor: str, folder: Path) -> str:
    """A link in a page of ``folder``, rewritten for the site."""
    path = os.path.normpath(folder / target)
    pages = {source: page for page, source in ELSEWHERE.items()}
    if path in pages or path.startswith("docs/"):
        return f"[{text}]({pages.get(path, path.removeprefix('docs/'))}{anchor})"
    if not (ROOT / path).exists():  # MkDocs reports it
        return f"[{text}]({target}{anchor})"
    return f"`{path}`" if text.strip("`") in (target, path, Path(path).name) else f"{text} (`{path}`)"
