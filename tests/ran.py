"""Summarise which real schedulers the tests ran on, over all runs of pytest with the same log file.

``TESTS_RAN=FILE pytest ...`` appends to the file, and ``python tests/ran.py FILE`` prints a summary.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

# Patterns for ids of tests that need each scheduler; the first match counts.
PLACES = {
    "Docker": r"^tests/docker/",
    "OpenPBS": r"^tests/cluster/.*openpbs",
    "Slurm": r"^tests/cluster/.*(slurm|\[pbs)",
}


def place(test: str) -> str | None:
    """Return the scheduler that a test needs, or None."""
    return next((name for name, pattern in PLACES.items() if re.search(pattern, test)), None)


def summary(lines: list[str]) -> list[str]:
    """Return for each scheduler how many tests ran, and why others did not."""
    ran: Counter[str] = Counter()
    skipped: dict[str, Counter[str]] = {name: Counter() for name in PLACES}
    for line in lines:
        entry = json.loads(line)
        if entry["skipped"] is None:
            ran[entry["place"]] += 1
        else:
            skipped[entry["place"]][entry["skipped"]] += 1
    said = []
    for name in sorted(PLACES):
        count = f"{ran[name]} {'test' if ran[name] == 1 else 'tests'} ran" if ran[name] else "no test ran"
        reasons = [f"{number} skipped: {reason}" for reason, number in skipped[name].items()]
        if not ran[name] and not reasons:
            reasons = ["pytest ended before these tests"]
        said.append("; ".join([f"{name}: {count}", *reasons]))
    return said


if __name__ == "__main__":
    print("\n".join(summary(Path(sys.argv[1]).read_text().splitlines())))
