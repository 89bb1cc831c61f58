"""Memory for bodies: what is being read, decoded or made durable counts; no more is taken than there is room for."""

from __future__ import annotations

from types import TracebackType

from collector.errors import RetryableError


class Room:
    """So many bytes of bodies may be held at once, over all doors. For one event loop.

    Args:
        limit_bytes: more than this is refused.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0


class Hold:
    """What one request holds of the room; given back at the end of its `with` block."""

    __slots__ = ("_held_bytes", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held_bytes = 0

    def take(self, size: int) -> None:
        """Take so many bytes more.

        Raises:
            RetryableError: there is no room for them.
        """
        room = self._room
        if room.held_bytes + size > room.limit_bytes:
            raise RetryableError("too many bodies at once; send again in a second")
        room.held_bytes += size
        self._held_bytes += size

    def give_back(self) -> None:
        """Give all of it back."""
        self._room.held_bytes -= self._held_bytes
        self._held_bytes = 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()
