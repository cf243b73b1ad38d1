"""The batch job that this process is in: its id, and when it ends."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass

import psutil

from hpcml.batch.scheduler import Scheduler, scheduler
from hpcml.batch.values import as_seconds
from hpcml.site import Site

log = logging.getLogger(__name__)

# How often the scheduler is asked when the job ends, and seconds in between.
_TRIES, _PAUSE = 2, 2.0


@dataclass(frozen=True)
class OwnJob:
    """A batch job, seen from inside.

    Parameters
    ----------
    batch : Scheduler
        Who has it.
    """

    id: str
    batch: Scheduler

    def ends(self) -> float | None:
        """Tell when its walltime ends, in seconds since the epoch; None if the scheduler does not say."""
        for attempt in range(_TRIES):
            found = self.batch.listing([self.id]).find(self.id)
            if found is not None:
                break
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE)
        walltime = as_seconds(found.resources.get("walltime")) if found else None
        if found is None or walltime is None:
            log.warning("the scheduler does not say when job %s ends: nothing stops the run before", self.id)
            return None
        ends = (found.started or _session_began()) + walltime
        if ends < time.time():
            log.warning("job %s should have ended already: its times are not to be trusted", self.id)
            return None
        return ends


def _session_began() -> float:
    """Tell when this session began: a batch job is one of its own."""
    try:
        return psutil.Process(os.getsid(0)).create_time()
    except (psutil.Error, OSError):  # as in a container with process ids of its own
        return psutil.Process().create_time()


def in_job() -> bool:
    """Tell whether this process is in a batch job."""
    return "PBS_JOBID" in os.environ or "SLURM_JOB_ID" in os.environ


def own_job(site: Site | None) -> OwnJob | None:
    """Find the job that this process is in; None if it is in none.

    Parameters
    ----------
    site : Site or None
        Whose commands to use; None: the usual ones.
    """
    site = site or Site(name="this machine", source="")
    # first, for Slurm's PBS commands may set PBS's variables as well
    if number := os.environ.get("SLURM_JOB_ID"):
        return OwnJob(number, scheduler(site, "slurm"))
    if number := os.environ.get("PBS_JOBID"):
        return OwnJob(number, scheduler(site, "pbs"))
    return None
