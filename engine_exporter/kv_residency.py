"""Which blocks a KV cache holds, since when and for whom: residency, reuse and footprint. Pure: no clock, no I/O.

Of a block nothing is kept but its hash, when it came and whom it came for; never a token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

OWNERS_LIMIT = 64
"""Most owners that are told apart; the others are `other`."""
OTHER = "other"
REMOVED_LIMIT = 65_536
"""Removed blocks that are remembered, to know one that comes again: its removal was a loss."""


class _Block(NamedTuple):
    at: float
    tokens: int
    owner: str | None


@dataclass(slots=True)
class _Owned:
    tokens: int = 0
    token_seconds: float = 0.0
    since: float = 0.0

    def change(self, at: float, tokens: int) -> None:
        self.token_seconds += self.tokens * max(at - self.since, 0.0)
        self.since = max(at, self.since)
        self.tokens += tokens


@dataclass(slots=True)
class KvCache:
    """The blocks of one engine in one medium (GPU, CPU, STORAGE)."""

    blocks: dict[object, _Block] = field(default_factory=dict)
    owned: dict[str, _Owned] = field(default_factory=dict)
    stored_count: int = 0
    reused_count: int = 0
    """Stores of a block that was there: another request came with the same prefix."""
    restored_count: int = 0
    """Stores of a block that had been removed not long before: the cache was too small for it."""
    removed_count: int = 0
    unknown_count: int = 0
    """Removals of blocks whose store was not seen."""
    cleared_count: int = 0
    residency_seconds: float = 0.0
    """Time that the removed blocks had been there, summed."""
    tokens: int = 0
    _gone: OrderedDict[object, None] = field(default_factory=OrderedDict)

    def store(self, at: float, hashes: Iterable[object], block_tokens: int, owner: str | None) -> None:
        """Blocks came, or came again."""
        for block in hashes:
            if block in self.blocks:
                self.reused_count += 1
                continue
            self.stored_count += 1
            if block in self._gone:
                del self._gone[block]
                self.restored_count += 1
            name = self._owner(owner)
            self.blocks[block] = _Block(at, block_tokens, name)
            self.tokens += block_tokens
            if name is not None:
                self.owned.setdefault(name, _Owned(since=at)).change(at, block_tokens)

    def remove(self, at: float, hashes: Iterable[object]) -> None:
        """Blocks were evicted."""
        for hashed in hashes:
            block = self.blocks.pop(hashed, None)
            if block is None:
                self.unknown_count += 1
                continue
            self._leave(at, block)
            self._gone[hashed] = None
            if len(self._gone) > REMOVED_LIMIT:
                self._gone.popitem(last=False)

    def clear(self, at: float) -> None:
        """All blocks went at once."""
        self.cleared_count += 1
        for block in self.blocks.values():
            self._leave(at, block)
        self.blocks.clear()
        self._gone.clear()

    def forget(self, at: float) -> None:
        """What is there is not known any more: events were lost, or the engine began anew."""
        for owned in self.owned.values():
            owned.change(at, -owned.tokens)
        self.blocks.clear()
        self._gone.clear()
        self.tokens = 0

    def token_seconds(self, at: float) -> dict[str, float]:
        """The footprint of each owner until now: tokens held, times seconds."""
        return {
            name: owned.token_seconds + owned.tokens * max(at - owned.since, 0.0) for name, owned in self.owned.items()
        }

    def _leave(self, at: float, block: _Block) -> None:
        self.removed_count += 1
        self.residency_seconds += max(at - block.at, 0.0)
        self.tokens -= block.tokens
        if block.owner is not None:
            self.owned[block.owner].change(at, -block.tokens)

    def _owner(self, owner: str | None) -> str | None:
        if owner is None or owner in self.owned:
            return owner
        return owner if len(self.owned) < OWNERS_LIMIT else OTHER


class KvPoint(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    labels: dict[str, str]


COUNTERS = {
    "infer.kv.blocks_stored": "stored_count",
    "infer.kv.blocks_reused": "reused_count",
    "infer.kv.blocks_restored": "restored_count",
    "infer.kv.blocks_removed": "removed_count",
    "infer.kv.residency_seconds": "residency_seconds",
    "infer.kv.cleared": "cleared_count",
}
RESIDENT_BLOCKS, RESIDENT_TOKENS = "infer.kv.resident_blocks", "infer.kv.resident_tokens"
TEAM_TOKENS, TEAM_TOKEN_SECONDS = "infer.kv.team_tokens", "infer.kv.team_token_seconds"
BATCHES, BATCHES_LOST, UNREADABLE = "infer.kv.batches", "infer.kv.batches_lost", "infer.kv.events_unreadable"
ENGINE, MEDIUM, TEAM = "engine", "medium", "team"


def cache_points(cache: KvCache, engine: str, medium: str, at: float) -> Iterator[KvPoint]:
    """Every aggregate of one cache."""
    labels = {ENGINE: engine, MEDIUM: medium}
    for name, attribute in COUNTERS.items():
        yield KvPoint(name, float(getattr(cache, attribute)), labels)
    yield KvPoint(RESIDENT_BLOCKS, float(len(cache.blocks)), labels)
    yield KvPoint(RESIDENT_TOKENS, float(cache.tokens), labels)
    for owner, seconds in cache.token_seconds(at).items():
        own = {**labels, TEAM: owner}
        yield KvPoint(TEAM_TOKENS, float(cache.owned[owner].tokens), own)
        yield KvPoint(TEAM_TOKEN_SECONDS, seconds, own)
