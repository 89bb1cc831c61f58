"""Requests that have ended and wait for their rows: made in a thread of its own, because the event loop has tokens to
send.

No request is ever lost here: where the thread does not keep up, rows are made where requests end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_REST_EVERY = 8


class EndedRequests(Generic[T]):
    """A bounded queue and the thread that empties it."""

    def __init__(
        self, make: Callable[[T], None], fault: Callable[[], None], *, limit: int = 4096, interval_seconds: float = 0.2
    ) -> None:
        """Take what is to be done; the thread starts with the first request.

        Args:
            make: makes the row of one request and counts it. Runs in one thread at a time.
            fault: called inside the `except` of a `make` that raised.
            limit: requests that wait at most; with 0 every row is made at once.
            interval_seconds: time between two looks.
        """
        self._make = make
        self._fault = fault
        self._limit = limit
        self._interval_seconds = interval_seconds
        self._waiting: deque[T] = deque()
        self._making = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, ended: T) -> None:
        """Take one request."""
        if len(self._waiting) >= self._limit or self._stopped.is_set():
            self._make_one(ended)
            return
        self._waiting.append(ended)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fleetmeter-rows", daemon=True)
            self._thread.start()
        if self._stopped.is_set():  # the end came in between
            self.drain()

    def drain(self) -> None:
        """Make the rows of all that wait, e.g. before the metrics are read."""
        for number in range(1, len(self._waiting) + 1):
            try:
                ended = self._waiting.popleft()
            except IndexError:  # another thread was faster
                break
            self._make_one(ended)
            if number % _REST_EVERY == 0:
                time.sleep(0)  # the event loop must not wait for all of them
        with self._making:  # what another thread has taken is made too
            pass

    def close(self) -> None:
        """Make what is left; later requests get their rows at once."""
        self._stopped.set()
        self.drain()

    def _make_one(self, ended: T) -> None:
        with self._making:
            try:
                self._make(ended)
            except Exception:  # noqa: BLE001 - the others still count
                self._fault()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_seconds):
            self.drain()
