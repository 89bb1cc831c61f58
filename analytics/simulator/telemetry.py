"""What GPUs and engines would have reported: samples of each GPU, gauges and counters of each engine."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.simulator import incidents, tables
from analytics.simulator.arrivals import random_of
from analytics.simulator.config import FleetConfig, GpuFault
from analytics.simulator.incidents import Clock, Span
from analytics.simulator.truth import gpu_uuid
from engine_exporter.semconv import METRICS, series_id

if TYPE_CHECKING:
    from analytics.simulator.fleet import Run

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GPU_SCHEMA = pa.schema(
    [
        ("gpu_uuid", pa.string()), ("sampled_at", tables.STAMP), ("gpu_index", pa.int32()), ("gpu_type", pa.string()),
        ("host", pa.string()), ("replica", pa.string()), ("cluster", pa.string()), ("power_watts", pa.float64()),
        ("energy_joules", pa.float64()), ("utilization_ratio", pa.float64()), ("sm_active_ratio", pa.float64()),
        ("tensor_active_ratio", pa.float64()), ("dram_active_ratio", pa.float64()), ("memory_used_bytes", pa.int64()),
        ("memory_total_bytes", pa.int64()), ("temperature_celsius", pa.float64()), ("sm_clock_hertz", pa.float64()),
        ("clock_event_reasons", pa.list_(pa.string())), ("xid", pa.int32()),
    ]
)  # fmt: skip
SERIES_SCHEMA = pa.schema(
    [
        ("series_id", pa.int64()), ("name", pa.string()), ("kind", pa.string()), ("unit", pa.string()),
        ("labels", tables.TEXT_MAP), ("model", pa.string()), ("replica", pa.string()), ("original_name", pa.string()),
    ]
)  # fmt: skip
POINTS_SCHEMA = pa.schema([("series_id", pa.int64()), ("observed_at", tables.STAMP), ("value", pa.float64())])

MEMORY_USED_RATIO = 0.92
AMBIENT_CELSIUS = 31.0
CELSIUS_PER_WATT = 0.052
THROTTLE_CELSIUS = 91.0
# what a GPU shows while it prefills, and while it decodes a batch of 1 / of 64 and more
PREFILL_ACTIVITY = {"sm": 0.88, "tensor": 0.52, "dram": 0.38}
DECODE_ACTIVITY = {"sm": (0.30, 0.62), "tensor": (0.035, 0.22), "dram": (0.70, 0.78)}
REASONS = [[], ["gpu_idle"], ["sw_power_cap"], ["hw_thermal_slowdown"]]


def sample_bins(config: FleetConfig, clock: Clock) -> Ints:
    """The bins after which a sample is taken: coarse in history, each one in the last hours before the anchor."""
    width = config.telemetry.interval_seconds
    start, end = clock.seconds(clock.start), clock.seconds(clock.end)
    ends = np.arange(1, int(end // width) + 1)
    every = (config.telemetry.history_interval_seconds or width) // width
    recent = clock.seconds(clock.anchor - timedelta(hours=config.telemetry.recent_hours))
    taken = ((ends % every == 0) | (ends * width >= recent)) & (ends * width > start)
    return np.flatnonzero(taken)


def means(values: Floats, bins: Ints) -> Floats:
    """The mean of each bin between one sample and the next."""
    running = np.concatenate([[0.0], np.cumsum(values)])
    before = np.concatenate([[-1], bins[:-1]]) + 1
    return np.asarray((running[bins + 1] - running[before]) / (bins + 1 - before))


def gpu_samples(config: FleetConfig, runs: list[Run], seed: int, clock: Clock) -> pa.Table:
    """Rows of `gpu_samples`. A GPU that fell off the bus sends one last sample with its XID and nothing else."""
    bins = sample_bins(config, clock)
    parts = []
    for run in runs:
        for replica in range(run.model.replicas):
            for gpu in range(run.gpu[1]):
                parts.append(one_gpu(config, run, seed, clock, replica, gpu, bins))
    return pa.concat_tables(parts)


def one_gpu(config: FleetConfig, run: Run, seed: int, clock: Clock, replica: int, gpu: int, bins: Ints) -> pa.Table:
    """The samples of one GPU."""
    width = float(config.telemetry.interval_seconds)
    tel, power = run.telemetry, run.profile.power
    uuid = gpu_uuid(run.model.deployment, replica, gpu)
    rng = random_of(seed, "gpu", uuid, clock.start)
    noise = rng.standard_normal((tel.busy.shape[1], 3))[bins]
    busy = np.clip(means(tel.busy[replica], bins) / width, 0.0, 1.0)
    prefill = np.minimum(means(tel.prefilling[replica], bins) / width, busy)
    decode = busy - prefill
    batch = means(tel.sequence_seconds[replica], bins) / width / np.maximum(busy, 1e-9)
    full = np.clip((batch - 1) / 63, 0.0, 1.0)
    activity = {
        name: np.clip(
            (PREFILL_ACTIVITY[name] * prefill + decode * (low + (high - low) * full)) * (1 + 0.02 * noise[:, 0]), 0, 1
        )
        for name, (low, high) in DECODE_ACTIVITY.items()
    }
    decode_watts = power.decode_watts + full * 0.5 * (power.limit_watts - power.decode_watts)
    watts = power.idle_watts * (1 - busy) + decode_watts * decode + power.limit_watts * prefill
    watts = np.clip(watts * (1 + 0.015 * noise[:, 1]), 0.9 * power.idle_watts, power.limit_watts)
    celsius = AMBIENT_CELSIUS + CELSIUS_PER_WATT * watts + 0.4 * noise[:, 2]
    hertz = np.full(bins.size, power.clock_hertz)
    reasons = np.where(busy < 0.01, 1, np.where(watts > 0.97 * power.limit_watts, 2, 0))
    times = ((bins + 1) * width).astype(np.float64)
    for span, which, factor in _throttled(config, run, clock):
        if span.replica == replica and which == gpu:
            slow = (times > span.start) & (times <= span.end)
            reasons[slow], celsius[slow] = 3, THROTTLE_CELSIUS + 0.4 * noise[slow, 2]
            hertz[slow] = power.clock_hertz / factor
            watts[slow] = np.minimum(watts[slow], power.decode_watts * 0.7)
    alive, xid, last_words = _faults(config, run, clock, replica, gpu, times)
    gaps = np.diff(times, prepend=clock.seconds(clock.start))
    joules = np.cumsum(np.where(alive, watts, 0.0) * gaps) + 1e6 * (1 + replica)
    kept = alive | last_words
    known = alive[kept]
    total = run.profile.gpu_memory_bytes
    count = int(kept.sum())

    def fixed(value: str) -> pa.Array:
        return tables.texts([value], np.zeros(count, np.int64))

    def measured(values: Floats, places: int = 4) -> pa.Array:
        return tables.maybe(np.round(values[kept], places), known, pa.float64())

    return pa.table(
        {
            "gpu_uuid": fixed(uuid), "sampled_at": tables.stamps(clock.origin, tables.microseconds(times[kept])),
            "gpu_index": pa.array(np.full(count, gpu, np.int32)), "gpu_type": fixed(run.gpu[0]),
            "host": fixed(f"{run.model.cluster}-{run.model.deployment}-{replica}"),
            "replica": fixed(tables.replica_names(run.model)[replica]), "cluster": fixed(run.model.cluster),
            "power_watts": measured(watts, 1), "energy_joules": measured(joules, 1),
            "utilization_ratio": measured(busy),
            "sm_active_ratio": measured(activity["sm"]), "tensor_active_ratio": measured(activity["tensor"]),
            "dram_active_ratio": measured(activity["dram"]),
            "memory_used_bytes": tables.maybe(np.full(count, int(total * MEMORY_USED_RATIO)), known, pa.int64()),
            "memory_total_bytes": pa.array(np.full(count, total)), "temperature_celsius": measured(celsius, 1),
            "sm_clock_hertz": measured(hertz, 0), "clock_event_reasons": _reasons(reasons[kept], known),
            "xid": tables.maybe(xid[kept], xid[kept] > 0, pa.int32()),
        },
        schema=GPU_SCHEMA,
    )  # fmt: skip


def _reasons(codes: Ints, known: Bools) -> pa.Array:
    """A column of lists of texts."""
    choices = pa.array(REASONS, pa.list_(pa.string()))
    return choices.take(pa.array(codes, mask=~known))


def _throttled(config: FleetConfig, run: Run, clock: Clock) -> list[tuple[Span, int, float]]:
    factors = [
        i.step_factor for i in config.incidents if isinstance(i, GpuFault) and i.deployment == run.model.deployment
    ]
    spans = incidents.slow_spans(config, run.model, clock)
    return [(span, which, factor) for (span, which), factor in zip(spans, factors, strict=True)]


def _faults(
    config: FleetConfig, run: Run, clock: Clock, replica: int, gpu: int, times: Floats
) -> tuple[Bools, Any, Bools]:
    """Which samples there are, the XID of each (0 for none), and which are a last word of XID alone."""
    alive, last_words = np.ones(times.size, np.bool_), np.zeros(times.size, np.bool_)
    xid = np.zeros(times.size, np.int32)
    for i in config.incidents:
        if isinstance(i, GpuFault) and (i.deployment, i.replica_index, i.gpu_index) == (
            run.model.deployment,
            replica,
            gpu,
        ):
            start = incidents.begin(i, clock)
            dead = start + i.slow_minutes * 60
            boots = dead + i.down_hours * 3600
            alive &= (times < dead) | (times >= boots)
            for moment, code in ((start, i.warning_xid), (dead, i.fatal_xid)):
                k = int(np.searchsorted(times, moment, side="right"))
                if k < times.size and times[max(k - 1, 0)] <= max(moment, times[0]):
                    xid[k] = code
                    last_words[k] = code == i.fatal_xid
    return alive, xid, last_words & ~alive


def engine_metrics(config: FleetConfig, runs: list[Run], clock: Clock) -> tuple[pa.Table, pa.Table]:
    """Rows of `metric_series` and `metric_points`. Of a dead engine only `up` = 0; counters restart at 0."""
    bins = sample_bins(config, clock)
    width = config.telemetry.interval_seconds
    known = {metric.name: metric for metric in METRICS}
    series, points = [], []
    for run in runs:
        for replica, name in enumerate(tables.replica_names(run.model)):
            labels = {"engine": "0", "model_name": run.model.model, "replica": name}
            for metric, values, seen in engine_values(config, run, clock, replica, bins):
                number = series_id(metric, labels)
                series.append({
                    "series_id": number, "name": metric, "kind": known[metric].kind, "unit": known[metric].unit,
                    "labels": sorted(labels.items()), "model": run.model.model, "replica": name,
                    "original_name": metric,
                })  # fmt: skip
                times = tables.stamps(clock.origin, (bins[seen] + 1) * (width * 1_000_000))
                numbers = pa.array(np.full(int(seen.sum()), number))
                points.append(pa.table([numbers, times, pa.array(values[seen])], schema=POINTS_SCHEMA))
    return pa.Table.from_pylist(series, schema=SERIES_SCHEMA), pa.concat_tables(points)


def engine_values(
    config: FleetConfig, run: Run, clock: Clock, replica: int, bins: Ints
) -> list[tuple[str, Floats, Bools]]:
    """Each metric of one engine: canonical name, value at each sample, and whether it was seen."""
    tel = run.telemetry
    times = (bins + 1) * float(config.telemetry.interval_seconds)
    dead, cold = incidents.outages(config, run.model, clock)
    up, restarts = np.ones(times.size, np.bool_), []
    for down, boot in zip(dead, cold, strict=True):
        if down.replica == replica and boot.end > 0:
            up &= (times < down.start) | (times >= boot.end)
            restarts.append(boot.end)
    gauges = {
        "infer.engine.requests_running": tel.running[replica][bins].astype(np.float64),
        "infer.engine.requests_waiting": tel.waiting[replica][bins].astype(np.float64),
        "infer.engine.kv_cache_usage_ratio": np.round(
            np.minimum(tel.blocks[replica][bins] / run.limits["blocks"][0], 1.0), 6
        ),
    }
    counters = {
        "infer.engine.input_tokens": tel.input_tokens, "infer.engine.cached_tokens": tel.cached_tokens,
        "infer.engine.output_tokens": tel.output_tokens, "infer.engine.prefix_cache_queries": tel.queried_tokens,
        "infer.engine.prefix_cache_hits": tel.cached_tokens, "infer.engine.preemptions": tel.preemptions,
        "infer.engine.requests_finished": tel.finished,
    }  # fmt: skip
    for name, field in counters.items():
        total = np.cumsum(field[replica])
        value = np.floor(total[bins] + 1e-6)
        for moment in restarts:
            k = max(int(moment // config.telemetry.interval_seconds), 0)
            lost = np.floor(total[min(k, total.size - 1)] + 1e-6)
            value = np.where(times >= moment, np.maximum(value - lost, 0.0), value)
        gauges[name] = value
    everywhere = np.ones(times.size, np.bool_)
    return [("up", up.astype(np.float64), everywhere), *[(name, value, up) for name, value in gauges.items()]]
