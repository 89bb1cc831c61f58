"""Keys of bytes to small numbers (slots), found by hash and always compared whole. Compiled inside, grown outside."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from collector.points.walking import compiled, hash_of, same_bytes

START_SLOTS, START_BYTES = 1 << 12, 1 << 20
NO_ROOM = -1


class Interned(NamedTuple):
    """Keys and their slots, as arrays that compiled code shares with Python."""

    table: npt.NDArray[np.int64]
    """Open addressing: slot + 1, 0 is free; twice as long as there may be slots."""
    hashes: npt.NDArray[np.uint64]
    """By slot."""
    prefixes: npt.NDArray[np.uint64]
    """By slot: a number that is part of the key."""
    ends: npt.NDArray[np.int64]
    """Key of slot s: `arena[ends[s]:ends[s + 1]]`."""
    arena: npt.NDArray[np.uint8]
    """The keys' bytes, one after the other."""
    taken: npt.NDArray[np.int64]
    """How many slots are taken, in one element."""
    walks: npt.NDArray[np.int64]
    """By slot: the last walk that met it."""


def empty(slots: int = START_SLOTS, size_bytes: int = START_BYTES) -> Interned:
    """Return room for so many keys of so many bytes together; `slots` is a power of two."""
    return Interned(
        np.zeros(2 * slots, np.int64),
        np.zeros(slots, np.uint64),
        np.zeros(slots, np.uint64),
        np.zeros(slots + 1, np.int64),
        np.zeros(size_bytes, np.uint8),
        np.zeros(1, np.int64),
        np.zeros(slots, np.int64),
    )


def grown(old: Interned) -> Interned:
    """Return the same keys with room for twice as many; slots stay."""
    count = int(old.taken[0])
    new = empty(2 * len(old.hashes), 2 * len(old.arena))
    for name in ("hashes", "prefixes", "walks"):
        getattr(new, name)[:count] = getattr(old, name)[:count]
    new.ends[: count + 1] = old.ends[: count + 1]
    new.arena[: old.ends[count]] = old.arena[: old.ends[count]]
    new.taken[0] = count
    rebuild(new.table, new.hashes[:count])
    return new


def rebuild(table: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> None:
    """Fill an empty table: all keys at once, those whose place is taken one further, until none is left."""
    mask = np.uint64(len(table) - 1)
    places = (hashes & mask).astype(np.int64)
    waiting = np.arange(len(hashes), dtype=np.int64)
    while len(waiting):
        free = table[places[waiting]] == 0
        table[places[waiting[free]]] = waiting[free] + 1
        waiting = waiting[table[places[waiting]] != waiting + 1]
        places[waiting] = (places[waiting] + 1) & np.int64(mask)


def key_of(keys: Interned, slot: int) -> bytes:
    """Return the bytes of a key."""
    return keys.arena[keys.ends[slot] : keys.ends[slot + 1]].tobytes()


def bytes_of(data: Any) -> npt.NDArray[np.uint8]:
    """Return bytes as the read-only array that walkers take: one type, so one compiled form."""
    view = np.frombuffer(data, np.uint8)
    view.setflags(write=False)
    return view


@compiled
def intern(keys, prefix, data, start, end):  # type: ignore[no-untyped-def]
    """Return the slot of a key, a new one where it is new; NO_ROOM where there is no room for that."""
    wanted = hash_of(data, start, end, prefix)
    mask = np.uint64(keys.table.shape[0] - 1)
    place = wanted & mask
    while True:
        slot = keys.table[np.int64(place)] - 1
        if slot < 0:
            break
        if keys.hashes[slot] == wanted and keys.prefixes[slot] == prefix:
            first = keys.ends[slot]
            if keys.ends[slot + 1] - first == end - start and same_bytes(keys.arena, first, data, start, end - start):
                return slot
        place = (place + np.uint64(1)) & mask
    slot = keys.taken[0]
    first = keys.ends[slot]
    if slot >= keys.hashes.shape[0] or first + (end - start) > keys.arena.shape[0]:
        return np.int64(NO_ROOM)
    for at in range(end - start):
        keys.arena[first + at] = data[start + at]
    keys.hashes[slot] = wanted
    keys.prefixes[slot] = prefix
    keys.ends[slot + 1] = first + (end - start)
    keys.walks[slot] = 0
    keys.table[np.int64(place)] = slot + 1
    keys.taken[0] = slot + 1
    return slot
