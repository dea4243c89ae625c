"""Pages from the project's templates."""

import base64
import hashlib

import jinja2

from rdp.utils import paths


def html() -> jinja2.Environment:
    """What HTML templates are rendered with: all that they show is escaped.

    A name that a template uses and nothing fills stops it, by name.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.templates()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def text(name: str) -> str:
    """One of the project's templates, or a style or script beside them, as it is."""
    return (paths.templates() / name).read_text(encoding="utf-8")


def policy(style: str, script: str | None = None) -> str:
    """A page's Content-Security-Policy: its own style and script, images that it holds, and nothing else."""
    inline = {"style-src": style} | ({} if script is None else {"script-src": script})
    digests = {
        name: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for name, content in inline.items()
    }
    own = "; ".join(f"{name} 'sha256-{digest}'" for name, digest in digests.items())
    return f"default-src 'none'; {own}; img-src data:; base-uri 'none'; form-action 'none'"
