"""Launch a run: the only module that connects its parts."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from distributed import CancelledError, KilledWorker
from rich.console import Console

from hpcml import display, interrupt, record, results, runs
from hpcml.batch.current_job import CurrentJob, find_current_job
from hpcml.batch.ledger import HEAD, Ledger
from hpcml.batch.request import Request
from hpcml.batch.schedulers import to_ledger
from hpcml.cluster import Cluster, open_cluster
from hpcml.data import paths as data_paths
from hpcml.describe import describe
from hpcml.errors import Cancelled, ConfigError, HpcmlError, Interrupted, ResultsError, WorkloadError
from hpcml.files import write_text
from hpcml.logs import run_log
from hpcml.parts import Parts
from hpcml.plan import Checked, check, describe_run, plan_request, scratch
from hpcml.progress import watching
from hpcml.record import Origin, Record, State
from hpcml.runs import RunPaths
from hpcml.spec import AttachSpec, RunSpec
from hpcml.units import format_seconds
from hpcml.upstream.multiprocessing import importing_main
from hpcml.workloads.base import Outcome, Units
from hpcml.workloads.engine import peak_memory
from hpcml.workloads.engine.causes import cause

log = logging.getLogger(__name__)

# Minimum and maximum of the margin, in seconds, by which a head stops before its job ends, to save
# results and delete the worker jobs. In between it is 1/20 of the walltime, and never more than
# 1/4.
_MARGIN = (30, 120)


@dataclass
class _Run:
    """State of a run, from which its record is built however the run ends."""

    paths: RunPaths
    started: float
    units: Units
    cluster: Cluster | None = None
    outcome: Outcome = field(default_factory=Outcome)
    model: str | None = None
    peak_memory: Mapping[str, int] = field(default_factory=dict)
    # Lines of the summary about the data.
    notes: Mapping[str, str] = field(default_factory=dict)
    # Names of the data's columns.
    features: Sequence[str] | None = None
    warnings: list[str] = field(default_factory=list)
    # The batch job that contains the head, and its end in seconds since the epoch.
    job: CurrentJob | None = None
    ends: float | None = None

    def record(self, state: State, exit_code: int, error: str | None) -> Record:
        ended = time.time()
        return Record(
            run=self.paths.run_id,
            path=str(self.paths.root),
            state=state,
            exit_code=exit_code,
            error=error,
            started=self.started,
            ended=ended,
            wall_s=ended - self.started,
            workers=self.cluster.size.workers if self.cluster else 0,
            threads=self.cluster.size.threads if self.cluster else 0,
            core_s_allocated=self.cluster.core_s_allocated if self.cluster else 0.0,
            core_s_busy=self.cluster.core_s_busy if self.cluster else 0.0,
            units_done=self.units.done,
            units_total=self.units.total,
            tasks=dict(sorted(self.cluster.tally.tasks.items())) if self.cluster else {},
            jobs=self.cluster.job_summary() if self.cluster else [],
            metrics=self.outcome.metrics,
            summary={**self.notes, **self.outcome.summary, **({"model": self.model} if self.model else {})},
            warnings=[*self.outcome.warnings, *self.warnings],
            peak_memory=self.peak_memory,
        )


def run(
    spec: RunSpec, *, origin: Origin | None = None, console: Console | None = None, adopted: RunPaths | None = None
) -> Record:
    """Run a workload on a cluster and write its results to a new run directory.

    Parameters
    ----------
    spec : RunSpec
        What to run.
    origin : Origin or None
        Origin of the spec, for the manifest.
    console : Console or None
        Output for progress; None for standard error.
    adopted : RunPaths or None
        Run directory created by `hpcml submit`; None to create one.

    Returns
    -------
    Record
        The record of the run, with state DONE.

    Raises
    ------
    ConfigError
        If the request is invalid.
    HpcmlError
        If the run fails. The run directory then has a record, and the error's ``log`` is the log
        file.
    KeyboardInterrupt, SystemExit
        After Ctrl-C, or SIGTERM and SIGHUP, once the cluster is closed and the record written.
    """
    if importing_main():
        raise ConfigError(
            "hpcml.run() was called in a worker process that imports your script",
            'put the call of hpcml.run() behind: if __name__ == "__main__":',
        )
    with interrupt.installed() as ours:
        try:
            return _run(spec, origin or Origin(), console or display.console(stderr=True), adopted)
        except Cancelled as cancelled:
            if not ours:
                raise
            # A script that does not know Cancelled must end as it would without hpcml.
            if cancelled.signum == signal.SIGINT:
                raise KeyboardInterrupt from cancelled
            raise SystemExit(cancelled.exit_code) from cancelled


def _run(spec: RunSpec, origin: Origin, console: Console, adopted: RunPaths | None) -> Record:
    began = time.time()
    if adopted is not None:
        spec = replace(spec, scratch=str(adopted.root.parent))
    job_plan = plan_request(spec, here=True)
    if job_plan is not None:
        job_plan.raise_errors()
    request = job_plan.request if job_plan else None
    # A mistake leaves no run directory behind. The run directory of a head in a job exists already.
    checked = check(spec, request, trial=True) if adopted is None else None
    git = record.git_state(Path.cwd())  # Before the run directory exists, which may make the checkout dirty.
    interrupt.reopen()
    interrupt.hold()  # Until the try block below protects the run directory.
    try:
        current = _Run(adopted or runs.create(scratch(spec)), began, Units(0))
    except BaseException:
        interrupt.closing()
        interrupt.release()
        raise
    with run_log(current.paths.log):
        try:
            interrupt.release()
            record.write_manifest(current.paths, current.started, origin, git)
            write_text(current.paths.config, yaml.safe_dump(origin.config or describe(spec), sort_keys=False))
            current.job = find_current_job(spec.site)
            with interrupt.alarm(_time_left(current)), _removing(current.paths.laid_out):
                _execute(spec, request, checked or check(spec, request), current, console)
                interrupt.closing()
            ended = current.record("DONE", 0, None)
        except BaseException as error:
            interrupt.closing()
            failure = _translate(error)
            log.error("run ended: %s", failure, exc_info=error)
            _record_failure(current, failure)
            raise failure from (None if failure is error else error)
        _write_record(ended, current.paths)
    return ended


@contextlib.contextmanager
def _removing(directory: Path) -> Iterator[None]:
    """Remove a directory at the end, if it exists."""
    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _time_left(current: _Run) -> float | None:
    """Return how long the run may take, in seconds; None if the limit is unknown."""
    current.ends = None if current.job is None else current.job.ends()
    if current.ends is None:
        return None
    left = current.ends - time.time()
    margin = min(max(_MARGIN[0], left / 20), _MARGIN[1], left / 4)
    log.info("this job ends in %s; the run stops %d s before", format_seconds(left), margin)
    return left - margin


def _note_head(current: _Run, request: Request) -> None:
    """Record the head's batch job in the ledger, for queries from other hosts."""
    if current.job is not None:
        facts = {"scheduler": current.job.batch.name, "site": to_ledger(request.site)}
        Ledger(current.paths.ledger).note("submitted", HEAD, id=current.job.id, **facts)


