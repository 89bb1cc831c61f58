"""Sketches of every stream in the windows that a drift scan compares; those of windows that are over are kept.

A scan looks at three kinds of windows, all of one length:
- the current one, which ends now to the microsecond: read at every scan;
- the same hours of the earlier days. They end at `anchor_of(now)`, the nearest mark of a twelfth of the window, so that
  scans of some minutes share them: at most a 24th of their time is not that of the current window;
- windows of fixed hours of the UTC day, that tell what is usual. Each is read once in the life of a process.

A window is read again once the marks of its hours have changed (analytics/arrivals.py), so requests that come late
count at the next scan.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from analytics.arrivals import Marks, OfClients, marks_of, read_arrived
from analytics.config import DriftConfig
from analytics.statements import ask
from analytics.two_sample import Sketch, pooled

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

Metric = Literal["input_tokens", "output_tokens", "cached_ratio", "ttft_seconds"]
METRICS: tuple[Metric, ...] = ("input_tokens", "output_tokens", "cached_ratio", "ttft_seconds")
StreamKey = tuple[str, str | None, Metric]
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1)
ANCHORS_PER_WINDOW = 12
KEPT_SKETCHES = 100_000
"""About so many sketches are kept for a client: some 100 MB."""
KEPT_HISTORIES = 4
"""Histories whose usual effects are kept for a client."""


@dataclass(frozen=True, slots=True)
class Window:
    """One stream in one window."""

    count: int
    """Rows that carry the metric."""
    sketch: Sketch
    """Their quantiles, on the scale that is compared."""


Sketches = dict[StreamKey, Window]
"""Every stream that has rows in one window."""
Windows = Mapping[tuple[int, int], Window]
"""One stream by (day, slot): (0, 0) is the current window, (day, 0) the same hours of earlier days, the other slots
windows of fixed hours; days count back from the youngest, which is 1."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What a scan compares."""

    windows: dict[StreamKey, dict[tuple[int, int], Window]]
    """Every stream's windows."""
    usual: dict[StreamKey, NDArray[np.float64]]
    """Usual effects that were computed from the same history before; whoever computes one adds it."""


