"""Texts of one target are alike but for their values: what becomes of each line is found out once, and then done.

A plan is not written but observed: the reference decoder is shown the page with numbers of our own, and where each
comes out says what the line is for. A second page with other numbers must come out as the plan says, or there is no
plan; and a page that a plan does not fit, to the byte, goes to the reference.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from collector.decode_scrape import DURATION, decode_scrape
from collector.decoded import Decoded, RowBuilder, SeriesUsed
from collector.errors import PermanentError
from collector.points.page_layouts import Layout, Numbers, Places, read_layout, values_of
from collector.points.point_columns import points_table
from engine_exporter.alias_tables import tables as alias_tables

SEEN_US = 1_790_000_000_000_000
HELD_BYTES = 1 << 28
SKIPPED_AFTER_FAILURE = 50
COUNT_END = 2.0**53
POINTS = frozenset({"metric_series", "metric_points", "metric_histograms"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a page's values."""

    layout: Layout
    meta: Mapping[str, Any]
    """Target, labels and the like: what the reference needs to describe the series."""
    ids: Places
    """Series of the points; those of histograms follow in `histogram_ids`."""
    lines: Places
    """By point: which value; -1 is `constants`."""
    scales: Numbers
    """By point: the value times this."""
    constants: Numbers
    """By point: the value where no line gives it."""
    duration_place: int
    """Which point is how long the scrape took; -1: none."""
    histogram_ids: Places
    cumulative_lines: Places
    """Of all histograms, one after the other: the lines of their buckets."""
    cumulative_ends: Places
    sum_lines: Places
    """By histogram; -1: it has no sum."""
    sum_scales: Numbers
    bounds: pa.Array
    """By histogram."""

    @property
    def held_bytes(self) -> int:
        """About how much memory it takes."""
        rows = len(self.ids) + len(self.cumulative_lines)
        return int(self.layout.heads.nbytes + 40 * rows + self.bounds.nbytes)


@dataclass(frozen=True, slots=True)
class Shown:
    """A page with numbers of our own, and what the reference made of it."""

    values: list[int]
    """By line with a value."""
    points: dict[int, float]
    """By series."""
    histograms: dict[int, dict[str, Any]]
    """Rows by series."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number comes from: a line's value times a scale, or nowhere: then it is a constant."""

    line: int
    scale: float
    constant: float


def observed_plan(layout: Layout, meta: Mapping[str, Any]) -> Plan | None:
    """Find out what becomes of a page's values; None where that is more than this can tell."""
    first, second = show(layout, meta, 1), show(layout, meta, 2)
    if first is None or second is None:
        return None
    if first.points.keys() != second.points.keys() or first.histograms.keys() != second.histograms.keys():
        return None
    places = places_of(first.values)
    try:
        points = [source_of(value, second.points[series], places, second) for series, value in first.points.items()]
        histograms = [
            sources_of_histogram(row, second.histograms[series], places, second)
            for series, row in first.histograms.items()
        ]
    except LookupError:
        return None
    ids, duration = list(first.points), duration_id(meta)
    buckets = [lines for lines, _ in histograms]
    return Plan(
        layout,
        {**meta, "observed_us": SEEN_US},
        np.array(ids, np.int64),
        np.array([one.line for one in points], np.int64),
        np.array([one.scale for one in points], np.float64),
        np.array([one.constant for one in points], np.float64),
        ids.index(duration) if duration in ids else -1,
        np.array(list(first.histograms), np.int64),
        np.array([line for lines in buckets for line in lines], np.int64),
        np.concatenate([[0], np.cumsum([len(lines) for lines in buckets])]).astype(np.int64),
        np.array([total.line for _, total in histograms], np.int64),
        np.array([total.scale for _, total in histograms], np.float64),
        pa.array([row["bounds"] for row in first.histograms.values()], pa.list_(pa.float64())),
    )


def places_of(values: Sequence[int]) -> dict[float, tuple[int, float]]:
    """Return by number which line it comes from, and by which factor; a line's own value wins over a scaled one."""
    places: dict[float, tuple[int, float]] = {}
    for scale in alias_scales() - {1.0}:
        places.update({float(value) * scale: (line, scale) for line, value in enumerate(values)})
    places.update({float(value): (line, 1.0) for line, value in enumerate(values)})
    return places


