"""Run head and workers in one batch job: the head on its first node, workers on every node.

The batch system's own launcher starts the workers, once per node, so that each node is monitored
and restarted by itself.
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
from dataclasses import dataclass, field
from typing import Any

from distributed import Scheduler
from distributed.deploy.spec import SpecCluster

from hpcml.background import looking
from hpcml.batch.current_job import CurrentJob, find_current_job
from hpcml.batch.directives import workers_script
from hpcml.batch.request import Request
from hpcml.cluster.handle import Cluster
from hpcml.cluster.head import JobCluster, opened
from hpcml.cluster.setbacks import AT_ONCE, Setbacks
from hpcml.errors import ClusterStartError, ConfigError
from hpcml.files import tail, write_text
from hpcml.runs import RunPaths

log = logging.getLogger(__name__)

# Seconds that workers have to exit after SIGTERM before they are killed.
_END = 6


@dataclass
class Node:
    """The workers of one node; times are from ``time.monotonic``."""

    name: str
    host: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    # Seconds over all starts.
    seconds: float = 0.0
    end: str = "not started"
    setbacks: Setbacks = field(default_factory=Setbacks)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Nodes:
    """Start the workers of each node, restart them if they exit, and stop them at the end.

    Parameters
    ----------
    job : CurrentJob
        The batch job that the nodes belong to.
    """

    def __init__(self, request: Request, paths: RunPaths, job: CurrentJob) -> None:
        self.request, self.paths, self._job = request, paths, job
        self._restarts = request.max_restarts
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
        variables = {name: os.environ[name] for name in self._job.batch.node_variables if name in os.environ}
        write_text(script, workers_script(self.request, self.paths, f"node-{number}", variables))
        # PBS runs a job script in a login shell, which is where modules are defined.
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
        """Check every node and restart workers that exited.

        There are at most ``cluster.max_restarts`` restarts, with a growing delay after repeated
        failures.

        Parameters
        ----------
        again : bool
            Restart workers; if False, only note which exited.
        """
        for node in self.all:
            if node.alive or node.process is None:
                continue
            if node.end == "running":
                self._note_end(node, node.process.returncode)
            if again and self._restarts and not node.setbacks.wait(time.monotonic()):
                self._restarts -= 1
                self._start(node)

    def _note_end(self, node: Node, code: int) -> None:
        now = time.monotonic()
        node.seconds += now - node.started
        node.end = f"its workers ended with exit code {code}"
        log.warning("%s", self._describe(node))
        if now - node.started > AT_ONCE:
            node.setbacks.end()
        else:
            node.setbacks.add([node.host], now)

    def _describe(self, node: Node) -> str:
        said = [line.strip() for line in tail(self.paths.job_log(node.name), 1)[1:]]
        output = f"; the last line of its output ({self.paths.job_log(node.name)}): {said[0]}" if said else ""
        return f"{node.name} ({node.host}): {node.end}{output}"

    def hopeless(self, again: bool = True) -> bool:
        """Return whether all workers have exited and none will be restarted."""
        return not any(node.alive for node in self.all) and not (again and self._restarts)

    @property
    def core_s(self) -> float:
        """Core-seconds used so far, counting all cores of the job, since all are charged."""
        return sum(self._seconds(node) for node in self.all) * self.request.worker.ncpus

    def _seconds(self, node: Node) -> float:
        return node.seconds + (time.monotonic() - node.started if node.end == "running" else 0.0)

    def last_words(self) -> list[str]:
        """Return the exit reasons of nodes, except those that hpcml stopped."""
        return [self._describe(node) for node in self.all if node.end.startswith("its workers")]

    def tails(self) -> list[str]:
        """Return the last lines of each node's log."""
        return [line for node in self.all for line in tail(self.paths.job_log(node.name), 6)]

    def summary(self) -> list[dict[str, Any]]:
        """Return one entry per node for the record: host, seconds and exit reason."""
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
        """Stop the workers; the batch system ends any other process with the job."""
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


def hosts_of(job: CurrentJob) -> tuple[str, ...]:
    """Return the lines of the job's node file, the first node first.

    Raises
    ------
    ClusterStartError
        If the job does not list its nodes.
    """
    found = job.batch.node_lines()
    if not found:
        raise ClusterStartError(f"job {job.id} does not say which nodes it has")
    return found


@contextlib.contextmanager
def open_allocation(
    request: Request,
    paths: RunPaths,
    say: Callable[[str], None],
) -> Iterator[Cluster]:
    """Start workers on every node of the current job, wait for a quorum, and stop them at the end.

    Raises
    ------
    ConfigError
        If this process is not in a batch job, or the job has another number of nodes.
    ClusterStartError
        If too few workers register; the message includes the reason.
    """
    job = find_current_job(request.site)
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
        if nodes.hopeless(again=False) or time.monotonic() > deadline:
            limit = f" within cluster.start_timeout={request.start_timeout} seconds"
            waited = "" if nodes.hopeless(again=False) else limit
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
        hopeless = nodes.hopeless()
        if hopeless:
            cluster.gave_up = "the workers of all nodes have ended, and cluster.max_restarts are used up"
            log.error("%s", cluster.gave_up)
            cluster.client.close()
        return hopeless

    return looking("nodes", look, 1.0)
