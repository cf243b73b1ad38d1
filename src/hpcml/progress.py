"""Report progress on a terminal, in a batch log, and in a file for `hpcml status`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hpcml.background import looking
from hpcml.files import write_json
from hpcml.units import count, format_seconds, format_size

if TYPE_CHECKING:
    from hpcml.cluster import Cluster
    from hpcml.workloads.base import Units

log = logging.getLogger(__name__)

# Seconds between two updates, two lines in a batch log, and two writes of the progress file.
_LOOK, _LINE, _FILE = 0.5, 30.0, 5.0


@dataclass(frozen=True)
class Snapshot:
    """Progress of a run at one time; times in seconds, memory in bytes."""

    time: float
    done: int
    total: int
    elapsed: float
    workers: int
    memory: int
    memory_limit: int

    @property
    def remaining(self) -> float | None:
        """Estimated time left, at the mean rate so far; None before the first unit."""
        return self.elapsed / self.done * (self.total - self.done) if self.done else None

    def __str__(self) -> str:
        left = f", about {format_seconds(self.remaining)} left" if self.remaining else ""
        memory = f"{format_size(self.memory)} of {format_size(self.memory_limit)}"
        rate = f"{self.done}/{self.total} done in {format_seconds(self.elapsed)}{left}"
        return f"{rate}; {count(self.workers, 'worker')}, {memory}"


class View(Protocol):
    """Display for snapshots."""

    def show(self, snapshot: Snapshot, last: bool) -> None:
        """Show a snapshot; ``last`` marks the final one of the run."""
        ...


class LineView:
    """Prints a line every half minute without control characters, for batch logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0

    def show(self, snapshot: Snapshot, last: bool) -> None:
        if last or snapshot.time >= self._next:
            self._next = snapshot.time + _LINE
            self._console.print(f"{time.strftime('%H:%M:%S')} {snapshot}", soft_wrap=True, highlight=False)


class TerminalView:
    """Shows a live bar with units, time left, workers and memory."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, cluster="")

    def show(self, snapshot: Snapshot, last: bool) -> None:
        memory = f"{format_size(snapshot.memory)}/{format_size(snapshot.memory_limit)}"
        self._progress.update(
            self._task,
            completed=snapshot.done,
            total=snapshot.total,
            cluster=f"{count(snapshot.workers, 'worker')}  {memory}",
            refresh=last,
        )


@contextlib.contextmanager
def watching(cluster: Cluster, units: Units, console: Console, file: Path) -> Iterator[None]:
    """Report the progress of the units while the block runs.

    Parameters
    ----------
    console : Console
        Output; a live display if it is a terminal.
    file : Path
        File to update every few seconds, for `hpcml status` in another shell.
    """
    with contextlib.ExitStack() as stack:
        if console.is_terminal and not console.is_dumb_terminal:
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[cluster]}"),
            )
            view: View = TerminalView(stack.enter_context(Progress(*columns, console=console)))
        else:
            view = LineView(console)
        stack.enter_context(_Watcher(cluster, units, view, file).watching())
        yield


class _Watcher:
    """Samples the cluster and the units every half second, and once more at the end."""

    def __init__(self, cluster: Cluster, units: Units, view: View, file: Path) -> None:
        self._cluster, self._units, self._view, self._file = cluster, units, view, file
        self._began = time.monotonic()
        self._next_file = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Show progress while the block runs."""
        try:
            with looking("progress", self._look, _LOOK):
                yield
        finally:
            self._look(last=True)

    def _look(self, last: bool = False) -> bool:
        try:
            load = self._cluster.load()
            now, elapsed = time.time(), time.monotonic() - self._began
            snapshot = Snapshot(now, self._units.done, self._units.total, elapsed, **asdict(load))
            self._view.show(snapshot, last)
            if last or now >= self._next_file:
                self._next_file = now + _FILE
                write_json(self._file, asdict(snapshot))
        except Exception as error:
            # the display must never end a run: a dead scheduler or a full disk ends it elsewhere
            log.debug("no progress to show: %s: %s", type(error).__name__, error)
        return False