def _execute(spec: RunSpec, request: Request | None, checked: Checked, current: _Run, console: Console) -> None:
    data = checked.inputs.data
    try:
        record.note_files(current.paths, data_paths(spec.data))
    except OSError as error:
        log.warning("the manifest lacks the data's files: %s", error)
    current.units.total, current.warnings = checked.prepared.n_units, checked.warnings
    current.notes = checked.prepared.notes
    current.units.parts = lambda name: Parts(current.paths.parts(name))
    if not isinstance(spec.cluster, AttachSpec):
        current.units.directory = current.paths.laid_out
    current.features = None if data is None else data.feature_names
    display.show_start(console, current.paths, describe_run(checked))

    def say(text: str) -> None:
        display.line(console, f"{time.strftime('%H:%M:%S')} {text}")

    if request is not None:
        _note_head(current, request)
    with open_cluster(spec.cluster, request, current.paths, current.ends, say) as cluster:
        current.cluster = cluster
        display.show_cluster(console, cluster)
        with watching(cluster, current.units, console, current.paths.progress):
            try:
                current.outcome = checked.prepared.run(cluster.client, current.units)
                current.peak_memory = _peaks(cluster)
            except BaseException as error:
                _save_partial(spec, current, error)
                if isinstance(error, Cancelled):
                    raise
                if cluster.out_of_time:
                    raise Interrupted(signal.SIGALRM) from error
                if cluster.gave_up is not None:
                    raise WorkloadError(
                        f"no workers are left: {cluster.gave_up}",
                        *cluster.last_words(),
                        f"worker logs: {current.paths.worker_logs}",
                    ) from error
                if _workers_died(error):
                    what = [error.message] if isinstance(error, WorkloadError) else []  # It names the unit.
                    raise WorkloadError(
                        *what,
                        f"workers kept dying; {cluster.first_error()}",
                        "if they ran out of memory, " + _more_memory(request),
                        f"worker logs: {current.paths.worker_logs}",
                    ) from error
                raise
        _save(spec, current)


