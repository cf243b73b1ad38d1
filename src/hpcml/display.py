"""Print messages, summaries, tables of runs and errors; plain text off a terminal."""

from __future__ import annotations

import contextlib
import getpass
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpcml.errors import HpcmlError
from hpcml.units import format_seconds

if TYPE_CHECKING:
    from hpcml.catalogue import Entry
    from hpcml.cluster import Cluster
    from hpcml.plan import Plan
    from hpcml.record import Record, RunSummary
    from hpcml.runs import RunPaths
    from hpcml.submission import Submitted

_COLOURS = {"DONE": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLED": "yellow", "INTERRUPTED": "yellow",
            "LOST": "red", "SUBMITTED": "cyan"}  # fmt: skip

# Print up to this many keys in full, more of them as one line each.
_FEW_KEYS = 6

_COLOURS_OF = {"error": "bold red", "warning": "yellow"}
_TITLES = {
    "env.sh": "env.sh, which sets up the environment",
    "head": "the head job's script",
    "worker": "a worker job's script",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Discard further output: the reader has left, which must not end the run."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(stderr: bool = False) -> Console:
    """Return a console for standard output or error."""
    return _Console(stderr=stderr)


def line(console: Console, text: str, style: str | None = None) -> None:
    """Print one line without wrapping or markup."""
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def doing(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that prints progress: in place, or off a terminal every 5 s."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    last = -math.inf

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() >= last + 5:
            last = time.monotonic()
            line(console, text)

    yield say


def show_keys(console: Console, entries: Sequence[Entry]) -> None:
    """Print config keys, in full if there are few of them."""
    if len(entries) > _FEW_KEYS:
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            line(console, f"{entry.name:<{width}}  {entry.text}")
        return
    for entry in entries:
        line(console, f"{entry.name}  ({entry.section})", "bold")
        facts = {
            "": entry.text,
            "type": entry.type,
            "unit": entry.unit,
            "default": entry.default,
            "example": entry.example and f"{entry.name}={entry.example}",
        }
        pairs(console, {label: text for label, text in facts.items() if text})


def pairs(console: Console, lines: Mapping[str, str]) -> None:
    """Print labels and texts in two columns."""
    width = max(map(len, lines), default=0)
    for label, text in lines.items():
        line(console, f"  {label:<{width}}  {text}")


def show_plan(console: Console, plan: Plan, overrides: Sequence[str]) -> None:
    """Print a plan with the commands to run it and its job scripts, or its errors."""
    if not plan.errors:
        pairs(console, plan.lines)
    for diagnostic in plan.errors or plan.diagnostics:
        line(console, f"{diagnostic.severity}: {diagnostic.text}", _COLOURS_OF[diagnostic.severity])
        line(console, f"  {diagnostic.remedy}")
        line(console, f"  [{diagnostic.source}]", "dim")
    if plan.errors:
        return
    line(console, "\nto start it" if plan.job_plan is None else "\nto submit it", "bold")
    line(console, f"  {plan.command(overrides)}")
    if by_hand := plan.by_hand(overrides):
        line(console, "\nor by hand", "bold")
        line(console, f"  {by_hand}")
    for name, text in plan.scripts().items():
        line(console, f"\n{_TITLES[name]}", "bold")
        for written in text.splitlines():
            line(console, f"  {written}".rstrip())


def show_start(console: Console, paths: RunPaths, what: Sequence[str]) -> None:
    """Print the id of a run that starts, and a description."""
    line(console, f"run {paths.run_id}")
    for text in what:
        line(console, f"  {text}")


def show_cluster(console: Console, cluster: Cluster) -> None:
    """Print the size of the cluster, and how to reach its dashboard on loopback."""
    line(console, f"  {cluster.size}; dashboard {cluster.dashboard}")
    if "SSH_CONNECTION" in os.environ or cluster.in_job:
        port = urlsplit(cluster.dashboard).port
        line(console, f"  to open it on your own machine: ssh -N -L {port}:127.0.0.1:{port} {_me()}")


def _me() -> str:
    return f"{getpass.getuser()}@{socket.getfqdn()}"


def show_submitted(console: Console, submitted: Submitted) -> None:
    """Print the ids of a submitted run, and what to type next."""
    line(console, f"run {submitted.paths.run_id}")
    lines = {
        "head job": submitted.job,
        "results": str(submitted.paths.root),
        "log": str(submitted.paths.head_log),
        "next": f"hpcml status {submitted.paths.run_id}",
    }
    pairs(console, lines)
    for note in submitted.notes:
        line(console, f"  note: {note}", "yellow")


def show_summary(console: Console, record: Record) -> None:
    """Print the results of a run and their location, and what to type next."""
    line(console, f"{record.state} {record.run} in {format_seconds(record.wall_s)}", _COLOURS[record.state])
    lines = dict(record.summary)
    if record.efficiency is not None:
        lines["cores"] = (
            f"{record.core_s_busy:.1f} of {record.core_s_allocated:.1f} core-seconds busy ({record.efficiency:.0%})"
        )
    lines["results"] = record.path
    lines["next"] = f"hpcml status {record.path}"
    pairs(console, lines)
    for warning in record.warnings:
        line(console, f"  warning: {warning}", "yellow")


def show_error(console: Console, error: HpcmlError) -> None:
    """Print an error with its hints and log file."""
    line(console, f"error: {error.message}", "bold red")
    for hint in error.hints:
        line(console, f"  {hint}")
    if error.log is not None:
        line(console, f"  log: {error.log}")


def show_runs(console: Console, runs: Sequence[RunSummary]) -> None:
    """Print a table of runs, oldest first."""
    table = Table(box=None, pad_edge=False)
    for name, width in (
        ("run", 22),
        ("state", 9),
        ("what", None),
        ("started", None),
        ("wall", 7),
        ("units", 7),
        ("score", 6),
    ):
        table.add_column(
            name, justify="right" if name in {"wall", "units", "score"} else "left", no_wrap=True, min_width=width
        )
    for run in runs:
        state = run.state
        table.add_row(
            run.run,
            f"[{_COLOURS.get(state, 'white')}]{state}[/]",
            escape(run.what),
            _when(run.started),
            _duration(run.wall_s),
            _units(run),
            _score(run.metrics),
        )
    if not console.is_terminal:  # Do not wrap lines in a file or pipe.
        console = Console(file=console.file, width=250)
    console.print(table)


def show_run(console: Console, run: RunSummary) -> None:
    """Print the details of one run."""
    state = run.state
    line(console, f"{state} {run.run}", _COLOURS.get(state))
    lines = {
        "what": run.what,
        "started": f"{_when(run.started)} by {run.user} on {run.host}",
        "wall time": _duration(run.wall_s),
        "units": _units(run),
    }
    if run.head_job or run.note:
        lines["head job"] = ": ".join(filter(None, [run.head_job, run.note]))
    if run.workers and run.threads:
        lines["cluster"] = f"workers x threads: {run.workers} x {run.threads}"
    if run.core_s_allocated and run.core_s_busy is not None:
        share = run.core_s_busy / run.core_s_allocated
        lines["cores"] = f"{run.core_s_busy:.1f} of {run.core_s_allocated:.1f} core-seconds busy ({share:.0%})"
    lines |= run.summary
    if run.error:
        lines["error"] = run.error.replace("\n", "\n  ")
    lines["results"] = run.path
    pairs(console, lines)
    for warning in run.warnings:
        line(console, f"  warning: {warning}", "yellow")


def _when(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_seconds(seconds)


def _units(run: RunSummary) -> str:
    return "-" if run.units_total is None else f"{run.units_done}/{run.units_total}"


def _score(metrics: Mapping[str, Any]) -> str:
    score = metrics.get("best_score")
    return "-" if score is None else f"{score:.4f}"
