"""What the user reads: start, summary, tables of runs, errors. Plain text where the output is no terminal."""

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
    from hpcml.cluster import Cluster
    from hpcml.plan import Plan
    from hpcml.record import Record
    from hpcml.runs import RunPaths
    from hpcml.submission import Submitted

_COLOURS = {"DONE": "green", "RUNNING": "cyan", "FAILED": "red", "CANCELLED": "yellow", "INTERRUPTED": "yellow",
            "LOST": "red", "SUBMITTED": "cyan"}  # fmt: skip

_COLOURS_OF = {"error": "bold red", "warning": "yellow"}
_TITLES = {
    "env.sh": "env.sh is to make this environment",
    "head": "the head job's script",
    "worker": "a worker job's script",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence: whoever read this has left, and a run must not end for that."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(stderr: bool = False) -> Console:
    """Make a console on standard output or error."""
    return _Console(stderr=stderr)


def line(console: Console, text: str, style: str | None = None) -> None:
    """Print one line as it is: no wrapping, no markup."""
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def doing(console: Console) -> Iterator[Callable[[str], None]]:
    """Give a function to say what is being done: one line that changes on a terminal, elsewhere one every 5 seconds."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(escape(text))
        return
    said = -math.inf

    def say(text: str) -> None:
        nonlocal said
        if time.monotonic() >= said + 5:
            said = time.monotonic()
            line(console, text)

    yield say


def pairs(console: Console, lines: Mapping[str, str]) -> None:
    """Print labels and texts, aligned."""
    width = max(map(len, lines), default=0)
    for label, text in lines.items():
        line(console, f"  {label:<{width}}  {text}")


def show_plan(console: Console, plan: Plan, overrides: Sequence[str]) -> None:
    """Print what a run would do, what to type, and the job scripts; or what is wrong with it."""
    if not plan.errors:
        pairs(console, plan.lines)
    for complaint in plan.errors or plan.complaints:
        line(console, f"{complaint.severity}: {complaint.text}", _COLOURS_OF[complaint.severity])
        line(console, f"  {complaint.remedy}")
        line(console, f"  [{complaint.source}]", "dim")
    if plan.errors:
        return
    line(console, "\nto start it" if plan.proposal is None else "\nto submit it", "bold")
    line(console, f"  {plan.command(overrides)}")
    if by_hand := plan.by_hand(overrides):
        line(console, "\nor by hand", "bold")
        line(console, f"  {by_hand}")
    for name, text in plan.scripts().items():
        line(console, f"\n{_TITLES[name]}", "bold")
        for written in text.splitlines():
            line(console, f"  {written}".rstrip())


def show_start(console: Console, paths: RunPaths, what: Sequence[str]) -> None:
    """Say which run has begun, and on what."""
    line(console, f"run {paths.run_id}")
    for text in what:
        line(console, f"  {text}")


def show_cluster(console: Console, cluster: Cluster) -> None:
    """Say what the run computes on, and how to look at it; the dashboard is on loopback only."""
    line(console, f"  {cluster.size}; dashboard {cluster.dashboard}")
    if "SSH_CONNECTION" in os.environ or "PBS_JOBID" in os.environ or "SLURM_JOB_ID" in os.environ:
        port = urlsplit(cluster.dashboard).port
        line(console, f"  to see it from your own machine: ssh -N -L {port}:127.0.0.1:{port} {_me()}")


def _me() -> str:
    return f"{getpass.getuser()}@{socket.getfqdn()}"


def show_submitted(console: Console, submitted: Submitted) -> None:
    """Say what was submitted, and what to type next."""
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
    """Say what came out, where it lies, and what to type next."""
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
    """Print one message: what happened, what to type, where the log is."""
    line(console, f"error: {error.message}", "bold red")
    for hint in error.hints:
        line(console, f"  {hint}")
    if error.log is not None:
        line(console, f"  log: {error.log}")


def show_runs(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
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
        state = run["state"]
        table.add_row(
            run["run"],
            f"[{_COLOURS.get(state, 'white')}]{state}[/]",
            escape(run["what"]),
            _when(run["started"]),
            _duration(run["wall_s"]),
            _units(run),
            _score(run["metrics"]),
        )
    if not console.is_terminal:  # a file or a pipe gets whole lines
        console = Console(file=console.file, width=250)
    console.print(table)


def show_run(console: Console, run: Mapping[str, Any]) -> None:
    """Print all that is known of one run."""
    state = run["state"]
    line(console, f"{state} {run['run']}", _COLOURS.get(state))
    lines = {
        "what": run["what"],
        "started": f"{_when(run['started'])} by {run['user']} on {run['host']}",
        "wall time": _duration(run["wall_s"]),
        "units": _units(run),
    }
    if run["head_job"]:
        lines["head job"] = f"{run['head_job']}{': ' + run['note'] if run['note'] else ''}"
    if run["workers"] and run["threads"]:
        lines["cluster"] = f"workers x threads: {run['workers']} x {run['threads']}"
    if run["core_s_allocated"]:
        share = run["core_s_busy"] / run["core_s_allocated"]
        lines["cores"] = f"{run['core_s_busy']:.1f} of {run['core_s_allocated']:.1f} core-seconds busy ({share:.0%})"
    lines |= run["summary"]
    if run["error"]:
        lines["error"] = run["error"].replace("\n", "\n  ")
    lines["results"] = run["path"]
    pairs(console, lines)
    for warning in run["warnings"]:
        line(console, f"  warning: {warning}", "yellow")


def _when(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_seconds(seconds)


def _units(run: Mapping[str, Any]) -> str:
    return "-" if run["units_total"] is None else f"{run['units_done']}/{run['units_total']}"


def _score(metrics: Mapping[str, Any]) -> str:
    score = metrics.get("best_score")
    return "-" if score is None else f"{score:.4f}"
