"""A cluster inside one batch job of several nodes: the head on the first, workers on all of them.

``pbsdsh``, on Slurm ``srun``, starts them: one command for each node, so that each can be watched and started again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from distributed import Scheduler
from distributed.deploy.spec import SpecCluster

from hpcml.batch.directives import workers_script
from hpcml.batch.ownjob import OwnJob, own_job
from hpcml.batch.request import Request
from hpcml.cluster.background import looking
from hpcml.cluster.handle import Cluster
from hpcml.cluster.head import JobCluster, opened
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.files import tail, write_text
from hpcml.runs import RunPaths

log = logging.getLogger(__name__)

# How long workers have to end when they are told to, in seconds, before they are killed.
_END = 6

# What a job's script knows of its node, and what pbsdsh does not hand on.
_OF_THE_JOB = ("TMPDIR", "PBS_JOBFS", "PBS_JOBID", "PBS_NODEFILE", "PBS_NCPUS")


@dataclass
class Node:
    """The workers of one node. Times are of time.monotonic."""

    name: str
    host: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    # over all starts
    seconds: float = 0.0
    end: str = "not started"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Nodes:
    """Starts the workers of each node, starts them again if they end, and ends them all.

    Parameters
    ----------
    job : OwnJob
        The job whose nodes they are.
    """

    def __init__(self, request: Request, paths: RunPaths, job: OwnJob) -> None:
        self.request, self.paths, self._job = request, paths, job
        self._again = request.replacements
        paths.jobs.mkdir(mode=0o700, exist_ok=True)
        every = hosts_of(job)
        self.all = [
            Node(f"node-{number}", host, self._command(number, host, every))
            for number, host in enumerate(dict.fromkeys(every))
        ]
        if len(self.all) != request.worker.nodes:
            raise ConfigError(
                f"cluster.nodes={request.worker.nodes}: job {job.id} has {len(self.all)}: "
                f"{' '.join(node.host for node in self.all)}",
                f"use cluster.nodes={len(self.all)}",
            )

    def _command(self, number: int, host: str, every: Sequence[str]) -> list[str]:
        script = self.paths.job_script(f"node-{number}")
        variables = {name: os.environ[name] for name in _OF_THE_JOB if name in os.environ}
        write_text(script, workers_script(self.request, self.paths, f"node-{number}", variables))
        # a login shell, as PBS gives to a job's script: modules come with it
        shell = ["/bin/bash", "-l", str(script)]
        return [*self._job.batch.on_node(every.index(host), host, self.request.worker.ncpus), *shell]

    def start(self) -> None:
        """Start the workers of all nodes."""
        for node in self.all:
            self._start(node)

    def _start(self, node: Node) -> None:
        log.info("%s: %s", node.name, shlex.join(node.command))
        with self.paths.job_log(node.name).open("ab") as output:
            node.process = subprocess.Popen(node.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        node.started, node.end = time.monotonic(), "running"

    def look(self, again: bool = True) -> None:
        """Note which have ended, and start them again, as often as cluster.replacements allows.

        Parameters
        ----------
        again : bool
            False: only note.
        """
        for node in self.all:
            if node.alive or node.process is None:
                continue
            if node.end == "running":
                node.seconds += time.monotonic() - node.started
                node.end = f"its workers ended with exit code {node.process.returncode}"
                log.warning("%s (%s): %s", node.name, node.host, node.end)
            if again and self._again:
                self._again -= 1
                self._start(node)

    @property
    def hopeless(self) -> bool:
        return not any(node.alive for node in self.all)

    @property
    def core_s(self) -> float:
        """Core-seconds that the nodes have had so far; all of the job's, as they are paid for."""
        return sum(self._seconds(node) for node in self.all) * self.request.worker.ncpus

    def _seconds(self, node: Node) -> float:
        return node.seconds + (time.monotonic() - node.started if node.end == "running" else 0.0)

    def last_words(self) -> list[str]:
        """Say how those have ended that nobody has ended."""
        return [f"{node.name} ({node.host}): {node.end}" for node in self.all if node.end.startswith("its workers")]

    def tails(self) -> list[str]:
        """Give the ends of the nodes' logs."""
        return [line for node in self.all for line in tail(self.paths.job_log(node.name), 6)]

    def summary(self) -> list[dict[str, Any]]:
        """Say of each node what became of it, for the record."""
        return [
            {
                "job": node.name,
                "id": self._job.id,
                "nodes": [node.host],
                "seconds": round(self._seconds(node), 1),
                "end": node.end,
            }
            for node in self.all
        ]

    def close(self) -> list[str]:
        """End the workers; what is left ends with the job."""
        running = [node for node in self.all if node.alive]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        deadline = time.monotonic() + _END
        for node in running:
            assert node.process is not None
            try:
                node.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
            node.seconds += time.monotonic() - node.started
            node.end = "ended by hpcml"
        return []


def hosts_of(job: OwnJob) -> tuple[str, ...]:
    """List the lines of the job's node file, the first node first.

    Raises
    ------
    ClusterStartError
        If the job does not say what nodes it has.
    """
    found = job.batch.node_lines()
    if not found:
        raise ClusterStartError(f"job {job.id} does not say which nodes it has: neither $PBS_NODEFILE nor Slurm does")
    return found


@contextlib.contextmanager
def open_allocation(
    request: Request,
    paths: RunPaths,
    say: Callable[[str], None],
) -> Iterator[Cluster]:
    """Start workers on every node of the job that this process is in, wait for a quorum, and end them whatever happens.

    Raises
    ------
    ConfigError
        If this process is in no batch job, or in one of another size.
    ClusterStartError
        If no workers come; says why.
    """
    job = own_job(request.site)
    if job is None:
        raise ConfigError(
            "cluster=allocation: head and workers live in one batch job, and this process is in none",
            "submit it: hpcml submit ...",
        )
    nodes = Nodes(request, paths, job)

    def start(*, name: str, security: Any, scheduler_options: dict[str, Any]) -> SpecCluster:
        scheduler = {"cls": Scheduler, "options": scheduler_options}
        return SpecCluster(workers={}, scheduler=scheduler, security=security, name=name, silence_logs=False)

    with opened(request, paths, nodes, start, say) as (_, cluster, serve_dashboard):
        nodes.start()
        serve_dashboard()
        _await_quorum(cluster, nodes, say)
        with _watching(cluster, nodes):
            yield cluster


def _await_quorum(cluster: JobCluster, nodes: Nodes, say: Callable[[str], None]) -> None:
    request, deadline = nodes.request, time.monotonic() + nodes.request.start_timeout
    while (there := len(cluster.scheduler.workers)) < request.min_workers:
        nodes.look(again=False)
        if nodes.hopeless or time.monotonic() > deadline:
            waited = "" if nodes.hopeless else f" within cluster.start_timeout={request.start_timeout} seconds"
            raise ClusterStartError(
                f"{there} of {request.workers} workers came{waited}, cluster.min_workers={request.min_workers}",
                *nodes.last_words(),
                *nodes.tails(),
                "check cluster.environment, and site.interface",
            )
        time.sleep(0.05)
    say(f"{there} of {request.workers} workers are there, on {len(nodes.all)} nodes")


def _watching(cluster: JobCluster, nodes: Nodes) -> AbstractContextManager[None]:
    def look() -> bool:
        nodes.look()
        if nodes.hopeless:
            cluster.gave_up = "the workers of all nodes have ended, and cluster.replacements are used up"
            log.error("%s", cluster.gave_up)
            cluster.client.close()
        return nodes.hopeless

    return looking("nodes", look, 1.0)
