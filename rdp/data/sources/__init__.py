"""Dataset sources, one file each, then those of the user's extensions (`rdp.utils.extensions`)."""

from rdp.utils import extensions

__path__ = extensions.search_path(__path__, "datasets")
