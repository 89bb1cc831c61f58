"""Events and bad events of every SLO by band of age; of hours that are over they are counted once in a process.

The counts are those of the raw requests at every moment. The requests that arrived in one hour and that all ended in
one band are counted once and added to whatever band they have moved on to; those of other hours (they reach over an
edge of a band, or some came late) are counted anew. An hour whose mark has changed is another hour: see
analytics/arrivals.py.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from analytics.arrivals import Arrived, OfClients, read_arrived, stretches_of
from analytics.burn_windows import WINDOW_SECONDS
from analytics.slo_definitions import SloDefinition
from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

Target = tuple[int, str]
"""The number of a definition, and a model."""
Counts = dict[Target, tuple[int, int]]
"""(bad, events); a target without events is left out."""
Bands = dict[Target, list[tuple[int, int]]]
"""(bad, events) by band of age, youngest first; the last is the rest of the SLO's window."""
BANDS_COUNT = len(WINDOW_SECONDS) + 1
GAP = timedelta(hours=6)
"""Hours no further apart are asked for at once: a statement costs more than reading a few hours."""
KEPT_COUNTS = 200_000
"""So many counts of one target in one hour are kept for a set of definitions: some 50 MB."""
KEPT_SETS = 4
"""Sets of definitions whose counts are kept for a client."""


@dataclass(slots=True)
class KeptCounts:
    """What is kept for one client."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    hours: OrderedDict[tuple[SloDefinition, ...], dict[datetime, tuple[Arrived, Counts]]] = field(
        default_factory=OrderedDict
    )
    """By definitions and hour of arrival."""

    def of(self, definitions: tuple[SloDefinition, ...]) -> dict[datetime, tuple[Arrived, Counts]]:
        """Return a copy of what is kept for some definitions."""
        with self.lock:
            return dict(self.hours.get(definitions, {}))

    def keep(self, definitions: tuple[SloDefinition, ...], hours: dict[datetime, tuple[Arrived, Counts]]) -> None:
        """Keep these hours, and no others, for some definitions."""
        with self.lock:
            self.hours[definitions] = hours
            self.hours.move_to_end(definitions)
            while len(self.hours) > KEPT_SETS:
                self.hours.popitem(last=False)


KEPT = OfClients(KeptCounts)


def band_counts(
    client: Client, now: datetime, definitions: Sequence[SloDefinition], targets: Sequence[Target]
) -> Bands:
    """Count the events of every target by band of age.

    Args:
        client: where the requests are.
        now: end of all windows, exclusive. Naive UTC.
        definitions: what to measure.
        targets: what to measure it of: each definition with its model, or with every model of the longest window.

    Returns:
        One entry per target that has events.
    """
    edges = edges_of(now, definitions)
    arrived = read_arrived(client, edges[0], now)
    asked = Asked(client, tuple(definitions), tuple(targets))
    whole = {hour_at: hour for hour_at, hour in arrived.items() if 0 < place_of(hour, edges) < len(edges)}
    torn = [hour_at for hour_at, hour in arrived.items() if place_of(hour, edges) < 0]
    counts = whole_counts(asked, whole)
    bands: Bands = {}
    begins = [now - timedelta(days=slo.window_days) for slo in definitions]
    for hour_at, of_targets in counts.items():
        ended_at = whole[hour_at].first_event_at
        band = band_of(now, ended_at)
        for target, count in of_targets.items():
            if ended_at >= begins[target[0]]:
                add(bands, target, band, count)
    for target, hour_at, band, count in asked.counted(torn, now, [slo.window_days * 86400 for slo in definitions]):
        if hour_at in arrived and hour_at not in whole:
            add(bands, target, band, count)
    return bands


def edges_of(now: datetime, definitions: Iterable[SloDefinition]) -> list[datetime]:
    """Return where bands and windows begin and end, in order of time; the last is now."""
    lengths = {*map(float, WINDOW_SECONDS.values()), *(slo.window_days * 86400.0 for slo in definitions), 0.0}
    return sorted(now - timedelta(seconds=length) for length in lengths)


def place_of(hour: Arrived, edges: Sequence[datetime]) -> int:
    """Return between which edges an hour's events all lie (0: before the first of them); -1 where one parts them."""
    first, last = bisect_right(edges, hour.first_event_at), bisect_right(edges, hour.last_event_at)
    return first if first == last else -1


