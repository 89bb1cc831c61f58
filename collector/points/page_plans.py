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
import numpy.typing as npt
import pyarrow as pa

from collector.decode_scrape import DURATION, decode_scrape
from collector.decoded import Decoded, RowBuilder, SeriesUsed
from collector.errors import PermanentError
from collector.points.interning import bytes_of
from collector.points.page_walk import COMMENT, SAMPLE, walk_page
from collector.points.point_columns import points_table
from collector.points.walking import DONE
from collector.prometheus_text import halves_of
from engine_exporter.alias_tables import tables as alias_tables

SEEN_US = 1_790_000_000_000_000
HELD_BYTES = 1 << 28
SKIPPED_AFTER_FAILURE = 50
COUNT_END = 2.0**53
POINTS = frozenset({"metric_series", "metric_points", "metric_histograms"})
Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """A page without its values."""

    heads: npt.NDArray[np.uint8]
    ends: Places
    kinds: npt.NDArray[np.int8]

    @property
    def samples_count(self) -> int:
        """How many lines have a value."""
        return int(np.count_nonzero(self.kinds == SAMPLE))

    def text(self, values: Sequence[int]) -> bytes:
        """Return the page with values."""
        given = iter(values)
        whole = self.heads.tobytes()
        lines = [
            whole[self.ends[line] : self.ends[line + 1]] + (b" %d" % next(given) if kind == SAMPLE else b"")
            for line, kind in enumerate(self.kinds)
        ]
        return b"\n".join([*lines, b""])


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


def read_layout(body: bytes) -> Layout:
    """Cut a page into heads and values.

    Raises:
        ValueError: a line has more than a value, or is none.
    """
    parts: list[bytes] = []
    kinds: list[int] = []
    for line in body.decode().split("\n"):
        if not line:
            continue
        if line.startswith("#"):
            parts.append(line.encode())
            kinds.append(COMMENT)
            continue
        if line != line.strip():
            raise ValueError("spaces around a line")
        head, tail = halves_of(line)
        if tail[:1] != " " or len(tail.split()) != 1 or tail[1:] != tail.strip():
            raise ValueError("more than a value")
        parts.append(head.encode())
        kinds.append(SAMPLE)
    ends = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Layout(bytes_of(b"".join(parts)), ends, np.array(kinds, np.int8))


def observed_plan(layout: Layout, meta: Mapping[str, Any]) -> Plan | None:
    """Find out what becomes of a page's values; None where that is more than this can tell."""
    first, second = show(layout, meta, 1), show(layout, meta, 2)
    if first is None or second is None:
        return None
    (values, points, histograms), (others, other_points, other_histograms) = first, second
    if points.keys() != other_points.keys() or histograms.keys() != other_histograms.keys():
        return None
    places: dict[float, tuple[int, float]] = {}
    for scale in sorted(alias_scales(), reverse=True):  # 1 last, so that it wins
        if scale != 1.0:
            places.update({float(value) * scale: (line, scale) for line, value in enumerate(values)})
    places.update({float(value): (line, 1.0) for line, value in enumerate(values)})

    def source(value: float, other: float) -> tuple[int, float, float] | None:
        if value == other:
            return -1, 1.0, value
        line, scale = places.get(value, (-1, 1.0))
        return (line, scale, 0.0) if line >= 0 and others[line] * scale == other else None

    sources = [source(value, other_points[series]) for series, value in points.items()]
    lines_of_histograms: list[list[int]] = []
    sums: list[tuple[int, float, float]] = []
    for series, row in histograms.items():
        other = other_histograms[series]
        if row["bounds"] != other["bounds"] or (row["sum"] is None) != (other["sum"] is None):
            return None
        cumulative = zip(
            np.cumsum(row["bucket_counts"]).tolist(), np.cumsum(other["bucket_counts"]).tolist(), strict=True
        )
        found = [source(float(value), float(another)) for value, another in cumulative]
        total = source(row["sum"], other["sum"]) if row["sum"] is not None else (-1, 1.0, 0.0)
        if total is None or any(one is None or one[0] < 0 or one[1] != 1.0 for one in found):
            return None
        if row["sum"] is not None and total[0] < 0:
            return None
        lines_of_histograms.append([one[0] for one in found if one is not None])
        sums.append(total)
    if any(one is None for one in sources):
        return None
    whole = [one for one in sources if one is not None]
    duration = duration_id(meta)
    ids = list(points)
    return Plan(
        layout,
        {**meta, "observed_us": SEEN_US},
        np.array(ids, np.int64),
        np.array([one[0] for one in whole], np.int64),
        np.array([one[1] for one in whole], np.float64),
        np.array([one[2] for one in whole], np.float64),
        ids.index(duration) if duration in ids else -1,
        np.array(list(histograms), np.int64),
        np.array([line for lines in lines_of_histograms for line in lines], np.int64),
        np.concatenate([[0], np.cumsum([len(lines) for lines in lines_of_histograms])]).astype(np.int64),
        np.array([one[0] for one in sums], np.int64),
        np.array([one[1] for one in sums], np.float64),
        pa.array([row["bounds"] for row in histograms.values()], pa.list_(pa.float64())),
    )


def show(
    layout: Layout, meta: Mapping[str, Any], seed: int
) -> tuple[list[int], dict[int, float], dict[int, dict[str, Any]]] | None:
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
    return values, points, histograms


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


def values_of(layout: Layout, body: bytes) -> Numbers | None:
    """Return a page's values; None where it is another page."""
    count = layout.samples_count
    values, uncertain = np.empty(count), np.empty((count, 3), np.int64)
    state, left = walk_page(bytes_of(body), layout.heads, layout.ends, layout.kinds, values, uncertain)
    if state != DONE:
        return None
    try:
        for sample, start, end in uncertain[:left].tolist():
            values[sample] = float(body[start:end])
    except ValueError:
        return None
    return values


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
        if not body or not meta.get("up", True) or meta.get("ended"):
            return decode_scrape(body, meta)
        about = {key: value for key, value in meta.items() if key not in ("observed_us", "duration_seconds")}
        key = repr(sorted((name, repr(value)) for name, value in about.items())) + str("duration_seconds" in meta)
        with self._lock:
            known = self._plans.get(key)
            if known is not None:
                self._plans.move_to_end(key)
        if isinstance(known, Plan) and (planned := apply_plan(known, body, meta)) is not None:
            return planned
        decoded = decode_scrape(body, meta)
        if not decoded.rejected:
            self._learn(key, known, body, meta)
        return decoded

    def _learn(self, key: str, known: Plan | bytes | int | None, body: bytes, meta: Mapping[str, Any]) -> None:
        """Plan a page that comes in one shape for the second time."""
        if isinstance(known, int) and known > 0:
            self._keep(key, known - 1)
            return
        try:
            layout = read_layout(body)
        except ValueError:
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
