"""The provenance of a finished study: the paper checklist, and a research object."""
