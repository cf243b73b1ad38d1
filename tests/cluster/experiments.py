"""Run small experiments on a scheduler and locally, and compare results and workers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
from benchmarks._corpus import archive
from tests.cluster.beds import Bed

from hpcml import fetch
from hpcml.data.newsgroups import cache_file
from hpcml.workloads.base import MEASURED

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))

# Two jobs of one worker each, with both required at the start, since the first would do all the
# work otherwise.
TWO_JOBS = ("cluster.jobs=2", "cluster.ncpus=1", "cluster.mem=1500MB", "cluster.min_workers=2")
LOCAL = ("cluster=local", "cluster.workers=2")

# Larger than the smallest size, which the first worker would finish before the second has imported
# its modules.
MORE = {"predict_large": ("data.times=1000", "data.block_size=50000")}


@dataclass(frozen=True)
class Ran:
    """The results and the record of a run of an experiment."""

    record: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seconds: float

    @property
    def workers(self) -> int:
        """Return how many workers finished tasks."""
        return sum(count > 0 for count in self.record["tasks"].values())

    @property
    def jobs(self) -> int:
        """Return how many worker jobs finished tasks."""
        return sum(job["tasks"] > 0 for job in self.record["jobs"])


def run(bed: Bed, name: str, *args: str) -> Ran:
    """Run a small experiment to its end."""
    extra = list(MORE.get(name, ()))
    if name == "newsgroups_grid":
        home = bed.work / "newsgroups"
        if not home.exists():
            made = bed.work / "20news-bydate.tar.gz"
            fetch.newsgroups(cache_file(str(home)), made.as_uri(), archive(made, train=400, test=40), print)
        extra.append(f"data.data_home={home}")
    where = LOCAL if "cluster=local" in args else (*bed.overrides, *TWO_JOBS)
    began = time.monotonic()
    code, out = bed.run("run", *where, f"scratch={bed.scratch}", f"experiment={name}", "size=small", *extra)
    seconds = time.monotonic() - began
    assert code == 0, f"{name} on {bed.name}: {out}"
    record = bed.last("record.json")
    assert record["units_done"] == record["units_total"], name
    return Ran(record, {**bed.last("metrics.json"), "rows": _rows(Path(record["path"]))}, seconds)


def _rows(run: Path) -> list[dict[str, Any]]:
    """Read the table that a function over parameters wrote, without its times."""
    path = run / "tables" / "results.parquet"
    if not path.exists():
        return []
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Return the differences between two runs of an experiment, except measurements."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = []
        for key in sorted({*one, *other}):
            if not key.endswith(MEASURED):
                found += differences(one.get(key), other.get(key), f"{where}.{key}")
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            text for n, pair in enumerate(zip(one, other, strict=True)) for text in differences(*pair, f"{where}[{n}]")
        ]
    if isinstance(one, float) and isinstance(other, (int, float)) and math.isclose(one, other, rel_tol=1e-9):
        return []
    return [] if one == other else [f"{where.lstrip('.')}: {one} and {other}"]
