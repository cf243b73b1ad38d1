"""Find the batch job that contains this process, and when it ends."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

import psutil

from hpcml.batch.schedulers import current_job
from hpcml.batch.schedulers.base import Scheduler
from hpcml.batch.schedulers.values import as_seconds
from hpcml.site import Site

log = logging.getLogger(__name__)

# Number of attempts to query the end of the job, and seconds between them.
_TRIES, _PAUSE = 2, 2.0


@dataclass(frozen=True)
class CurrentJob:
    """The batch job that contains this process.

    Parameters
    ----------
    batch : Scheduler
        Scheduler of the job.
    """

    id: str
    batch: Scheduler

    def ends(self) -> float | None:
        """Return the end of the walltime, in seconds since the epoch; None if unknown."""
        for attempt in range(_TRIES):
            found = self.batch.listing([self.id]).find(self.id)
            if found is not None:
                break
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE)
        walltime = as_seconds(found.resources.get("walltime")) if found else None
        if found is None or walltime is None:
            log.warning("the scheduler does not report when job %s ends: the run will not stop before that", self.id)
            return None
        ends = (found.started or _session_began()) + walltime
        if ends < time.time():
            log.warning("job %s should have ended already: ignoring the times that the scheduler reports", self.id)
            return None
        return ends


def _session_began() -> float:
    """Return when this session began, which for a batch job is the start of the job."""
    try:
        return psutil.Process(os.getsid(0)).create_time()
    except (psutil.Error, OSError):  # A container may hide the session leader.
        return psutil.Process().create_time()


def in_job() -> bool:
    """Return whether this process is in a batch job."""
    return current_job() is not None


def find_current_job(site: Site | None) -> CurrentJob | None:
    """Return the job that contains this process; None outside jobs.

    Parameters
    ----------
    site : Site or None
        Site that defines the commands; None for the default commands.
    """
    found = current_job()
    if found is None:
        return None
    kind, number = found
    return CurrentJob(number, kind(site or Site(name="this machine", source="")))
