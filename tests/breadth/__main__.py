"""Writes what was found on each model, one line a model: python -m tests.breadth [PART OF A NAME ...]."""

import argparse
import resource
import sys
import traceback
from collections import Counter, defaultdict
from pathlib import Path

import torch

from tests.breadth.contract import measure
from tests.breadth.findings import Finding
from tests.breadth.models import cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of models; by default all models")
    parser.add_argument("--to", type=Path, help="a file to write the table to as well")
    parser.add_argument("--larger", action="store_true", help="also larger models with the same blocks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        case for case in cases(options.larger) if not options.names or any(name in case.name for name in options.names)
    ]
    rows, counts = [], defaultdict[str, Counter[str]](Counter)

    def write(row: str) -> None:
        print(row, flush=True)
        rows.append(row)
        if options.to:
            options.to.write_text("\n".join(rows) + "\n")

    for case in chosen:
        try:
            found = measure(case)
        except Exception:
            traceback.print_exc()
            found = Finding(case.name, "not measured", repr(sys.exception())[:200])
        write(found.row)
        counts[case.name.split("/")[0]][found.verdict + (" (residual)" if found.residual_refusal else "")] += 1
    for library, counted in counts.items():
        write(f"{library}: " + ", ".join(f"{verdict} {number}" for verdict, number in counted.most_common()))
    write(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")


if __name__ == "__main__":
    main()
