"""Rendering of the project's HTML templates."""

import base64
import hashlib
from functools import cache

import jinja2

from rdp.report.formatting import FILTERS
from rdp.utils import paths


def html(name: str) -> jinja2.Template:
    """An HTML template, which escapes values and raises for a missing one."""
    return _template(name, escape=True)


def plain(name: str) -> jinja2.Template:
    """A template of plain text, which raises for a missing value."""
    return _template(name, escape=False)


@cache
def _template(name: str, *, escape: bool) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.templates()),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(name)


def text(name: str) -> str:
    """The text of a template, style or script, not rendered."""
    return (paths.templates() / name).read_text(encoding="utf-8")


def policy(style: str, script: str | None = None) -> str:
    """A Content-Security-Policy that allows a page's own style and script and embedded images only."""
    inline = {"style-src": style} | ({} if script is None else {"script-src": script})
    digests = {
        name: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for name, content in inline.items()
    }
    own = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in digests.items())
    return f"default-src 'none'; {own}; img-src data:; base-uri 'none'; form-action 'none'"
