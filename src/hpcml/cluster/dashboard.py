"""The dashboard, where nobody finds it who was not told."""

from __future__ import annotations

import secrets
from typing import Any

from distributed import Scheduler
from tornado import web

LOOPBACK = "127.0.0.1"


def secret_prefix() -> str:
    """Make the beginning of the dashboard's path: 128 random bits, for whoever is logged in here can reach loopback."""
    return f"/{secrets.token_hex(16)}"


def serve(scheduler: Scheduler, prefix: str) -> None:
    """Add the dashboard to a scheduler that was started without it, in its event loop.

    Its imports take half a second, for which jobs need not wait.
    """
    from distributed.dashboard.scheduler import connect

    scheduler.loop.add_callback(connect, scheduler.http_application, scheduler.http_server, scheduler, prefix)


def hide(scheduler: Scheduler, prefix: str) -> str:
    """Answer 404 to all that does not begin with the prefix; Dask itself redirects / to it, and lists it for everybody.

    Returns
    -------
    str
        Where the dashboard is.
    """
    application = scheduler.http_application
    find = application.find_handler

    def find_handler(request: Any, **kwargs: Any) -> Any:
        if request.path == prefix or request.path.startswith(f"{prefix}/"):
            return find(request, **kwargs)
        return application.get_handler_delegate(request, web.ErrorHandler, {"status_code": 404})

    application.find_handler = find_handler
    return f"http://{LOOPBACK}:{scheduler.http_server.port}{prefix}/status"
