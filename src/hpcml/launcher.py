"""The launcher: the only place where the parts of a run meet."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from distributed import CancelledError, KilledWorker
from rich.console import Console

from hpcml import display, interrupt, record, results, runs
from hpcml.batch.ledger import HEAD, Ledger
from hpcml.batch.ownjob import OwnJob, own_job
from hpcml.batch.request import Request
from hpcml.batch.scheduler import spoken_to
from hpcml.cluster import Cluster, open_cluster
from hpcml.describe import describe
from hpcml.errors import Cancelled, ConfigError, HpcmlError, Interrupted, ResultsError, WorkloadError
from hpcml.files import write_text
from hpcml.logs import run_log
from hpcml.parts import Parts
from hpcml.plan import check, describe_run, propose, scratch
from hpcml.progress import watching
from hpcml.record import Origin, Record, State
from hpcml.runs import RunPaths
from hpcml.spec import RunSpec
from hpcml.units import format_seconds
from hpcml.workloads.base import Outcome, Units

log = logging.getLogger(__name__)

# How long before the end of its job a head stops, in seconds: to save what there is, and see the worker jobs gone. A
# twentieth of the walltime, within these limits, and never more than a quarter of it.
_MARGIN = (30, 120)


@dataclass
class _Run:
    """What is known of a run so far; its record is made of it, however the run ends."""

    paths: RunPaths
    started: float
    units: Units
    cluster: Cluster | None = None
    outcome: Outcome = field(default_factory=Outcome)
    model: str | None = None
    # the names of the data's columns
    features: Sequence[str] | None = None
    warnings: list[str] = field(default_factory=list)
    # the batch job that the head is in, and when that ends, in seconds since the epoch
    job: OwnJob | None = None
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
            summary={**self.outcome.summary, **({"model": self.model} if self.model else {})},
            warnings=[*self.outcome.warnings, *self.warnings],
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
        Where the spec came from, for the manifest.
    console : Console or None
        Where progress goes; None: standard error.
    adopted : RunPaths or None
        The run directory that `hpcml submit` has made for this run; None: one is made.

    Returns
    -------
    Record
        What became of it; its state is DONE.

    Raises
    ------
    ConfigError
        If the request is wrong.
    HpcmlError
        If the run failed. Either way the run directory has a record, and the error's ``log`` names the log file.
    KeyboardInterrupt, SystemExit
        After Ctrl-C, or SIGTERM and SIGHUP, once the cluster is closed and the record written.
    """
    # as multiprocessing itself tells it (spawn._check_not_importing_main); its public parent_process() is set later
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "hpcml.run() was called again in a worker process, which imports your script anew",
            'put what starts the run behind: if __name__ == "__main__":',
        )
    with interrupt.installed() as ours:
        try:
            return _run(spec, origin or Origin(), console or display.console(stderr=True), adopted)
        except Cancelled as cancelled:
            if not ours:
                raise
            # A script that knows nothing of Cancelled ends as it would without hpcml.
            if cancelled.signum == signal.SIGINT:
                raise KeyboardInterrupt from cancelled
            raise SystemExit(cancelled.exit_code) from cancelled


def _run(spec: RunSpec, origin: Origin, console: Console, adopted: RunPaths | None) -> Record:
    if adopted is not None:
        spec = replace(spec, scratch=str(adopted.root.parent))
    proposed = propose(spec, here=True)
    if proposed is not None:
        proposed.refuse()
    git = record.git_state(Path.cwd())  # before the run directory is there, which may make the checkout dirty
    interrupt.reopen()
    interrupt.hold()  # until the run directory is under the protection of the try below
    try:
        current = _Run(adopted or runs.create(scratch(spec)), time.time(), Units(0))
    except BaseException:
        interrupt.closing()
        interrupt.release()
        raise
    with run_log(current.paths.log):
        try:
            interrupt.release()
            record.write_manifest(current.paths, current.started, origin, git)
            write_text(current.paths.config, yaml.safe_dump(origin.config or describe(spec), sort_keys=False))
            current.job = own_job(spec.site)
            with interrupt.alarm(_time_left(current)):
                _execute(spec, proposed.request if proposed else None, current, console)
                interrupt.closing()
            ended = current.record("DONE", 0, None)
        except BaseException as error:
            interrupt.closing()
            failure = _translate(error)
            log.error("run ended: %s", failure, exc_info=error)
            ended = _record_failure(current, failure)
            _write_record(ended, current.paths)
            if isinstance(failure, (HpcmlError, Cancelled)):
                failure.log = current.paths.log
            raise failure from (None if failure is error else error)
        _write_record(ended, current.paths)
    return ended


