"""Pages from the project's templates."""

import jinja2

from rdp import places


def html() -> jinja2.Environment:
    """What HTML templates are rendered with: all that they show is escaped.

    A name that a template uses and nothing fills stops it, by name.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(places.templates()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def text(name: str) -> str:
    """One of the project's templates, or a style or script beside them, as it is."""
    return (places.templates() / name).read_text(encoding="utf-8")
