"""Write docs/experiments.md: every small experiment on each scheduler, its results and workers.

The experiments run locally, on a Slurm that this starts, and on OpenPBS if HPCML_TEST_OPENPBS is a
command that runs a line of shell on one of its hosts, which has hpcml. Names limit it to the rows
of some experiments.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from startup import directory_of
from tests.cluster import experiments
from tests.cluster.beds import Bed, OpenPbsBed, SlurmBed
from tests.cluster.experiments import Ran
from tests.cluster.slurm import Slurm, available

ROOT = Path(__file__).parent.parent

PAGE = """# Experiments

`hpcml run experiment=NAME` runs one of these; with `size=small` it takes seconds. The table shows
each experiment with `size=small`, in two worker processes of one machine, and on each scheduler
in two worker jobs with one worker each. "Equal" means that all metrics except times and memory
are those of the local run. The seconds are those of the whole command, with start, queue and
imports, on a machine with 2 cores. Tasks are Dask's: those of the units, and those that prepare
them. `python benchmarks/experiments.py` writes this file.

`newsgroups_grid` uses 400 synthetic messages, and `predict_large` a million rows, so that both
jobs get some.

"""

# The results to show, if an experiment has them.
SHOWN = ("best_score", "test_score", "score", "price", "inertia", "accuracy", "largest")


def result(ran: Ran) -> str:
    """Return the main figure of a result as text."""
    metrics = {**ran.metrics, "test_score": (ran.metrics.get("test_scores") or {}).get("score")}
    found = {name: metrics[name] for name in SHOWN if isinstance(metrics.get(name), float)}
    if rows := ran.metrics["rows"]:
        return f"{len(rows)} rows, the first: {', '.join(f'{name}={value:.6g}' for name, value in rows[0].items())}"
    return ", ".join(f"{name} {value:.6g}" for name, value in list(found.items())[:2])


def row(name: str, beds: list[Bed]) -> str:
    local = experiments.run(beds[0], name, *experiments.LOCAL)
    cells = [
        f"`{name}`",
        str(local.record["units_total"]),
        result(local),
        f"{local.seconds:.0f} s, {local.workers} workers",
    ]
    for bed in beds:
        ran = experiments.run(bed, name)
        wrong = experiments.differences(ran.metrics, local.metrics)
        told = "equal" if not wrong else f"differs: {'; '.join(wrong)}"
        tasks = "+".join(str(job["tasks"]) for job in ran.record["jobs"])
        cells.append(f"{told}; {ran.seconds:.0f} s, {tasks} tasks in {ran.jobs} jobs")
    print(" | ".join(cells), flush=True)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    missing, prefix = available(), os.environ.get("HPCML_TEST_OPENPBS")
    if missing is not None or prefix is None:
        sys.exit(missing or "set HPCML_TEST_OPENPBS to a command that runs a line of shell on a host that has OpenPBS")
    names = sys.argv[1:] or experiments.NAMES
    page = ROOT / "docs" / "experiments.md"
    rows = {text.split("`")[1].split()[0]: text for text in page.read_text().splitlines() if text.startswith("| `")}
    with Slurm() as slurm, directory_of(SlurmBed(slurm, "slurm")) as one, directory_of(OpenPbsBed(prefix)) as other:
        rows |= {name: row(name, [one, other]) for name in names}
    heads = ["experiment", "units of work", "result", "local", "Slurm", "OpenPBS"]
    there = [rows[name] for name in experiments.NAMES if name in rows]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *there]
    page.write_text(PAGE + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
