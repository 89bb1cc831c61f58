"""Messages that wait for the collector: compressed, bounded in bytes, the oldest out first."""

from __future__ import annotations

import gzip
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Waiting:
    """A queue of OTLP messages."""

    limit_bytes: int
    """Compressed bytes at most; the newest message is kept even where it alone is larger."""
    bytes_count: int = 0
    dropped_count: int = 0
    _messages: deque[bytes] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, body: bytes) -> None:
        """Add a message; what no longer fits is dropped from the old end and counted."""
        packed = gzip.compress(body, 3)
        self._messages.append(packed)
        self.bytes_count += len(packed)
        while self.bytes_count > self.limit_bytes and len(self._messages) > 1:
            self.take()
            self.dropped_count += 1

    def first(self) -> bytes:
        """Return the oldest message, gzip, without taking it."""
        return self._messages[0]

    def take(self) -> bytes:
        """Take the oldest message."""
        packed = self._messages.popleft()
        self.bytes_count -= len(packed)
        return packed
