"""Hands things from one thread to another, one at a time: the next is handed over once the last is done with."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A place for one thing, between one thread that puts and one that takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._there: T | None = None
        self._busy = self._closed = self._over = False

    @property
    def over(self) -> bool:
        """True once nothing is taken any more."""
        return self._over

    @property
    def finished(self) -> bool:
        """True once there is nothing to take and nothing more comes."""
        with self._changed:
            return self._closed and self._there is None

    def wait(self) -> bool:
        """Wait until nothing is under way; False once nothing is taken any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not self._busy)
            return not self._over

    def put(self, one: T) -> bool:
        """Wait until nothing is under way, and hand over; False, and it stays here, once nothing is taken any more."""
        with self._changed:
            if going := self.wait():
                self._there, self._busy = one, True
                self._changed.notify_all()
            return going

    def close(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, patience_seconds: float) -> T | None:
        """Wait for the next; None where none comes in time, or at all."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._there is not None, patience_seconds)
            one, self._there = self._there, None
            return one

    def done(self) -> None:
        """Say that what was taken is done with."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def end(self) -> T | None:
        """Say that nothing is taken any more; return what is left."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            one, self._there = self._there, None
            return one
