"""Truth of use: how much of each replica's GPU time each request took in each hour, in whole microseconds that add up.

A row's `prefill_gpu_microseconds + decode_gpu_microseconds = gpu_microseconds`; the rows of a (replica, hour), with
those of
idle, fault and cold start, sum exactly to GPUs times the microseconds of that hour that lie in the simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.simulator import incidents, tables
from analytics.simulator.config import FleetConfig
from analytics.simulator.incidents import Clock, Span

if TYPE_CHECKING:
    from analytics.simulator.fleet import Run

Ints = npt.NDArray[np.int64]
HOUR_MICROSECONDS = 3_600_000_000
BUCKETS = ["request", "idle", "fault", "cold_start"]
SHARES_SCHEMA = pa.schema(
    [
        ("hour_at", tables.STAMP), ("replica", pa.string()), ("bucket", pa.string()), ("trace_id", pa.string()),
        ("span_id", pa.string()), ("prefill_gpu_microseconds", pa.int64()), ("decode_gpu_microseconds", pa.int64()),
        ("gpu_microseconds", pa.int64()),
    ]
)  # fmt: skip


def share_rows(config: FleetConfig, run: Run, clock: Clock) -> pa.Table:
    """Rows of `truth_shares`: one a (hour, replica, request), and one a (hour, replica, other bucket)."""
    gpus = run.gpu[1]
    replicas = run.model.replicas
    start, end = (
        tables.epoch_microseconds(at) - tables.epoch_microseconds(clock.origin) for at in (clock.start, clock.end)
    )
    hours = -(-end // HOUR_MICROSECONDS)
    covered = np.clip(end - np.arange(hours) * HOUR_MICROSECONDS, 0, HOUR_MICROSECONDS)
    covered[0] -= start
    total = np.tile(covered * gpus, replicas)
    request, group, prefill, decode = _by_group(run, hours)
    edges = np.searchsorted(group, np.arange(replicas * hours + 1))
    prefill_units, decode_units = round_within(prefill * gpus * 1e6, decode * gpus * 1e6, edges, total)
    used = _sums(prefill_units + decode_units, edges)
    dead, cold = incidents.outages(config, run.model, clock)
    fault = np.minimum(_overlap(dead, replicas, hours, end) * gpus, total - used)
    cold_start = np.minimum(_overlap(cold, replicas, hours, end) * gpus, total - used - fault)
    rest = {1: total - used - fault - cold_start, 2: fault, 3: cold_start}
    others = [(code, np.flatnonzero(units)) for code, units in rest.items()]
    groups = np.concatenate([group, *[where for _, where in others]])
    count = groups.size - group.size
    ids = run.turns.ids[request]
    nothing = pa.nulls(count, pa.string())
    units = np.concatenate([prefill_units + decode_units, *[rest[code][where] for code, where in others]])
    zeros = np.zeros(count, np.int64)
    bucket = np.concatenate([np.zeros(group.size, np.int64), *[np.full(where.size, code) for code, where in others]])
    columns = {
        "hour_at": tables.stamps(clock.origin, groups % hours * HOUR_MICROSECONDS),
        "replica": tables.texts(tables.replica_names(run.model), groups // hours),
        "bucket": tables.texts(BUCKETS, bucket),
        "trace_id": pa.concat_arrays([tables.hex_texts(ids[:, :16]), nothing]),
        "span_id": pa.concat_arrays([tables.hex_texts(ids[:, 16:]), nothing]),
        "prefill_gpu_microseconds": pa.array(np.concatenate([prefill_units, zeros])),
        "decode_gpu_microseconds": pa.array(np.concatenate([decode_units, zeros])),
        "gpu_microseconds": pa.array(units),
    }
    return pa.table(columns, schema=SHARES_SCHEMA)


def round_within(
    prefill: npt.NDArray[np.float64], decode: npt.NDArray[np.float64], edges: Ints, total: Ints
) -> tuple[Ints, Ints]:
    """Round so that each group's running sum is the rounded running sum, and never above the group's total.

    Args:
        prefill: Microseconds, sorted by group.
        decode: Microseconds, likewise.
        edges: Group g is `edges[g]:edges[g + 1]`.
        total: The most that a group may sum to.
    """
    both = np.stack([prefill, decode], axis=1).reshape(-1)
    running = np.cumsum(both)
    before = np.concatenate([[0.0], running])[2 * edges[:-1]]
    size = np.diff(edges) * 2
    most = np.repeat(total, size)
    inside = np.minimum(np.rint(running - np.repeat(before, size)).astype(np.int64), most)
    steps = np.diff(inside, prepend=0)
    firsts = (2 * edges[:-1])[size > 0]
    steps[firsts] = inside[firsts]
    return steps[0::2], steps[1::2]


def _by_group(run: Run, hours: int) -> tuple[Ints, Ints, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The engine's rows merged by (replica, hour, request) and sorted: request, replica * hours + hour, seconds."""
    rows = run.shares[run.shares.hour < hours]  # what a step did beyond the end is no part of this simulation
    request, hour, prefill, decode = rows.request, rows.hour, rows.prefill, rows.decode
    group = run.result.replica[request].astype(np.int64) * hours + hour
    order = np.lexsort((request, group))
    request, group, prefill, decode = request[order], group[order], prefill[order], decode[order]
    new = np.ones(request.size, np.bool_)
    new[1:] = (request[1:] != request[:-1]) | (group[1:] != group[:-1])
    at = np.flatnonzero(new)
    if at.size == 0:
        return request, group, prefill, decode
    return request[at], group[at], np.add.reduceat(prefill, at), np.add.reduceat(decode, at)


def _sums(values: Ints, edges: Ints) -> Ints:
    """Sum of each group."""
    running = np.concatenate([[0], np.cumsum(values)])
    return np.asarray(running[edges[1:]] - running[edges[:-1]])


def _overlap(spans: list[Span], replicas: int, hours: int, end: int) -> Ints:
    """Microseconds of each (replica, hour) that lie in the spans."""
    overlap = np.zeros((replicas, hours), np.int64)
    begins = np.arange(hours) * HOUR_MICROSECONDS
    for span in spans:
        first, last = round(span.start * 1e6), min(round(span.end * 1e6), end)
        overlap[span.replica] += np.clip(
            np.minimum(begins + HOUR_MICROSECONDS, last) - np.maximum(begins, first), 0, None
        )
    return overlap.reshape(-1)
