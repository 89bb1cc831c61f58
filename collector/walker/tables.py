"""What the walker remembers between bodies: names, texts and resources it has met, each with a small number.

One set of tables is an epoch. The host starts a new one when it is full; rows keep hold of the epoch that numbers them.
Lookups compare the whole bytes, so a hash alone never decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.attribute_values import CONTENT_PREFIXES
from collector.request_rows import NATIVE_ATTRIBUTES, SENDER_PREFIXES
from collector.walker import known
from collector.walker.known import FIRST_SPECIAL, NULL
from collector.walker.wire import compiled, hash_bytes, is_utf8, same_bytes
from engine_exporter import semconv

ODD = -2
"""The body is to be decoded by the reference decoder."""
FULL = -3
"""The tables are full: a new epoch, then the body again."""
MORE_ROOM = -4
"""The rows do not fit into the output: more of it, then the body again."""

KEYS_USED, KEY_BYTES_USED, TEXTS_USED, TEXT_BYTES_USED, SPECIALS_USED, SPECIAL_BYTES_USED = 0, 1, 2, 3, 4, 5
RESOURCES_USED, RESOURCE_BYTES_USED, PAIRS_USED, STAMP, SEED = 6, 7, 8, 9, 10
"""Places in `used`, and the first nine in `limits`."""

LONGEST_CHAIN = 128
"""A longer search says that the table is as good as full."""


KEYS, KEY_BYTES, TEXTS, TEXT_BYTES = 4096, 2**18, 32_768, 2**21
SPECIALS, SPECIAL_BYTES = 65_536, 2**20
RESOURCES, RESOURCE_BYTES, PAIRS = 512, 2**20, 32_768
ATTRIBUTES = 256
"""Attributes of one message; more is odd."""
LIMITS = (KEYS, KEY_BYTES, TEXTS, TEXT_BYTES, SPECIALS, SPECIAL_BYTES, RESOURCES, RESOURCE_BYTES, PAIRS)
PREFIXES = tuple((name, known.CONTENT) for name in CONTENT_PREFIXES) + tuple(
    (name, known.SENDER) for name in SENDER_PREFIXES
)
PREFIX_BYTES = sum(len(name) for name, _ in PREFIXES)

# A record rather than a tuple of arrays: it is passed as one pointer, and nothing counts references to its parts.
TABLES = np.dtype(
    [
        ("used", "i8", (11,)),
        ("limits", "i8", (9,)),
        # names: hash to number, where they stand, the column of `requests` that they fill (-1: none), the same on
        # vLLM's own span, flags, when and where they were last met, when a column was last filled
        ("key_slots", "i4", (2 * KEYS,)),
        ("key_hashes", "u8", (KEYS,)),
        ("key_starts", "i4", (KEYS + 1,)),
        ("key_bytes", "u1", (KEY_BYTES,)),
        ("key_columns", "i4", (KEYS,)),
        ("key_native", "i4", (KEYS,)),
        ("key_flags", "u1", (KEYS,)),
        ("key_stamps", "i8", (KEYS,)),
        ("key_places", "i8", (KEYS,)),
        ("column_marks", "i8", (known.REQUEST_CELLS,)),
        # the name that stood last at each place of a message: senders write them in one order
        ("guesses", "i4", (ATTRIBUTES,)),
        ("text_slots", "i4", (2 * TEXTS,)),
        ("text_hashes", "u8", (TEXTS,)),
        ("text_starts", "i4", (TEXTS + 1,)),
        ("text_bytes", "u1", (TEXT_BYTES,)),
        # the text that stood last in each column, and in three places beside
        ("last_texts", "i4", (known.REQUEST_CELLS + 3,)),
        # texts that the host writes out: a double's bits, or the bytes of an array
        ("special_kinds", "u1", (SPECIALS,)),
        ("special_bits", "i8", (SPECIALS,)),
        ("special_starts", "i4", (SPECIALS + 1,)),
        ("special_bytes", "u1", (SPECIAL_BYTES,)),
        # resources: the row of `requests` that each begins, and its attributes (name and text) in `pairs`
        ("resource_hashes", "u8", (RESOURCES,)),
        ("resource_starts", "i4", (RESOURCES + 1,)),
        ("resource_bytes", "u1", (RESOURCE_BYTES,)),
        ("resource_rows", "i8", (RESOURCES, known.REQUEST_CELLS)),
        ("resource_facts", "i4", (RESOURCES, 7)),
        ("pairs", "i4", (PAIRS, 2)),
        ("column_types", "i1", (known.REQUEST_CELLS,)),
        ("prefix_starts", "i4", (len(PREFIXES) + 1,)),
        ("prefix_bytes", "u1", (PREFIX_BYTES,)),
        ("prefix_flags", "u1", (len(PREFIXES),)),
        # scratch: the attributes of the message at hand (name, kind, two values), the last exception's type and
        # message, the parts of a span (start, length), an integer written out
        ("attributes", "i8", (ATTRIBUTES, 4)),
        ("noted", "i8", (2, 4)),
        ("stretches", "i8", (6, 2)),
        ("digits", "u1", (24,)),
    ]
)
"""One epoch. Nothing in it grows."""


FIRST_LEFTOVER, LAST_LEFTOVER, FIRST_PAIR, LAST_PAIR, SERVICE, SPAN_REPLICA, REPLICA_FALLBACK = 0, 1, 2, 3, 4, 5, 6
"""Columns of `resource_facts`: what stays in `attributes` of requests, all of them, and texts for columns."""


@compiled
def failed(answer):  # type: ignore[no-untyped-def]
    """Tell whether an answer is ODD, FULL or MORE_ROOM."""
    return FIRST_SPECIAL < answer < NULL


@compiled
def find_key(tables, data, at, length, place):  # type: ignore[no-untyped-def]
    """Return the number of a name, a new one where it was not met yet; ODD where it is no UTF-8, FULL."""
    if place < ATTRIBUTES:
        guess = tables.guesses[place]
        if guess >= 0:
            start = tables.key_starts[guess]
            if tables.key_starts[guess + 1] - start == length and same_bytes(tables.key_bytes, start, data, at, length):
                return np.int64(guess)
    found = look_key_up(tables, data, at, length)
    if found >= 0 and place < ATTRIBUTES:
        tables.guesses[place] = found
    return found


@compiled
def look_key_up(tables, data, at, length):  # type: ignore[no-untyped-def]
    """Find or add a name by its hash."""
    digest = hash_bytes(data, at, length, np.uint64(tables.used[SEED]))
    mask = 2 * KEYS - 1
    slot = np.int64(digest & np.uint64(mask))
    for _ in range(LONGEST_CHAIN):
        number = tables.key_slots[slot]
        if number < 0:
            return add_key(tables, data, at, length, digest, slot)
        start = tables.key_starts[number]
        if (
            tables.key_hashes[number] == digest
            and tables.key_starts[number + 1] - start == length
            and same_bytes(tables.key_bytes, start, data, at, length)
        ):
            return np.int64(number)
        slot = (slot + 1) & mask
    return np.int64(FULL)


@compiled
def add_key(tables, data, at, length, digest, slot):  # type: ignore[no-untyped-def]
    """Add a name at a free slot."""
    if not is_utf8(data, at, at + length):
        return np.int64(ODD)
    number = tables.used[KEYS_USED]
    start = tables.used[KEY_BYTES_USED]
    if number + 1 >= tables.limits[KEYS_USED] or start + length > tables.limits[KEY_BYTES_USED]:
        return np.int64(FULL)
    for i in range(length):
        tables.key_bytes[start + i] = data[at + i]
    tables.key_slots[slot] = number
    tables.key_hashes[number] = digest
    tables.key_starts[number + 1] = start + length
    tables.key_columns[number] = NULL
    tables.key_native[number] = NULL
    tables.key_flags[number] = flags_of(tables, data, at, length)
    tables.used[KEYS_USED] = number + 1
    tables.used[KEY_BYTES_USED] = start + length
    return np.int64(number)


@compiled
def flags_of(tables, data, at, length):  # type: ignore[no-untyped-def]
    """Tell whether a name carries contents, in whatever case, or describes the sender."""
    flags = np.uint8(0)
    for i in range(tables.prefix_flags.shape[0]):
        start = tables.prefix_starts[i]
        prefix_length = tables.prefix_starts[i + 1] - start
        if prefix_length > length:
            continue
        if tables.prefix_flags[i] == known.SENDER:
            whole = same_bytes(tables.prefix_bytes, start, data, at, prefix_length)
        else:
            whole = prefix_length == length or data[at + prefix_length] == 46
            j = np.int64(0)
            while whole and j < prefix_length:
                byte = data[at + j]
                whole = (byte + 32 if 65 <= byte <= 90 else byte) == tables.prefix_bytes[start + j]
                j += 1
        if whole:
            flags |= tables.prefix_flags[i]
    return flags


@compiled
def find_text(tables, data, at, length):  # type: ignore[no-untyped-def]
    """Return the number of a text, a new one where it was not met yet; ODD where it is no UTF-8, FULL."""
    digest = hash_bytes(data, at, length, np.uint64(tables.used[SEED]))
    mask = 2 * TEXTS - 1
    slot = np.int64(digest & np.uint64(mask))
    for _ in range(LONGEST_CHAIN):
        number = tables.text_slots[slot]
        if number < 0:
            return add_text(tables, data, at, length, digest, slot)
        start = tables.text_starts[number]
        if (
            tables.text_hashes[number] == digest
            and tables.text_starts[number + 1] - start == length
            and same_bytes(tables.text_bytes, start, data, at, length)
        ):
            return np.int64(number)
        slot = (slot + 1) & mask
    return np.int64(FULL)


@compiled
def add_text(tables, data, at, length, digest, slot):  # type: ignore[no-untyped-def]
    """Add a text at a free slot."""
    if not is_utf8(data, at, at + length):
        return np.int64(ODD)
    number = tables.used[TEXTS_USED]
    start = tables.used[TEXT_BYTES_USED]
    if number + 1 >= tables.limits[TEXTS_USED] or start + length > tables.limits[TEXT_BYTES_USED]:
        return np.int64(FULL)
    for i in range(length):
        tables.text_bytes[start + i] = data[at + i]
    tables.text_slots[slot] = number
    tables.text_hashes[number] = digest
    tables.text_starts[number + 1] = start + length
    tables.used[TEXTS_USED] = number + 1
    tables.used[TEXT_BYTES_USED] = start + length
    return np.int64(number)


@compiled
def find_column_text(tables, data, at, length, column):  # type: ignore[no-untyped-def]
    """Find a text of a column, which most often is the one of the row before."""
    guess = tables.last_texts[column]
    if guess >= 0:
        start = tables.text_starts[guess]
        if tables.text_starts[guess + 1] - start == length and same_bytes(tables.text_bytes, start, data, at, length):
            return np.int64(guess)
    found = find_text(tables, data, at, length)
    if found >= 0:
        tables.last_texts[column] = found
    return found


@compiled
def add_special(tables, kind, bits, data, at, length):  # type: ignore[no-untyped-def]
    """Note a value that the host writes out as text; its number is FIRST_SPECIAL or less; or FULL."""
    number = tables.used[SPECIALS_USED]
    start = tables.used[SPECIAL_BYTES_USED]
    if number + 1 >= tables.limits[SPECIALS_USED] or start + length > tables.limits[SPECIAL_BYTES_USED]:
        return np.int64(FULL)
    for i in range(length):
        tables.special_bytes[start + i] = data[at + i]
    tables.special_kinds[number] = kind
    tables.special_bits[number] = bits
    tables.special_starts[number + 1] = start + length
    tables.used[SPECIALS_USED] = number + 1
    tables.used[SPECIAL_BYTES_USED] = start + length
    return np.int64(FIRST_SPECIAL) - number


class Tables:
    """One epoch as the host sees it: every part of the record as an array."""

    def __init__(self, limits: Sequence[int] = LIMITS, seed: int = 0) -> None:
        self.record = np.zeros(1, TABLES)
        self.parts: dict[str, npt.NDArray[Any]] = {name: self.record[name][0] for name in TABLES.names or ()}
        for name in ("key_slots", "key_columns", "key_native", "guesses", "text_slots", "last_texts"):
            self.parts[name][:] = NULL
        self.parts["limits"][:] = limits
        self.parts["used"][SEED] = seed
        self.parts["column_types"][:] = known.COLUMN_TYPES
        self.parts["prefix_starts"][:] = np.cumsum([0, *(len(name) for name, _ in PREFIXES)])
        self.parts["prefix_bytes"][:] = np.frombuffer("".join(name for name, _ in PREFIXES).encode(), np.uint8)
        self.parts["prefix_flags"][:] = [flag for _, flag in PREFIXES]
        self._enter("key", known.KEYS, KEYS_USED)
        self._enter("text", known.TEXTS, TEXTS_USED)
        for number, name in enumerate(known.KEYS):
            attribute = semconv.BY_NAME.get(name)
            renamed = NATIVE_ATTRIBUTES.get(name)
            if attribute is not None:
                self.parts["key_columns"][number] = known.COLUMN_PLACES[attribute.column]
                self.parts["key_native"][number] = known.COLUMN_PLACES[attribute.column]
            elif renamed is not None:
                self.parts["key_native"][number] = known.COLUMN_PLACES[semconv.BY_NAME[renamed].column]

    def _enter(self, of: str, words: tuple[str, ...], used: int) -> None:
        """Give words that are always known the first numbers, in order; the compiled code finds them later."""
        starts, content = self.parts[f"{of}_starts"], self.parts[f"{of}_bytes"]
        slots, hashes = self.parts[f"{of}_slots"], self.parts[f"{of}_hashes"]
        for number, word in enumerate(words):
            text, start = word.encode(), int(starts[number])
            content[start : start + len(text)] = np.frombuffer(text, np.uint8)
            starts[number + 1] = start + len(text)
            hashes[number] = digest_of(text, int(self.parts["used"][SEED]))
            slot = int(hashes[number]) & (len(slots) - 1)
            while slots[slot] >= 0:
                slot = (slot + 1) & (len(slots) - 1)
            slots[slot] = number
        self.parts["used"][used], self.parts["used"][used + 1] = len(words), starts[len(words)]


def digest_of(text: bytes, seed: int) -> int:
    """Hash as `hash_bytes` does."""
    mixer, whole = 0x9E3779B97F4A7C15, 2**64 - 1
    value = ((len(text) + seed) * mixer) & whole
    end = len(text) // 8 * 8
    for at in range(0, end, 8):
        value = ((value ^ int.from_bytes(text[at : at + 8], "little")) * mixer) & whole
        value ^= value >> 29
    value = ((value ^ int.from_bytes(text[end:], "little")) * mixer) & whole
    value ^= value >> 32
    value = (value * mixer) & whole
    return value ^ (value >> 29)