def _peaks(cluster: Cluster) -> dict[str, int]:
    """Return the peak memory of the head and of the workers, in bytes."""
    peaks = {"head": peak_memory.peak()}
    with contextlib.suppress(Exception):  # Workers may be leaving.
        found = cluster.client.run(peak_memory.of_worker, on_error="ignore")
        peaks |= dict(sorted(found.values()))
    return peaks


def _more_memory(request: Request | None) -> str:
    if request is None:
        return "use fewer workers, cluster.workers=1, or more memory for each, cluster.memory_limit=8GB"
    return "use fewer workers in a job, cluster.workers_per_job, or more memory for it, cluster.mem"


def _save(spec: RunSpec, current: _Run) -> None:
    with interrupt.deferred():
        outcome = current.outcome
        if outcome.features is None:
            outcome = replace(outcome, features=current.features)
        current.model, warnings = results.save(outcome, current.paths, spec.model_format)
        current.warnings += warnings


def _save_partial(spec: RunSpec, current: _Run, error: BaseException) -> None:
    """Write partial results after a failure or signal; a second failure must not hide the first."""
    interrupt.closing()
    try:
        attached = error.outcome if isinstance(error, WorkloadError) else None
        current.outcome = attached or current.units.so_far()
        if current.outcome != Outcome():
            _save(spec, current)
    except Exception as second:
        log.exception("partial results could not be written")
        current.warnings.append(f"partial results could not be written: {second}")


def _translate(error: BaseException) -> BaseException:
    """Convert any exception that ended the run to an error of hpcml."""
    error = interrupt.behind(error)
    if isinstance(error, (HpcmlError, Cancelled, KeyboardInterrupt)):
        return error
    return WorkloadError(cause(error))


def _workers_died(error: BaseException | None) -> bool:
    """Return whether Dask raised an error, or its cause, because workers died."""
    if error is None or isinstance(error, (KilledWorker, CancelledError)):
        return error is not None
    return _workers_died(error.__cause__)


def _record_failure(current: _Run, failure: BaseException) -> None:
    """Write the record of a failed run, and add to the error where its log and remaining jobs are."""
    end = record.end_of(failure)
    _write_record(current.record(end.state, end.exit_code, end.text), current.paths)
    if isinstance(failure, (HpcmlError, Cancelled)):
        failure.log = current.paths.log
    if isinstance(failure, Cancelled) and current.cluster is not None:
        failure.left = current.cluster.left


def _write_record(ended: Record, paths: RunPaths) -> None:
    """Write the record; a failure to do so must not hide the error that ended the run."""
    try:
        ended.write(paths)
    except OSError as error:
        log.error("the record could not be written: %s", error)
        if ended.state == "DONE":
            raise ResultsError(f"the record could not be written to {paths.record}: {error.strerror}") from error