def band_of(now: datetime, ended_at: datetime) -> int:
    """Return the band of age of an event; 0 is the youngest."""
    return sum(ended_at < now - timedelta(seconds=length) for length in WINDOW_SECONDS.values())


def add(bands: Bands, target: Target, band: int, count: tuple[int, int]) -> None:
    """Add (bad, events) to one band."""
    of_target = bands.get(target)
    if of_target is None:
        of_target = bands[target] = [(0, 0)] * BANDS_COUNT
    bad, events = of_target[band]
    of_target[band] = (bad + count[0], events + count[1])


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured, of whom."""

    client: Client
    definitions: tuple[SloDefinition, ...]
    targets: tuple[Target, ...]

    def counted(
        self, hours: Sequence[datetime], now: datetime, window_seconds: Sequence[int]
    ) -> Iterable[tuple[Target, datetime, int, tuple[int, int]]]:
        """Count some hours and those between them: target, hour, band of age before now, (bad, events)."""
        for start, end in stretches_of(hours, GAP):
            for number, model, hour_at, band, events, bad in self.read(start, end, now, window_seconds).iter_rows():
                yield (number, model), hour_at, band, (bad, events)

    def read(self, start: datetime, end: datetime, now: datetime, window_seconds: Sequence[int]) -> pl.DataFrame:
        """Count the requests that arrived in a range of hours, by hour and band."""
        slos = [self.definitions[number] for number, _ in self.targets]
        return ask(
            self.client,
            "slo_events_band",
            now=now,
            slo_numbers=[number for number, _ in self.targets],
            models=[model for _, model in self.targets],
            slis=[slo.sli for slo in slos],
            thresholds=[slo.threshold_seconds for slo in slos],
            teams=[slo.team for slo in slos],
            window_seconds=[window_seconds[number] for number, _ in self.targets],
            arrived_from=start,
            arrived_until=end,
        )


def whole_counts(asked: Asked, whole: dict[datetime, Arrived]) -> dict[datetime, Counts]:
    """Return the counts of hours whose events all lie in one band; what is kept is not counted again."""
    kept = KEPT.of(asked.client)
    known = {hour_at: found for hour_at, found in kept.of(asked.definitions).items() if found[0] == whole.get(hour_at)}
    if missing := whole.keys() - known.keys():
        first = min(whole[hour_at].first_event_at for hour_at in missing)
        until = max(whole[hour_at].last_event_at for hour_at in missing) + timedelta(microseconds=1)
        seconds = -(-(until - first) // timedelta(seconds=1))  # one window that all of their events are in
        known |= {hour_at: (whole[hour_at], {}) for hour_at in missing}
        for target, hour_at, _, count in asked.counted(list(missing), until, [seconds] * len(asked.definitions)):
            if hour_at in missing:
                found = known[hour_at][1]
                bad, events = found.get(target, (0, 0))
                found[target] = (bad + count[0], events + count[1])
    kept.keep(asked.definitions, within_limit(known))
    return {hour_at: counts for hour_at, (_, counts) in known.items()}


def within_limit(hours: dict[datetime, tuple[Arrived, Counts]]) -> dict[datetime, tuple[Arrived, Counts]]:
    """Choose what is kept: the youngest hours."""
    kept, count = {}, 0
    for hour_at in sorted(hours, reverse=True):
        count += 1 + len(hours[hour_at][1])
        if count > KEPT_COUNTS:
            break
        kept[hour_at] = hours[hour_at]
    return kept