def source_of(value: float, other: float, places: Mapping[float, tuple[int, float]], second: Shown) -> Source:
    """Return where a number comes from.

    Args:
        value: what it was on the first page.
        other: what it was on the second.
        places: lines by the first page's numbers.
        second: the second page.

    Raises:
        LookupError: nothing explains both.
    """
    if value == other:
        return Source(-1, 1.0, value)
    line, scale = places[value]
    if second.values[line] * scale != other:
        raise LookupError("the second page came out otherwise")
    return Source(line, scale, 0.0)


def sources_of_histogram(
    row: Mapping[str, Any], other: Mapping[str, Any], places: Mapping[float, tuple[int, float]], second: Shown
) -> tuple[list[int], Source]:
    """Return the lines of a histogram's buckets, and where its sum comes from.

    Raises:
        LookupError: it is more than its lines, as they are.
    """
    if row["bounds"] != other["bounds"] or (row["sum"] is None) != (other["sum"] is None):
        raise LookupError("a histogram of another shape")
    cumulative = np.cumsum(row["bucket_counts"]).tolist(), np.cumsum(other["bucket_counts"]).tolist()
    buckets = [source_of(float(one), float(two), places, second) for one, two in zip(*cumulative, strict=True)]
    with_sum = row["sum"] is not None
    total = source_of(row["sum"], other["sum"], places, second) if with_sum else Source(-1, 1.0, 0.0)
    if any(one.line < 0 or one.scale != 1.0 for one in buckets) or (with_sum and total.line < 0):
        raise LookupError("a count or a sum that no line gives")
    return [one.line for one in buckets], total


def show(layout: Layout, meta: Mapping[str, Any], seed: int) -> Shown | None:
    """Show the reference a page with values that grow from line to line; return them and what it makes of them."""
    steps = np.random.default_rng(seed).integers(1 << 10, 1 << 20, layout.samples_count)
    values = np.cumsum(steps).tolist()
    try:
        decoded = decode_scrape(layout.text(values), {**meta, "observed_us": SEEN_US})
    except PermanentError:
        return None
    tables = decoded.tables
    if decoded.rejected or not tables.keys() <= POINTS:
        return None
    points = {row["series_id"]: row["value"] for row in rows_in(tables, "metric_points")}
    histograms = {row["series_id"]: row for row in rows_in(tables, "metric_histograms")}
    return Shown(values, points, histograms)


def rows_in(tables: Mapping[str, pa.Table], name: str) -> list[dict[str, Any]]:
    """Return a table's rows; none where there is no such table."""
    return list(tables[name].to_pylist()) if name in tables else []


def duration_id(meta: Mapping[str, Any]) -> int | None:
    """Return the series of how long the scrape takes."""
    tables = decode_scrape(b"", {**meta, "observed_us": SEEN_US}).tables
    found = [row["series_id"] for row in rows_in(tables, "metric_series") if row["name"] == DURATION]
    return found[0] if found else None


@lru_cache(maxsize=1)
def alias_scales() -> frozenset[float]:
    """Return the factors that engines' values are multiplied by."""
    return frozenset(alias.scale for table in alias_tables() for alias in table.metrics.values())


@lru_cache(maxsize=1)
def lowest_blank() -> float:
    """Return the smallest of the numbers with which engines say that there is none; pages of GPUs have no plans."""
    return min((blank for table in alias_tables() if not table.gpu for blank in table.blanks), default=np.inf)


def apply_plan(plan: Plan, body: bytes, meta: Mapping[str, Any]) -> Decoded | None:
    """Decode a page as planned; None where it does not fit."""
    values, count = values_of(plan.layout, body), plan.layout.samples_count
    if values is None or not np.isfinite(values).all() or (count and np.abs(values).max() >= lowest_blank()):
        return None
    observed_us = int(meta["observed_us"])
    numbers = np.where(plan.lines >= 0, values[plan.lines] * plan.scales if count else 0.0, plan.constants)
    if plan.duration_place >= 0:
        numbers[plan.duration_place] = meta["duration_seconds"]
    if not np.isfinite(numbers).all():
        return None
    times = np.full(len(numbers), observed_us)
    tables = {"metric_points": points_table(plan.ids, times, numbers, np.zeros(len(numbers), np.bool_))}
    if len(plan.histogram_ids):
        histograms = planned_histograms(plan, values, observed_us)
        if histograms is None:
            return None
        tables["metric_histograms"] = histograms
    accepted = len(plan.ids) + len(plan.histogram_ids)
    return Decoded(tables, accepted, series=series_used(plan))


