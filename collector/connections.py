"""HTTP connections that don't get to the point: closed, so that a client which trickles costs little and not for long.

uvicorn waits for ever for the head and the body of a request, takes a head of any size and any number of connections.
Here each connection notes when it began to wait for what, and the server looks at all of them once a second: a request
costs nothing more. Where there is no place for another connection, the one that has gone longest without a whole
request makes way.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 15.0
"""Within so long a new connection has sent its first head, and a head that was begun is whole."""
HEAD_BYTES = 64 * 1024
BODY_SECONDS = 120.0
"""Within so long a body is whole: exporters give up after 10 to 30 seconds."""
BODY_GRACE_SECONDS = 10.0
BODY_BYTES_PER_SECOND = 16 * 1024
"""After its first seconds a body has come at least so fast."""
CONNECTIONS_LIMIT, CONNECTIONS_LEAST = 16_384, 64
FILES_LIMIT = 65_536
FILES_KEPT = 512
"""Open files that are left to the database, the spool and the archive."""
DOORS = 3
"""The ports that share the rest."""
LOOKED_AT = 32
"""So many of those that have waited longest are asked to make way."""

SLOW_TEXT = b"the request came too slowly; send it again\n"
SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(SLOW_TEXT), SLOW_TEXT)
)


@dataclass(slots=True)
class Connections:
    """The connections of one server.

    Args:
        limit: as many at once.
        clock: seconds of a clock that only goes on.
    """

    limit: int
    clock: Callable[[], float] = time.monotonic
    waiting_longest: dict[PromptProtocol, None] = field(default_factory=dict)
    """All of them; first those whose last whole request is the longest ago."""

    def cut_slow(self) -> int:
        """Close those that are too slow; return how many."""
        now = self.clock()
        slow = [one for one in self.waiting_longest if one.is_slow(now)]
        for one in slow:
            one.cut()
        return len(slow)

    def enter(self, connection: PromptProtocol) -> bool:
        """Take one more; False where there is no place and none makes way."""
        if len(self.waiting_longest) >= self.limit:
            candidates = islice(self.waiting_longest, LOOKED_AT)
            if (victim := next((one for one in candidates if not one.is_answering), None)) is None:
                return False
            self.leave(victim)
            victim.cut()
        self.waiting_longest[connection] = None
        return True

    def leave(self, connection: PromptProtocol) -> None:
        """Forget one."""
        self.waiting_longest.pop(connection, None)

    def made_it(self, connection: PromptProtocol) -> None:
        """Note that its request is whole."""
        if self.waiting_longest.pop(connection, self) is None:
            self.waiting_longest[connection] = None


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's connection, with a note of what it waits for."""

    def __init__(self, connections_of_server: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._of_server = connections_of_server
        self._came_bytes = 0
        """Of the head or the body that is coming."""
        self._since: float | None = None
        """When the head or the body began; None while neither is awaited (a connection kept alive between requests)."""
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._since = self._of_server.clock()
        if not self._of_server.enter(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._of_server.leave(self)
        self._since = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes."""
        self._came_bytes += len(data)
        super().data_received(data)
        if self._since is not None and not self._in_body and self._came_bytes > HEAD_BYTES:
            self.cut()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin a body."""
        self.begin_body()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing."""
        self._came_bytes, self._since, self._in_body = 0, None, False
        self._of_server.made_it(self)
        super().on_message_complete()

    def begin_head(self) -> None:
        """Note when a head began."""
        self._since, self._in_body = self._of_server.clock(), False

    def begin_body(self) -> None:
        """Note that what comes is a body."""
        self._came_bytes, self._in_body = 0, True

    @property
    def is_busy(self) -> bool:
        """True while a request is answered, or another waits behind it."""
        return bool(self.pipeline) or not (self.cycle is None or self.cycle.response_complete)

    @property
    def awaits_nothing(self) -> bool:
        """True between two requests: no part of the next one has come."""
        return self._since is None and not self.is_busy

    @property
    def is_answering(self) -> bool:
        """True while a whole request is being answered."""
        return self._since is None and self.cycle is not None and not self.cycle.response_complete

    def is_slow(self, now: float) -> bool:
        """Tell whether what is awaited takes too long."""
        if self._since is None:
            return False
        seconds = now - self._since
        if not self._in_body:
            return seconds > HEAD_SECONDS
        least = BODY_BYTES_PER_SECOND * (seconds - BODY_GRACE_SECONDS)
        return seconds > BODY_SECONDS or self._came_bytes < least

    def cut(self) -> None:
        """Close it: with 408 where a request had begun, and with nothing kept of it."""
        begun, cycle = self._since is not None and bool(self._came_bytes or self._in_body), self.cycle
        self._since = None
        if cycle is not None and not cycle.response_complete:
            begun = begun and not cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
        if begun and not self.transport.is_closing():
            self.transport.write(SLOW)
        self.transport.close()


def connections_limit() -> int:
    """Return how many connections one port may have, by the files that the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES_LIMIT if soft == resource.RLIM_INFINITY else soft
    return max(CONNECTIONS_LEAST, min(CONNECTIONS_LIMIT, (files - FILES_KEPT) // DOORS))


def allow_open_files() -> None:
    """Let the process open as many files as it may: each connection is one, and shells give 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES_LIMIT if hard == resource.RLIM_INFINITY else min(hard, FILES_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
