"""A small local receiver of signed webhooks: verifies each message and says each alert on one clear line.

`make demo` shows it, people try their configuration with it, and tests take it as a double that can be made to fail.
Verification is the `standardwebhooks` library's, not our own signing turned round.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from alerts.errors import AlertsError
from alerts.sinks.signatures import read_secret

LONGEST_BODY = 1_000_000
MARKS = {
    "alert.firing": "FIRING",
    "alert.repeat": "STILL FIRING",
    "alert.flapping": "FLAPPING",
    "alert.resolved": "RESOLVED",
}


class Fault(StrEnum):
    """How the receiver can be made to fail, for tests."""

    NONE = "none"
    UNAVAILABLE = "503"
    CROWDED = "429"
    RESET_BEFORE = "reset before it took the message"
    RESET_AFTER = "reset after it took the message"
    ERROR_AFTER = "500 after it took the message"
    GONE = "410"


@dataclass(frozen=True, slots=True)
class Received:
    """One message that was taken."""

    id: str
    """`webhook-id`: the same on every retry."""
    message: Mapping[str, Any]
    """type, timestamp, data."""
    duplicate: bool
    """This id was taken before."""


@dataclass(slots=True)
class WebhookReceiver:
    """Listens on 127.0.0.1, takes what is signed with its secret, and refuses the rest with 401."""

    secret: str
    """whsec_…"""
    port: int = 0
    """The port; 0 takes a free one."""
    tell: Callable[[Received], None] = lambda received: None
    """Is told of each message."""
    fault: Callable[[], Fault] = lambda: Fault.NONE
    """Is asked before each answer."""
    received: list[Received] = field(default_factory=list)
    """Everything taken so far."""
    refused_count: int = 0
    """Messages whose signature did not fit."""
    _seen: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> str:
        """Listen in a thread; return the address.

        Raises:
            AlertsError: the port is taken.
            ReceiverError: the secret does not fit.
        """
        read_secret(self.secret)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.answer_get(self)

            def do_POST(self) -> None:
                receiver.answer_post(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Stay quiet: messages are told, requests are not."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        except OSError as error:
            raise AlertsError(
                f"can't listen on 127.0.0.1:{self.port} ({error.strerror}); name another with --port"
            ) from error
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="webhook-receiver", daemon=True).start()
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def answer_get(self, request: BaseHTTPRequestHandler) -> None:
        """Say that it is there."""
        reply(request, 200, {"status": "ok", "received_count": len(self.received), "refused_count": self.refused_count})

    def answer_post(self, request: BaseHTTPRequestHandler) -> None:
        """Take one message, or fail as told to."""
        body = request.rfile.read(min(int(request.headers.get("Content-Length") or 0), LONGEST_BODY))
        fault = self.fault()
        if fault in (Fault.UNAVAILABLE, Fault.CROWDED, Fault.GONE):
            return reply(request, int(fault), {"error": "told to fail"}, {"Retry-After": "0"})
        if fault == Fault.RESET_BEFORE:
            return reset(request)
        try:
            message = Webhook(self.secret).verify(body, dict(request.headers.items()))
        except (WebhookVerificationError, ValueError) as error:
            self.refused_count += 1
            return reply(request, 401, {"error": str(error)})
        self.take(request.headers["webhook-id"], message)
        if fault == Fault.RESET_AFTER:
            return reset(request)
        return reply(request, 500 if fault == Fault.ERROR_AFTER else 200, {})

    def take(self, message_id: str, message: Mapping[str, Any]) -> None:
        """Note a message, and tell."""
        with self._lock:
            received = Received(message_id, message, message_id in self._seen)
            self._seen.add(message_id)
            self.received.append(received)
        self.tell(received)


def reply(
    request: BaseHTTPRequestHandler, status: int, document: Any, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with JSON."""
    body = json.dumps(document).encode()
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def reset(request: BaseHTTPRequestHandler) -> None:
    """Break the connection off."""
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    request.connection.close()


def line_of(received: Received) -> str:
    """Say one message on one line, with the ways on below."""
    alert = received.message["data"]["alert"]
    mark = MARKS.get(str(received.message["type"]), str(received.message["type"]))
    again = " (sent again)" if received.duplicate else ""
    causes = [f"likely cause: {cause['summary']}" for cause in alert["causes"][:1]]
    named = {"dashboard": "look at", "trace": "worst trace", "runbook": "what to do"}
    ways = [f"{name}: {alert['links'][key]}" for key, name in named.items() if key in alert["links"]]
    rest = "" if mark == "RESOLVED" else "".join(f"\n    {each}" for each in (*causes, *ways))
    return f"{alert['fired_at'][:19]}Z {mark:8} {alert['severity']:6} {alert['summary']}{again}{rest}"


def serve(port: int, secret: str) -> None:
    """Receive and print until interrupted.

    Raises:
        AlertsError: the port is taken.
        ReceiverError: the secret does not fit.
    """
    receiver = WebhookReceiver(secret, port, tell=print_line)
    address = receiver.start()
    sys.stderr.write(f"receiving signed webhooks on {address}; Ctrl-C ends it\n")
    try:
        threading.Event().wait()
    finally:
        receiver.stop()


def print_line(received: Received) -> None:
    """Print one message at once."""
    sys.stdout.write(line_of(received) + "\n")
    sys.stdout.flush()