def planned_histograms(plan: Plan, values: Numbers, observed_us: int) -> pa.Table | None:
    """Return the histograms of a page; None where one is for the reference to judge."""
    cumulative = values[plan.cumulative_lines]
    if (cumulative < 0).any() or (cumulative >= COUNT_END).any() or (cumulative != np.floor(cumulative)).any():
        return None
    whole = cumulative.astype(np.int64)
    starts, ends = plan.cumulative_ends[:-1], plan.cumulative_ends[1:]
    buckets = np.diff(whole, prepend=0)
    buckets[starts] = whole[starts]
    if (buckets < 0).any():
        return None
    with_sum = plan.sum_lines >= 0
    sums = np.where(with_sum, values[plan.sum_lines] * plan.sum_scales, 0.0)
    return pa.table(
        {
            "series_id": pa.array(plan.histogram_ids),
            "observed_at": pa.array(np.full(len(starts), observed_us)).view(pa.timestamp("us")),
            "count": pa.array(whole[ends - 1]),
            "sum": pa.array(sums, mask=~with_sum),
            "bounds": plan.bounds,
            "bucket_counts": pa.ListArray.from_arrays(
                pa.array(plan.cumulative_ends.astype(np.int32)), pa.array(buckets)
            ),
        }
    )


def series_used(plan: Plan) -> SeriesUsed:
    """Return the plan's series; what they are called is asked of the reference again, should the tables lack them."""
    ids = np.concatenate([plan.ids, plan.histogram_ids])

    def describe(places: Places) -> Sequence[RowBuilder]:
        wanted = set(ids[places].tolist())
        shown = decode_scrape(plan.layout.text(range(1, plan.layout.samples_count + 1)), plan.meta)
        builder = next(one for one in shown.builders if one.table == "metric_series")
        at = builder.names.index("series_id")
        return (RowBuilder(builder.table, builder.names, [row for row in builder.rows if row[at] in wanted]),)

    return SeriesUsed(ids, describe)


class PagePlans:
    """Plans by target, the least used forgotten."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Any, Plan | bytes | int] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def decode(self, body: bytes, meta: Mapping[str, Any]) -> Decoded:
        """Decode one scrape; see `collector.decode_scrape.decode_scrape`."""
        return self.decode_planned(body, meta) or decode_scrape(body, meta)

    def decode_planned(self, body: bytes, meta: Mapping[str, Any]) -> Decoded | None:
        """Decode one scrape as planned; None where there is no plan, which there may be for the next."""
        if not body or not meta.get("up", True) or meta.get("ended"):
            return None
        about = {key: value for key, value in meta.items() if key not in ("observed_us", "duration_seconds")}
        key = repr(sorted((name, repr(value)) for name, value in about.items())) + str("duration_seconds" in meta)
        with self._lock:
            known = self._plans.get(key)
            if known is not None:
                self._plans.move_to_end(key)
        if isinstance(known, Plan) and (planned := apply_plan(known, body, meta)) is not None:
            return planned
        self._learn(key, known, body, meta)
        return None

    def _learn(self, key: str, known: Plan | bytes | int | None, body: bytes, meta: Mapping[str, Any]) -> None:
        """Plan a page that comes in one shape for the second time."""
        if isinstance(known, int) and known > 0:
            self._keep(key, known - 1)
            return
        try:
            layout = read_layout(body)
        except (ValueError, IndexError):
            self._keep(key, SKIPPED_AFTER_FAILURE)
            return
        shape = hashlib.blake2b(layout.heads.tobytes() + layout.ends.tobytes(), digest_size=16).digest()
        if known != shape:
            self._keep(key, shape)
            return
        self._keep(key, observed_plan(layout, meta) or SKIPPED_AFTER_FAILURE)

    def _keep(self, key: str, what: Plan | bytes | int) -> None:
        with self._lock:
            self._held_bytes += held_bytes(what) - held_bytes(self._plans.get(key, 0))
            self._plans[key] = what
            self._plans.move_to_end(key)
            while self._held_bytes > HELD_BYTES and len(self._plans) > 1:
                self._held_bytes -= held_bytes(self._plans.popitem(last=False)[1])


def held_bytes(what: Plan | bytes | int) -> int:
    """Return about how much memory an entry takes."""
    return what.held_bytes if isinstance(what, Plan) else 200


@lru_cache(maxsize=1)
def page_plans() -> PagePlans:
    """Return the process' plans; what they remember is a memo, no state."""
    return PagePlans()
