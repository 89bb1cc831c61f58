"""Remote write to rows without an object a sample; an unusual body goes to `collector.decode_remote_write`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from collector.decode_remote_write import (
    FIRST,
    Family,
    RemoteRows,
    describe_family,
    family_kind,
    identity_of,
    kind_of,
    pairs_of,
)
from collector.decode_remote_write import decode_remote_write as decode_by_reference
from collector.decode_traces import AHEAD_US, EARLIEST_US
from collector.decoded import Decoded
from collector.errors import PermanentError
from collector.metric_rows import MetricRows
from collector.points.interning import Interned, bytes_of, empty, grown, key_of
from collector.points.point_columns import points_table
from collector.points.remote_write_walk import (
    EXEMPLAR,
    FAMILY,
    HISTOGRAM,
    LABELS_LIMIT,
    Walked,
    room_bytes,
    room_for,
    walk_first,
    walk_second,
)
from collector.points.series_cache import BYTES_LIMIT, CacheFull, Series, SeriesCache
from collector.points.walking import DONE, SERIES_FULL, UNUSUAL
from collector.remote_write_messages import FIRST_MESSAGES, SECOND_MESSAGES

EARLIEST_MS = EARLIEST_US // 1000
ROOM_BYTES = 1 << 22
HEAD_BYTES = 12
"""Of a key of 2.0: numbers of kind, help and unit; then names and values of labels."""


def decode_write(body: bytes, received_us: int, version: str) -> Decoded:
    """Decode one request that is no longer compressed; see `collector.decode_remote_write.decode_remote_write`."""
    return walk_write(body, received_us, version) or decode_by_reference(body, received_us, version)


def walk_write(body: bytes, received_us: int, version: str) -> Decoded | None:
    """Decode one request the fast way; None where it is unusual."""
    walker = first_walker() if version == FIRST else second_walker()
    return walker.decode(body, received_us)


@dataclass(frozen=True, slots=True)
class Key:
    """What a key of a series says."""

    labels: list[tuple[str, str]]
    """Names and values, `__name__` among them."""
    family: Family = field(default_factory=Family)
    """What the sender says about its family."""


def add_series(rows: MetricRows, key: Key) -> int:
    """Add a key's series to the rows, return its id."""
    name, labels = identity_of(key.labels)
    describe_family(rows, name, key.family)
    return rows.series(name, kind_of(name, key.family), key.family.unit, labels)


class FirstWalker:
    """1.0: a key is the bytes of a series' labels."""

    def __init__(self) -> None:
        self.cache = SeriesCache(lambda: Series(lambda rows, _, key: add_series(rows, read_first_key(key))))
        self._room = room_for(ROOM_BYTES)

    def decode(self, body: bytes, received_us: int) -> Decoded | None:
        """Decode a body; None where it is unusual."""
        data = bytes_of(body)
        latest_ms = (received_us + AHEAD_US) // 1000

        def run(series: Series, walk: int) -> int:
            out.filled[:] = 0
            return int(walk_first(data, series.keys, walk, EARLIEST_MS, latest_ms, out))

        with self.cache.lock:
            self._room = out = enough_room(self._room, len(body))
            if self.cache.walk(run) != DONE:
                return None
            return decoded_of(self.cache.series, out, body, received_us, read_first_key, FIRST_MESSAGES)


def read_first_key(key: bytes) -> Key:
    """Read the bytes of labels."""
    try:
        return Key(pairs_of(FIRST_MESSAGES["TimeSeries"].FromString(key).labels))
    except DecodeError as error:
        raise PermanentError(f"labels that are none: {error}") from error


@dataclass(slots=True)
class Texts:
    """The symbols of 2.0 that have been met, by number."""

    keys: Interned = field(default_factory=empty)
    checked_count: int = 0

    def grow(self) -> None:
        """Make room for more."""
        if len(self.keys.arena) >= BYTES_LIMIT:
            raise CacheFull
        self.keys = grown(self.keys)

    def are_utf8(self) -> bool:
        """Tell whether every symbol is UTF-8; the protobuf library refuses a body for one that is not."""
        for number in range(self.checked_count, int(self.keys.taken[0])):
            try:
                key_of(self.keys, number).decode()
            except UnicodeDecodeError:
                return False
            self.checked_count = number + 1
        return True

    def text(self, number: int) -> str:
        """Return one symbol."""
        return key_of(self.keys, number).decode()

    def read(self, key: bytes) -> Key:
        """Read the numbers of a series' key."""
        kind, meaning, unit, *numbers = np.frombuffer(key, np.uint32).tolist()
        texts = [self.text(number) for number in numbers]
        family = Family(family_kind(kind), self.text(unit), self.text(meaning))
        return Key(list(zip(texts[::2], texts[1::2], strict=True)), family)


