"""vLLM's KV-event messages in msgpack, less the token ids: the fields that are not named here are skipped unread.

Earlier versions of vLLM sent an event as an array of its fields in order, later ones as a map (seen with 0.32.0); both
are read.
"""

from __future__ import annotations

from typing import Any

from engine_exporter.errors import ExporterError

try:
    import msgspec
except ImportError as error:
    raise ExporterError("KV-cache events need pyzmq and msgspec: pip install 'fleetmeter[kv-events]'") from error

Hash = int | bytes
_ARRAYS = frozenset([*range(0x90, 0xA0), 0xDC, 0xDD])
"""First bytes of an array in msgpack."""


class BlockStored(msgspec.Struct, tag=True, gc=False):
    """Blocks were stored; vLLM's field `token_ids` is left out on purpose."""

    block_hashes: list[Hash]
    block_size: int
    medium: str | None = None
    group_idx: int | None = None
    session_id: str | None = None


class BlockRemoved(msgspec.Struct, tag=True, gc=False):
    """Blocks were evicted."""

    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag=True, gc=False):
    """The cache was emptied."""


class _OldStored(msgspec.Struct, tag="BlockStored", array_like=True, gc=False):
    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: msgspec.Raw
    """Bytes that are not looked into."""
    block_size: int
    lora_id: int | None = None
    medium: str | None = None


class _OldRemoved(msgspec.Struct, tag="BlockRemoved", array_like=True, gc=False):
    block_hashes: list[Hash]
    medium: str | None = None


class _OldCleared(msgspec.Struct, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


Event = BlockStored | BlockRemoved | AllBlocksCleared


class Decoder:
    """Reads batches."""

    def __init__(self) -> None:
        self._batch = msgspec.msgpack.Decoder(list[msgspec.Raw])
        self._events = msgspec.msgpack.Decoder(list[msgspec.Raw])
        self._map = msgspec.msgpack.Decoder(BlockStored | BlockRemoved | AllBlocksCleared)
        self._array = msgspec.msgpack.Decoder(_OldStored | _OldRemoved | _OldCleared)

    def batch(self, payload: bytes) -> tuple[float, int, list[Event], int]:
        """Read one batch.

        Returns:
            Unix time, data-parallel rank, the events, and how many events could not be read.

        Raises:
            ValueError: it is no batch.
        """
        parts: list[Any] = self._batch.decode(payload)
        if len(parts) < 2:
            raise ValueError("a batch of KV-cache events has a time and a list of events")
        at = float(msgspec.msgpack.decode(parts[0], type=float))
        rank = msgspec.msgpack.decode(parts[2], type=int | None) if len(parts) > 2 else 0
        events: list[Event] = []
        unreadable = 0
        for raw in self._events.decode(parts[1]):
            try:
                events.append(self._event(raw))
            except msgspec.DecodeError:  # an event of a kind or shape that this version does not know
                unreadable += 1
        return at, rank or 0, events, unreadable

    def _event(self, raw: Any) -> Event:
        if bytes(memoryview(raw)[:1])[0] not in _ARRAYS:
            event: Event = self._map.decode(raw)
            return event
        old = self._array.decode(raw)
        if isinstance(old, _OldStored):
            return BlockStored(old.block_hashes, old.block_size, old.medium)
        if isinstance(old, _OldRemoved):
            return BlockRemoved(old.block_hashes, old.medium)
        return AllBlocksCleared()
