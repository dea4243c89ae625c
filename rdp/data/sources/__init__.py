"""Datasets, one file a source: this project's, then the user's (`rdp.utils.extensions`)."""

from rdp.utils import extensions

__path__ = extensions.search_path(__path__, "datasets")