@dataclass(slots=True)
class SecondSeries(Series):
    """A generation of 2.0: its keys are numbers of texts that belong to it."""

    texts: Texts = field(default_factory=Texts)


def begin_second() -> SecondSeries:
    """Make a generation of 2.0."""
    texts = Texts()
    return SecondSeries(lambda rows, _, key: add_series(rows, texts.read(key)), texts=texts)


class SecondWalker:
    """2.0: a key is the numbers of a series' texts."""

    def __init__(self) -> None:
        self.cache = SeriesCache(begin_second)
        self._room = room_for(ROOM_BYTES)
        self._refs = np.zeros(HEAD_BYTES + 8 * LABELS_LIMIT, np.uint8)

    def decode(self, body: bytes, received_us: int) -> Decoded | None:
        """Decode a body; None where it is unusual."""
        data = bytes_of(body)
        symbols = np.zeros(len(body) // 2 + 1, np.int64)
        latest_ms = (received_us + AHEAD_US) // 1000

        def run(series: Any, walk: int) -> int:
            while True:
                out.filled[:] = 0
                state, known = walk_second(
                    data, series.keys, series.texts.keys, symbols, self._refs, walk, EARLIEST_MS, latest_ms, out
                )
                if not series.texts.are_utf8():
                    self.cache.series = begin_second()  # without what one sender's bytes have spoilt
                    return UNUSUAL
                if state != SERIES_FULL or known >= 0:
                    return int(state)
                try:
                    series.texts.grow()
                except CacheFull:
                    self.cache.series = begin_second()
                    return UNUSUAL

        with self.cache.lock:
            self._room = out = enough_room(self._room, len(body))
            if self.cache.walk(run) != DONE:
                return None
            if any(kind == EXEMPLAR for kind in out.places[: out.filled[1], 0]):
                return None  # their labels are references, too
            texts = self.cache.series.texts  # type: ignore[attr-defined]
            return decoded_of(self.cache.series, out, body, received_us, texts.read, SECOND_MESSAGES)


def enough_room(room: Walked, body_bytes: int) -> Walked:
    """Return room for a body: the same again, its pages being there, unless it is too small or far too large."""
    needed = max(ROOM_BYTES, body_bytes)
    return room if needed <= room_bytes(room) <= 8 * needed else room_for(needed)


def decoded_of(
    series: Series, out: Walked, body: bytes, received_us: int, read_key: Any, messages: dict[str, Any]
) -> Decoded | None:
    """Make columns of a walk, and rows of what it left; None where a series is bad."""
    samples, places, met_count, no_values, some_empty = (int(number) for number in out.filled)
    met = out.met[:met_count].copy()
    slots = out.slots[:samples]
    left = out.places[:places]
    if series.bad[met].any() or (body and not met_count and not places):
        return None
    if some_empty:
        met = met[np.isin(met, slots)]
    if places and np.isin(series.ids[left[left[:, 0] == HISTOGRAM, 1]], series.ids[met]).any():
        return None  # a series of both kinds
    rest = RemoteRows(received_us)
    try:
        for kind, slot, start, end in left.tolist():
            take_left(rest, kind, slot, body[start:end], series, read_key, messages)
    except (PermanentError, DecodeError):
        return None
    if rest.rejected:
        return None
    rows = points_table(
        series.ids[slots], out.times_us[:samples].copy(), out.values[:samples].copy(), out.stale[:samples].copy()
    )
    written = {**rest.written, "samples": samples}
    return Decoded(
        {"metric_points": rows} if samples else {},
        samples + no_values + written["histograms"],
        (),
        rest.rows.build(),
        series.used(met),
        written,
    )


def take_left(
    rest: RemoteRows, kind: int, slot: int, content: bytes, series: Series, read_key: Any, messages: dict[str, Any]
) -> None:
    """Take one histogram, exemplar or description of a family."""
    if kind == FAMILY:
        one = messages["MetricMetadata"].FromString(content)
        rest.rows.family(one.metric_family_name, family_kind(one.type), one.unit, one.help)
        return
    holder = messages["TimeSeries"]()
    (holder.histograms if kind == HISTOGRAM else holder.exemplars).add().MergeFromString(content)
    key = read_key(key_of(series.keys, slot))
    rest.take(key.labels, key.family, holder, lambda one: pairs_of(one.labels))


@lru_cache(maxsize=1)
def first_walker() -> FirstWalker:
    """Return the process' walker of 1.0; what it remembers is a memo, no state."""
    return FirstWalker()


@lru_cache(maxsize=1)
def second_walker() -> SecondWalker:
    """Return the process' walker of 2.0."""
    return SecondWalker()
