"""How much the bearer of a token may send and ask: token buckets, so that a noisy tenant leaves room for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from collector.errors import RetryableError


class QuotaError(RetryableError):
    """The bearer has sent or asked for more than its quota; `retry_after_seconds` says when there is room again."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = max(1, round(retry_after_seconds + 0.5))


@dataclass(slots=True)
class Bucket:
    """A token bucket that may run into debt once: what is larger than the bucket gets through when it is full.

    Args:
        per_second: how fast it fills.
        burst_seconds: it holds what comes in within so many seconds.
        clock: seconds of a clock that only goes on.
    """

    per_second: float
    burst_seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _level: float = field(init=False)
    _filled_at: float = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._level = self.per_second * self.burst_seconds
        self._filled_at = self.clock()

    def take(self, amount: float) -> float:
        """Take an amount; return 0, or the seconds until it can be taken (then nothing is)."""
        with self._lock:
            now, most = self.clock(), self.per_second * self.burst_seconds
            self._level = min(most, self._level + (now - self._filled_at) * self.per_second)
            self._filled_at = now
            wanted = min(amount, most)
            if self._level < wanted:
                return (wanted - self._level) / self.per_second
            self._level -= amount
            return 0.0