@dataclass(slots=True)
class KeptWindows:
    """What is kept for one client."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sketches: dict[tuple[datetime, int], tuple[Marks, Sketches]] = field(default_factory=dict)
    """By start and length in seconds: the marks of the hours, and what was read of them."""
    usual: OrderedDict[object, dict[StreamKey, NDArray[np.float64]]] = field(default_factory=OrderedDict)
    """By history and settings."""


KEPT = OfClients(KeptWindows)


def read_streams(client: Client, now: datetime, window_seconds: int, settings: DriftConfig) -> Streams:
    """Read the sketch of every stream in every window of a scan."""
    places = places_of(now, window_seconds, settings.history_days)
    length = timedelta(seconds=window_seconds)
    kept = KEPT.of(client)
    arrived = read_arrived(client, min(places.values(), default=now), now)
    marks = {start: marks_of(arrived, start, start + length) for start in set(places.values())}
    with kept.lock:
        known = {
            start: kept.sketches[start, window_seconds][1] if mark else {}
            for start, mark in marks.items()
            if not mark or kept.sketches.get((start, window_seconds), (None,))[0] == mark
        }
    missing = sorted(marks.keys() - known.keys())
    for starts in families(missing, places):
        known |= read_sketches(client, starts, window_seconds)
    current = read_sketches(client, [now - length], window_seconds)[now - length]
    history = tuple(sorted(marks.items()))
    with kept.lock:
        kept.sketches = within_limit(marks, known, window_seconds)
        usual = kept.usual.setdefault((window_seconds, settings, history), {})
        while len(kept.usual) > KEPT_HISTORIES:
            kept.usual.popitem(last=False)
    return Streams(by_stream({(0, 0): current} | {place: known[start] for place, start in places.items()}), usual)


def within_limit(
    marks: Mapping[datetime, Marks], known: Mapping[datetime, Sketches], window_seconds: int
) -> dict[tuple[datetime, int], tuple[Marks, Sketches]]:
    """Choose what is kept: the youngest windows."""
    kept, count = {}, 0
    for start in sorted(known, reverse=True):
        count += len(known[start])
        if count > KEPT_SKETCHES:
            break
        kept[start, window_seconds] = (marks[start], known[start])
    return kept


def anchor_of(now: datetime, window_seconds: int) -> datetime:
    """Return the end of the same hours of earlier days, a whole number of days later: about now."""
    step_us = max(1_000_000, window_seconds * 1_000_000 // ANCHORS_PER_WINDOW)
    since_us = (now - EPOCH) // timedelta(microseconds=1)
    return EPOCH + timedelta(microseconds=(since_us + step_us // 2) // step_us * step_us)


def places_of(now: datetime, window_seconds: int, history_days: int) -> dict[tuple[int, int], datetime]:
    """Return the starts of the windows of the history by (day, slot); see `Windows`.

    All of them lie between `history_days` days and a window before the anchor and one day before it.
    """
    length, anchor = timedelta(seconds=window_seconds), anchor_of(now, window_seconds)
    places = {(day, 0): anchor - day * DAY - length for day in range(1, history_days + 1)}
    first, last, same_hours = anchor - history_days * DAY - length, anchor - DAY - length, set(places.values())
    for slot in range(int(DAY / length)):
        start = datetime.combine(anchor.date(), time()) + slot * length
        day = 0
        while start >= first:
            if start <= last and start not in same_hours:
                day += 1
                places[day, slot + 1] = start
            start -= DAY
    return places


def families(missing: Sequence[datetime], places: Mapping[tuple[int, int], datetime]) -> Iterator[list[datetime]]:
    """Put windows that are missing together as one statement reads them: the same hours of days; fixed hours."""
    same_hours = {start for (_, slot), start in places.items() if slot == 0}
    yield [start for start in missing if start in same_hours]
    yield [start for start in missing if start not in same_hours]


def read_sketches(client: Client, starts: Sequence[datetime], window_seconds: int) -> dict[datetime, Sketches]:
    """Read windows of the same hours of days, or of slots of the UTC day, by their starts in order of time."""
    if not starts:
        return {}
    length, first, slots = timedelta(seconds=window_seconds), starts[0], 1
    if any((start - first) % DAY for start in starts):
        first, slots = datetime.combine(first.date(), time()), int(DAY / length)
    frame = ask(
        client,
        "drift_sketch_window",
        first=first,
        until=starts[-1] + length,
        window_seconds=window_seconds,
        slots=slots,
    )
    found: dict[datetime, Sketches] = {start: {} for start in starts}
    for metric in METRICS:
        for (model, team, day, slot), window in windows_of(frame, metric):
            if (at := first + day * DAY + slot * length) in found:
                found[at][model, team, metric] = window
    return {start: with_all_teams(sketches) for start, sketches in found.items()}


def windows_of(frame: pl.DataFrame, metric: Metric) -> Iterator[tuple[tuple[str, str | None, int, int], Window]]:
    """Yield (model, team, day, slot) and one metric's window of every row that has it."""
    rows = frame.filter(frame[f"{metric}_count"] > 0)
    if rows.is_empty():
        return
    sketches = rows[f"{metric}_sketch"].explode().to_numpy().astype(np.float64).reshape(rows.height, -1)
    keys = rows.select("model", "team", "day", "slot").iter_rows()
    for key, count, sketch in zip(keys, rows[f"{metric}_count"].to_list(), sketches, strict=True):
        yield key, Window(count, sketch)


def with_all_teams(sketches: Sketches) -> Sketches:
    """Put the teams of each model together (None stands for all of them, and not for rows without a team)."""
    parts: dict[StreamKey, list[Window]] = {}
    for (model, _, metric), window in sketches.items():
        parts.setdefault((model, None, metric), []).append(window)
    of_teams = {key: window for key, window in sketches.items() if key[1] is not None}
    return of_teams | {key: pool_of(windows) for key, windows in parts.items()}


def pool_of(windows: Sequence[Window]) -> Window:
    """Put windows together."""
    if len(windows) == 1:
        return windows[0]
    counts = [window.count for window in windows]
    return Window(sum(counts), pooled([window.sketch for window in windows], counts))


def by_stream(placed: Mapping[tuple[int, int], Sketches]) -> dict[StreamKey, dict[tuple[int, int], Window]]:
    """Turn windows of streams into streams of windows, in order of model, team and metric."""
    streams: dict[StreamKey, dict[tuple[int, int], Window]] = {}
    for place, sketches in placed.items():
        for key, window in sketches.items():
            streams.setdefault(key, {})[place] = window
    order = {metric: number for number, metric in enumerate(METRICS)}
    return dict(sorted(streams.items(), key=lambda stream: (stream[0][0], stream[0][1] or "", order[stream[0][2]])))
