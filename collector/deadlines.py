"""Time limits of one length, kept by one thread: to start a thread for each query would make the query wait for it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


AGAIN_SECONDS = 0.05


class Deadlines:
    """Call back whoever takes longer than `seconds`, again and again until it ends: what is about to start can't be
    stopped yet."""

    def __init__(self, seconds: float) -> None:
        """Nobody is waited for yet, and no thread runs."""
        self._seconds = seconds
        self._changed = threading.Condition()
        self._due: dict[int, tuple[float, Callable[[], None]]] = {}
        """Whoever is under way, the first to be late first: all have the same time."""
        self._late: dict[int, Callable[[], None]] = {}
        """Whoever is late and has not ended."""
        self._numbers = itertools.count()
        self._watching = self._closed = False

    @contextmanager
    def limit(self, late: Callable[[], None]) -> Iterator[None]:
        """Call `late`, from another thread, if what is inside takes too long, or once this is closed."""
        number = next(self._numbers)
        try:
            with self._changed:
                if self._closed:
                    self._late[number] = late
                else:
                    self._due[number] = (time.monotonic() + self._seconds, late)
                if not self._watching:
                    threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
                    self._watching = True
            yield
        finally:
            with self._changed:
                self._due.pop(number, None)
                self._late.pop(number, None)

    def close(self) -> None:
        """Call whoever is under way, and let the thread end once they have ended."""
        with self._changed:
            self._closed = True
            self._late |= {number: late for number, (_, late) in self._due.items()}
            self._due.clear()
            self._changed.notify()

    def _watch(self) -> None:
        while (late := self._next()) is not None:
            self._call(late)

    @staticmethod
    def _call(late: list[Callable[[], None]]) -> None:
        """Call them, and keep no hold of what they would stop."""
        for stop in late:
            try:
                stop()
            except Exception:  # the others still have their limit
                log.exception("deadline_not_kept")

    def _next(self) -> list[Callable[[], None]] | None:
        """Wait for something to happen; return whoever is late, or None once nobody will be."""
        with self._changed:
            if self._closed and not self._late:
                self._watching = False
                return None
            # Whoever comes while nobody is under way is due after that, so nobody has to wake this thread.
            first_due = next(iter(self._due.values()), (time.monotonic() + self._seconds, None))[0]
            pause = AGAIN_SECONDS if self._late else first_due - time.monotonic()
            if pause > 0:
                self._changed.wait(pause)
            now = time.monotonic()
            for number in [number for number, (due, _) in self._due.items() if due <= now]:
                self._late[number] = self._due.pop(number)[1]
            return list(self._late.values())
