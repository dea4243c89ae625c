"""Probes, one file each: those of this project, then the user's (`rdp.utils.extensions`)."""

from rdp.utils import extensions

__path__ = extensions.search_path(__path__, "probes")