def _time_left(current: _Run) -> float | None:
    """Tell how long the run may take, in seconds; None: as long as it likes, or nobody knows."""
    current.ends = None if current.job is None else current.job.ends()
    if current.ends is None:
        return None
    left = current.ends - time.time()
    margin = min(max(_MARGIN[0], left / 20), _MARGIN[1], left / 4)
    log.info("this job ends in %s; the run stops %d s before", format_seconds(left), margin)
    return left - margin


def _note_head(current: _Run, request: Request) -> None:
    """Have the ledger know the job that this head is in: others ask the scheduler about it."""
    if current.job is not None:
        facts = {"scheduler": current.job.batch.name, "site": spoken_to(request.site)}
        Ledger(current.paths.ledger).note("submitted", HEAD, id=current.job.id, **facts)


def _execute(spec: RunSpec, request: Request | None, current: _Run, console: Console) -> None:
    checked = check(spec)
    inputs = replace(checked.inputs, parts=lambda name: Parts(current.paths.parts(name)))
    current.units.total, current.warnings = checked.units, checked.warnings
    current.features = None if inputs.data is None else inputs.data.feature_names
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
                current.outcome = checked.workload.run(inputs, cluster.client, current.units)
            except BaseException as error:
                _save_what_there_is(spec, current, error)
                if isinstance(error, Cancelled):
                    raise
                if cluster.out_of_time:
                    raise Interrupted(signal.SIGALRM) from error
                if cluster.gave_up is not None:
                    raise WorkloadError(
                        f"no workers are left: {cluster.gave_up}",
                        *cluster.last_words(),
                        f"their logs are in {current.paths.worker_logs}",
                    ) from error
                if _workers_died(error):
                    what = [error.message] if isinstance(error, WorkloadError) else []  # it knows which unit it was
                    raise WorkloadError(
                        *what,
                        f"the workers died, again and again or all at once; {cluster.first_error()}",
                        "if it was for want of memory, " + _more_memory(request),
                        f"their logs are in {current.paths.worker_logs}",
                    ) from error
                raise
        _save(spec, current)


def _more_memory(request: Request | None) -> str:
    if request is None:
        return "use fewer workers, cluster.workers=1, or more memory for each, cluster.memory_limit=8GB"
    return "use fewer workers in a job, cluster.workers_per_job, or more memory for it, cluster.mem"


def _save(spec: RunSpec, current: _Run) -> None:
    with interrupt.deferred():
        outcome = current.outcome
        if outcome.features is None:
            outcome = replace(outcome, features=current.features)
        current.model, doubts = results.save(outcome, current.paths, spec.model_format)
        current.warnings += doubts


def _save_what_there_is(spec: RunSpec, current: _Run, error: BaseException) -> None:
    """Write what was computed before a failure or a signal; trouble in doing so must not hide why the run ended."""
    interrupt.closing()
    try:
        told = error.outcome if isinstance(error, WorkloadError) else None
        current.outcome = told or current.units.so_far()
        if current.outcome != Outcome():
            _save(spec, current)
    except Exception as second:
        log.exception("what was computed so far could not be written")
        current.warnings.append(f"what was computed so far could not be written: {second}")


def _translate(error: BaseException) -> BaseException:
    """Make one clear error of whatever ended the run."""
    if isinstance(error, (HpcmlError, Cancelled, KeyboardInterrupt)):
        return error
    return WorkloadError(f"{type(error).__name__}: {error}")


def _workers_died(error: BaseException | None) -> bool:
    """Find out whether an error, or what it came from, is Dask's word for workers that are gone."""
    if error is None or isinstance(error, (KilledWorker, CancelledError)):
        return error is not None
    return _workers_died(error.__cause__)


def _record_failure(current: _Run, failure: BaseException) -> Record:
    if isinstance(failure, HpcmlError):
        return current.record("FAILED", failure.exit_code, str(failure))
    if isinstance(failure, Interrupted):
        text = "stopped before the walltime of the head's job ended"
        return current.record("INTERRUPTED", failure.exit_code, text)
    code = failure.exit_code if isinstance(failure, Cancelled) else 128 + signal.SIGINT
    return current.record("CANCELLED", code, f"cancelled by {failure}" if str(failure) else "interrupted")


def _write_record(ended: Record, paths: RunPaths) -> None:
    """Write the record; where even that fails, say so without hiding why the run ended."""
    try:
        ended.write(paths)
    except OSError as error:
        log.error("the record could not be written: %s", error)
        if ended.state == "DONE":
            raise ResultsError(f"the record could not be written to {paths.record}: {error.strerror}") from error
