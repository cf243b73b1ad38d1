"""Scaling: runs a workload on increasing numbers of workers and reports the speed-up."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpcml.errors import WorkloadError
from hpcml.files import plain
from hpcml.upstream.distributed import remote_compute_seconds
from hpcml.workloads.base import MEASURED, Inputs, Outcome, Prepared, Units, Workload
from hpcml.workloads.scaling.paused_workers import Resting

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# Seconds to wait between two points until dead workers are replaced.
_PATIENCE = 300


@dataclass(frozen=True)
class Point:
    """One run of the workload.

    Parameters
    ----------
    busy_core_s : float or None
        Seconds that worker threads spent in tasks, summed over the threads; None if the scheduler
        does not report it.
    lost : int
        The number of its workers that died.
    metrics : mapping
        The workload's metrics.
    """

    workers: int
    threads: int
    seconds: float
    busy_core_s: float | None
    lost: int
    metrics: Mapping[str, Any]


@dataclass(kw_only=True)
class Scaling:
    """Run a workload at several numbers of workers, the smallest first.

    Parameters
    ----------
    workload : Workload
    workers : sequence of int
        The numbers. The outcome at the largest is the outcome of the run.
    """

    workload: Workload
    workers: Sequence[int]

    def __post_init__(self) -> None:
        self.workers = sorted(self.workers)

    def prepare(self, inputs: Inputs) -> Prepared:
        """Prepare the workload; each number of workers runs all of its units."""
        prepared = self.workload.prepare(inputs)
        turns = f"on {', '.join(map(str, self.workers))} workers in turn, the whole cluster being held, and paid for"
        return replace(
            prepared,
            n_units=prepared.n_units * len(self.workers),
            description=f"{prepared.description}; {turns}",
            run=functools.partial(self._run, prepared, inputs.model),
        )

    def _run(self, prepared: Prepared, model: Any, client: Client, units: Units) -> Outcome:
        """Run the workload at each number of workers and compare the times."""
        points: list[Point] = []
        last = Outcome()
        each = units.total // len(self.workers)
        for count in self.workers:
            part = _Units(units, _name(count), each)
            units.so_far = lambda part=part: _with(points, part.so_far())  # type: ignore[misc]  # mypy sees no default
            try:
                outcome, point = self._point(count, prepared, model, client, part)
            except WorkloadError as error:
                if error.outcome is not None:
                    error.outcome = _with(points, error.outcome)
                raise
            log.info("scaling: %s: %.2f s", _name(count), point.seconds)
            points.append(point)
            last = outcome
        return _with(points, last)

    def _point(self, count: int, prepared: Prepared, model: Any, client: Client, units: Units) -> tuple[Outcome, Point]:
        try:
            client.wait_for_workers(count, timeout=_PATIENCE)
        except TimeoutError as error:
            raise WorkloadError(f"there are no {count} workers any more", "their logs say why") from error
        resting = Resting(client, count)
        with resting as part:
            # Imports should not be timed: those of each worker, and of the scheduler, which
            # unpickles tasks too.
            needed = self.workload, model
            client.run(_ready, needed, workers=list(resting.active), on_error="ignore")
            part.submit(_ready, needed, pure=False).result()
            threads = sum(part.nthreads().values())
            busy, began = _busy(client), time.monotonic()
            outcome = prepared.run(part, units)
            seconds = time.monotonic() - began
            after = _busy(client)
        spent = None if busy is None or after is None else after - busy
        return outcome, Point(count, threads, seconds, spent, resting.lost, outcome.metrics)


class _Units(Units):
    """The units of one point; each is also a unit of the whole run under a prefixed key."""

    def __init__(self, whole: Units, prefix: str, total: int) -> None:
        self._whole, self._prefix, self._total = whole, prefix, total
        super().__init__(total, whole.parts, whole.directory)

    @property
    def total(self) -> int:
        return self._total

    @total.setter
    def total(self, value: int) -> None:
        self._whole.total += value - self._total
        self._total = value

    def finish(self, key: str, result: Any = None) -> None:
        super().finish(key, result)
        self._whole.finish(f"{self._prefix}: {key}", result)


def _name(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _ready(needed: Any) -> None:
    """Do nothing: unpickling the argument has imported its modules."""


def _busy(client: Client) -> float | None:
    """Return the total time of all tasks so far in core-seconds, as the scheduler reports it."""
    with contextlib.suppress(Exception):
        return remote_compute_seconds(client)
    return None


def _with(points: Sequence[Point], outcome: Outcome) -> Outcome:
    """Add the scaling results to a workload's outcome."""
    if not points:
        return outcome
    rows = _rows(points)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return replace(
        outcome,
        metrics={**outcome.metrics, "scaling": rows},
        tables={**outcome.tables, "scaling": columns},
        summary={**outcome.summary, **_lines(rows)},
        warnings=[*outcome.warnings, *_doubts(points)],
        figures={**outcome.figures, "scaling": _figure(columns)},
    )


def _rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Compare all points with the first.

    Speed-up is t(first) / t(n), and efficiency is speed-up x first / n.
    """
    first = points[0]
    return [
        {
            "workers": point.workers,
            "threads": point.threads,
            "seconds": point.seconds,
            "speedup": first.seconds / point.seconds,
            "efficiency": first.seconds * first.workers / (point.seconds * point.workers),
            "busy_core_s": point.busy_core_s,
        }
        for point in points
    ]


def _lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    first, *others = rows
    return {
        _name(first["workers"]): f"{first['seconds']:.2f} s",
        **{
            _name(row["workers"]): f"{row['seconds']:.2f} s, {row['speedup']:.2f} times as fast, efficiency "
            f"{row['efficiency']:.0%}"
            for row in others
        },
    }


def _doubts(points: Sequence[Point]) -> list[str]:
    """Return warnings about points with lost workers, or with results that differ from the last."""
    *others, last = points
    lines = [
        f"{point.lost} of {_name(point.workers)} died and had to be replaced: the time is too long"
        for point in points
        if point.lost
    ]
    for point in others:
        one, other = _results(point.metrics), _results(last.metrics)
        differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
        if differing:
            shown = "; ".join(f"{name} is {one.get(name)} and {other.get(name)}" for name in differing[:3])
            lines.append(f"the results of {_name(point.workers)} and {_name(last.workers)} differ: {shown}")
    return lines


def _results(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics that were not measured, with NaN made comparable by :func:`plain`."""
    return {name: plain(value) for name, value in metrics.items() if not name.endswith(MEASURED)}


def _figure(columns: Mapping[str, list[Any]]) -> Any:
    from matplotlib.figure import Figure

    workers = columns["workers"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(workers, [count / workers[0] for count in workers], "--", color="0.6", label="ideal")
    left.plot(workers, columns["speedup"], "o-", label="measured")
    left.set(xlabel="workers", ylabel=f"speed-up over {_name(workers[0])}", xticks=workers, ylim=(0, None))
    left.legend()
    right.axhline(1, linestyle="--", color="0.6")
    right.plot(workers, columns["efficiency"], "o-")
    right.set(xlabel="workers", ylabel="efficiency", xticks=workers, ylim=(0, None))
    return figure
