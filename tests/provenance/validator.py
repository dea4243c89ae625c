"""roc-validator, without a network: its cache is filled with the one document that it would fetch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from requests_cache import CachedRequest, CachedResponse, CachedSession

CONTEXT = Path(__file__).parent / "standards" / "ro-crate-1.1-context.jsonld"
ADDRESS = "https://w3id.org/ro/crate/1.1/context"


def fill(cache: Path) -> Path:
    """Keep the context of RO-Crate 1.1 in a cache, as fetching it once would."""
    session = CachedSession(str(cache), backend="sqlite", allowable_methods=("GET",))
    request = CachedRequest(method="GET", url=ADDRESS)
    kind = {"Content-Type": "application/ld+json"}
    response = CachedResponse(url=ADDRESS, status_code=200, content=CONTEXT.read_bytes(), headers=kind, request=request)
    session.cache.save_response(response)
    session.close()
    return cache


def validate(crate: Path, cache: Path, severity: str = "REQUIRED") -> dict[str, Any]:
    """The validator's report on a research object, by the profiles that it states and those that they build on.

    ``passed``, and ``issues`` of this severity or above; ``statistics`` tell what was checked.
    """
    report = cache.with_name("report.json")
    command = [Path(sys.executable).with_name("rocrate-validator"), "--no-interactive", "validate", str(crate)]
    command += ["--offline", "--cache-path", str(cache), "--requirement-severity", severity, "--no-paging"]
    command += ["--output-format", "json", "--output-file", str(report)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert report.exists(), done.stdout + done.stderr
    content: dict[str, Any] = json.loads(report.read_text())
    report.unlink()
    assert (done.returncode == 0) == content["passed"], done.stdout + done.stderr
    return content
