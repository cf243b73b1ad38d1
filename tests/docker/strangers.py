"""Probe the servers of a run without its certificate; this file runs in a container.

``python - SCHEDULER DASHBOARD ADDRESS...`` prints JSON. It also probes a Dask scheduler without
TLS, to prove that the probes work: an open server has to answer them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import sys

from distributed import Client, Scheduler, Security

PATIENCE = 4


def greeting(address: str, *, encrypted: bool) -> str:
    """Return the first bytes of a server, "nothing", or "not reached" if no server is there."""
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    except OSError:
        return "not reached"
    try:
        with connection, context.wrap_socket(connection) if encrypted else connection as stranger:
            # A Dask server without TLS greets every client, so wait for that before sending
            # anything.
            stranger.settimeout(PATIENCE / 2)
            try:
                said = stranger.recv(4096)
            except TimeoutError:
                stranger.sendall(b"\0" * 64)
                said = stranger.recv(4096)
            # A TLS server may answer plain text with an alert, type 21.
            return "nothing" if not said or said[:1] == b"\x15" else f"{said!r}"
    except OSError:
        # Raised on a TLS alert, a reset or a timeout.
        return "nothing"


class Trusting(Security):  # type: ignore[misc]  # distributed has no types
    """Accept every server, with a foreign certificate or none, so that only servers can reject."""

    def __init__(self, own: Security | None) -> None:
        super().__init__(require_encryption=True)
        arguments = {} if own is None else own.get_connection_args("client")
        self._context = arguments.get("ssl_context") or ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def get_connection_args(self, role: str) -> dict[str, object]:
        """Return the arguments of connections."""
        return {"ssl_context": self._context, "require_encryption": True}


async def connected(address: str, security: Security | None) -> str:
    """Return the result of connecting as a Dask client."""
    try:
        async with Client(address, security=security, timeout=PATIENCE, asynchronous=True) as client:
            return f"connected: {client}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


async def main(scheduler: str, dashboard: str, *addresses: str) -> None:
    """Probe all servers at once."""
    asked = {
        f"{how} {address}": asyncio.to_thread(greeting, address, encrypted=how == "tls")
        for address in addresses
        for how in ("tcp", "tls")
    }
    clients = {
        "tcp": connected(f"tcp://{scheduler}", None),
        "tls without a certificate": connected(f"tls://{scheduler}", Trusting(None)),
        "tls with a certificate of its own": connected(f"tls://{scheduler}", Trusting(Security.temporary())),
    }
    here = socket.gethostbyname(socket.gethostname())
    async with Scheduler(host=here, port=0, dashboard_address=":0") as own:
        own_address = own.address.removeprefix("tcp://")
        found = {
            "own": await asyncio.to_thread(greeting, own_address, encrypted=False),
            "own client": await connected(own.address, None),
            "greetings": dict(zip(asked, await asyncio.gather(*asked.values()), strict=True)),
            "clients": dict(zip(clients, await asyncio.gather(*clients.values()), strict=True)),
            "dashboard": await asyncio.to_thread(greeting, dashboard, encrypted=False),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    logging.getLogger("distributed").setLevel("CRITICAL")
    asyncio.run(main(*sys.argv[1:]))
