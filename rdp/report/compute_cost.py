"""Compute cost per claim from ``claims.json``, for the page, the paper and the tables."""

from typing import Any

from rdp.jobs import energy
from rdp.report.formatting import DASH, rounded

ALL = "the study, each run once"
_KILO = 1000.0
_WATT_HOUR = 3600.0  # joules
_DEVICES = {"gpu_joules": "GPUs", "cpu_package_joules": "processor packages"}


def rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per claim and a last row for the study."""
    costs = {claim["name"]: claim["cost"] for claim in content["claims"]} | {ALL: content["cost"]}
    return [{"claim": name, **cost} for name, cost in costs.items()]


def energies(content: dict[str, Any]) -> dict[str, str]:
    """The kinds of energy that any run of the study measured, with the devices of each."""
    return {kind: _DEVICES[kind] for kind in energy.KINDS if content["cost"][f"{kind}_of"]}


def joules(row: dict[str, Any], kind: str) -> str:
    """``1.25 kWh``, with the number of runs that measured it if not all did; a dash if none did."""
    if row[kind] is None:
        return DASH
    hours = row[kind] / _WATT_HOUR
    amount = f"{rounded(hours / _KILO)} kWh" if hours >= _KILO else f"{rounded(hours)} Wh"
    return amount + (f" ({row[f'{kind}_of']} of {row['runs']} runs)" if row[f"{kind}_of"] < row["runs"] else "")


def hours(row: dict[str, Any]) -> str:
    """``12.5 core-hours``, ``3 GPU-hours``, or both; a dash if no run has a time."""
    amounts = ((row["gpu_hours"], "GPU"), (row["core_hours"], "core"))
    return " and ".join(f"{rounded(value)} {of}-hours" for value, of in amounts if value) or DASH
