"""Batch schedulers behind one interface. No other module knows their commands."""

from __future__ import annotations

import os
from typing import Any

from hpcml.batch.ledger import Left
from hpcml.batch.schedulers.base import Scheduler
from hpcml.batch.schedulers.pbs import Pbs
from hpcml.batch.schedulers.slurm import Slurm
from hpcml.errors import ConfigError
from hpcml.site import Commands, Site

# Order matters inside a job, where the first scheduler with a job id counts: Slurm's PBS commands
# may set the variables of PBS as well.
SCHEDULERS: dict[str, type[Scheduler]] = {kind.name: kind for kind in (Slurm, Pbs)}


def scheduler_of(site: Site, name: str) -> Scheduler:
    """Return a scheduler of a site by its name."""
    return SCHEDULERS[name](site)


def check_names(site: Site) -> None:
    """Check that the schedulers named by a site exist.

    Raises
    ------
    ConfigError
    """
    for key, names in {"schedulers": site.schedulers or [""], "commands": site.commands}.items():
        for name in names:
            if name not in SCHEDULERS:
                raise ConfigError(f"site.{key}={name}: choose from {', '.join(sorted(SCHEDULERS))}")


def to_ledger(site: Site) -> dict[str, Any]:
    """Return the facts about a site that are needed to reach its scheduler later."""
    return {"dialect": site.dialect, "commands": {name: vars(commands) for name, commands in site.commands.items()}}


def from_ledger(left: Left) -> Scheduler:
    """Return the scheduler that a ledger names."""
    commands = {name: Commands(**facts) for name, facts in left.site.get("commands", {}).items()}
    site = Site(name="", source="", dialect=left.site.get("dialect", "select"), commands=commands)
    return scheduler_of(site, left.scheduler)


def current_job() -> tuple[type[Scheduler], str] | None:
    """Return the scheduler and id of the job that contains this process; None outside jobs."""
    for kind in SCHEDULERS.values():
        number = kind.job_id()
        if number is not None:
            return kind, number
    return None


def node_directory() -> str | None:
    """Return the job's directory on the node's local disk; None if the scheduler provides none."""
    found = [os.environ[kind.disk_variable] for kind in SCHEDULERS.values() if kind.disk_variable in os.environ]
    return found[0] if found else None
