"""Sockets and HTTP servers of the collector: bound early, so that a port in use is told before anything is touched."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn

from collector.addresses import bracketed
from collector.connections import Connections, PromptProtocol, connections_limit
from collector.errors import PermanentError
from collector.receivers.http_messages import App, Receive, Scope, Send, send_answer
from collector.tls import Tls

BACKLOG = 1024
TICKS_PER_SECOND = 10
"""Of uvicorn's main loop."""
GRACE_SECONDS = 2
"""How long requests under way may take once the collector stops."""


@contextlib.contextmanager
def listening(host: str, port: int, key: str) -> Iterator[socket.socket]:
    """Bind a socket and listen.

    Args:
        host: a name or address.
        port: 0 takes any free one.
        key: the key of the configuration that names the port, for the message.

    Raises:
        PermanentError: the address is in use or can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every short answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise in_use(host, port, key, error) from error
        yield listener
    finally:
        listener.close()


def in_use(host: str, port: int, key: str, error: OSError) -> PermanentError:
    """Say which port can't be had, and how to choose another."""
    flag = "--" + key.replace("_", "-")
    return PermanentError(
        f"{host}:{port} can't be listened on ({error.strerror or error}): is another collector running there? "
        f"Choose another port with {flag} or collector.{key}"
    )


class QuietServer(uvicorn.Server):
    """uvicorn without its signal handlers (the collector has its own, for all its servers and the drain), and without
    patience for connections that don't get to the point."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self.connections = connections

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections, once a second."""
        if counter % TICKS_PER_SECOND == 0:
            self.connections.cut_slow()
        return await super().on_tick(counter)


def http_server(
    app: App,
    tls: Tls | None = None,
    clock: Callable[[], float] = time.monotonic,
    protocol: Callable[..., PromptProtocol] = PromptProtocol,
) -> QuietServer:
    """Build one HTTP server.

    Args:
        app: answers.
        tls: certificates; None: none.
        clock: seconds, by which slow connections are told.
        protocol: the connection; takes the connections of the server first.
    """
    connections = Connections(connections_limit(), clock)
    config = uvicorn.Config(
        app,
        http=partial(protocol, connections),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        lifespan="off",
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=75,
        **(tls.for_uvicorn() if tls else {}),
    )
    return QuietServer(config, connections)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what the OTLP port does not have."""
    if scope["type"] == "http":
        message = b'{"error": "this port takes OTLP: POST /v1/traces or /v1/metrics"}'
        await send_answer(send, 404, message, b"application/json")


def address_of(listener: socket.socket, tls: Tls | None = None) -> str:
    """Return the address of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{bracketed(host)}:{port}"
