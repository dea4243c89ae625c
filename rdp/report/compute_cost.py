"""What it took to know each claim, as the page, the paper and the tables show it, from what `claims.json` holds."""

from typing import Any

from rdp.errors import UserError
from rdp.jobs import energy
from rdp.report.formatting import DASH, rounded

ALL = "the study, each run once"
_KILO = 1000.0
_WATT_HOUR = 3600.0  # joules
_DEVICES = {"gpu_joules": "GPUs", "cpu_package_joules": "processor packages"}


def rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a claim, and a last one of the study.

    Raises:
        UserError: verdicts of an earlier version, which tell no cost.
    """
    if "cost" not in content:
        raise UserError(f"claims.json: of an earlier version, without costs; run: rdp claims {content['study']}")
    found = {claim["name"]: claim["cost"] for claim in content["claims"]} | {ALL: content["cost"]}
    return [{"claim": name, **cost} for name, cost in found.items()]


def energies(content: dict[str, Any]) -> dict[str, str]:
    """The kinds of energy that any run of the study tells of, each with the devices that it is of."""
    return {kind: _DEVICES[kind] for kind in energy.KINDS if content["cost"][f"{kind}_of"]}


def joules(row: dict[str, Any], kind: str) -> str:
    """``1.25 kWh``, with how many runs told it where not all did; a dash where none."""
    if row[kind] is None:
        return DASH
    hours = row[kind] / _WATT_HOUR
    amount = f"{rounded(hours / _KILO)} kWh" if hours >= _KILO else f"{rounded(hours)} Wh"
    return amount + (f" ({row[f'{kind}_of']} of {row['runs']} runs)" if row[f"{kind}_of"] < row["runs"] else "")


def hours(row: dict[str, Any]) -> str:
    """``12.5 core-hours``, ``3 GPU-hours``, or both; a dash where no run tells its time."""
    amounts = ((row["gpu_hours"], "GPU"), (row["core_hours"], "core"))
    return " and ".join(f"{rounded(value)} {of}-hours" for value, of in amounts if value) or DASH
