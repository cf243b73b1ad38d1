"""Serve the Dask dashboard on loopback under an unguessable path."""

from __future__ import annotations

import secrets

from distributed import Scheduler

from hpcml.upstream import distributed as upstream

LOOPBACK = "127.0.0.1"


def secret_prefix() -> str:
    """Return a random path prefix of 128 bits, since every user of this host can reach loopback."""
    return f"/{secrets.token_hex(16)}"


def serve(scheduler: Scheduler, prefix: str) -> None:
    """Add the dashboard to a scheduler that was started without it, in its event loop.

    Importing the dashboard takes half a second, so worker jobs are submitted before this is called.
    """
    upstream.add_dashboard(scheduler, prefix)


def hide(scheduler: Scheduler, prefix: str) -> str:
    """Answer 404 to every path outside the prefix and return the URL of the dashboard.

    Dask itself redirects ``/`` to the prefix and so reveals it.

    Returns
    -------
    str
        The URL of the dashboard's status page.
    """
    upstream.hide_paths(scheduler, lambda path: path == prefix or path.startswith(f"{prefix}/"))
    return f"http://{LOOPBACK}:{upstream.http_port(scheduler)}{prefix}/status"
