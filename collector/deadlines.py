"""Time limits of one length, kept by one thread: to start a thread for each query would make the query wait for it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Deadlines:
    """Call back whoever takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        """Nobody is waited for yet, and no thread runs."""
        self._seconds = seconds
        self._changed = threading.Condition()
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        """Whoever is under way, the first to be late first: all have the same time."""
        self._numbers = itertools.count()
        self._watching = self._closed = False

    @contextmanager
    def limit(self, late: Callable[[], None]) -> Iterator[None]:
        """Call `late`, from another thread, if what is inside takes too long."""
        number = next(self._numbers)
        with self._changed:
            self._due[number] = (time.monotonic() + self._seconds, late)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(number, None)

    def close(self) -> None:
        """Let the thread end."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        while not self._closed:
            self._call(self._next())

    @staticmethod
    def _call(late: list[Callable[[], None]]) -> None:
        """Call them, and keep no hold of what they would stop."""
        for stop in late:
            try:
                stop()
            except Exception:  # one that has just ended by itself; the others still have their limit
                log.exception("deadline_not_kept")

    def _next(self) -> list[Callable[[], None]]:
        """Wait for something to happen; return whoever is late."""
        with self._changed:
            if self._closed:
                return []
            if not self._due:
                # Whoever comes meanwhile is due after that, so nobody has to wake this thread.
                self._changed.wait(self._seconds)
                return []
            number = next(iter(self._due))
            if (left := self._due[number][0] - time.monotonic()) > 0:
                self._changed.wait(left)
                return []
            return [self._due.pop(number)[1]]
