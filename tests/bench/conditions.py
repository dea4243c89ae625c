"""Conditions under which tests run a benchmark: small, so that the figures mean nothing."""

from rdp.bench.measuring import Setting


def setting(**changes) -> Setting:
    options = {"device": "cpu", "threads": 1, "precision": "float32", "batch_size": 2, "rounds": 2}
    return Setting.of(**options | changes)
