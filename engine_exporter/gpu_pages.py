"""dcgm-exporter's and AMD's pages as one sample a GPU. Pure.

A page tells the whole GPU's power and energy again for every MIG instance and every pod: here they count once, by
UUID. What is measured for each instance is added up by the instance's share of the GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from engine_exporter import semconv
from engine_exporter.gpu_sample import GpuSample, GpuSeries
from engine_exporter.normalise import Named

LAST_XID: Final = "infer.gpu.last_xid"
MEMORY_FREE: Final = "infer.gpu.memory_free"
MEMORY_RESERVED: Final = "infer.gpu.memory_reserved"
MEMORY_USAGE: Final = "hw.gpu.memory.usage"
MEMORY_LIMIT: Final = "hw.gpu.memory.limit"
ADDED_UP: Final = frozenset({MEMORY_USAGE, MEMORY_LIMIT, MEMORY_FREE, MEMORY_RESERVED})
RATIOS: Final = frozenset(
    one.name for one in (*semconv.GPU_METRICS, *semconv.GPU_SERIES) if one.unit == "1" and "active" in one.name
) | {"hw.gpu.utilization", "infer.gpu.sm_occupancy"}
OF_A_SLICE: Final = {
    "infer.gpu.graphics_active": "infer.gpu.mig_graphics_active",
    MEMORY_USAGE: "infer.gpu.mig_memory_usage",
}
COMPUTE_SLICES: Final = {"A30": 4}
"""Compute slices of a whole GPU, by a word of its name; 7 for all others."""
WATTS_MAX: Final = 10_000.0
"""No GPU draws as much: a value above is a blank that the tables do not know."""


@dataclass(slots=True)
class _Gpu:
    """What a page says of one GPU."""

    index: str = ""
    name: str | None = None
    host: str = ""
    pods: set[str] = field(default_factory=set)
    values: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, float]] = field(default_factory=dict)
    """(metric, labels of its own) -> MIG instance ("" for the whole GPU) -> value."""
    whole: set[str] = field(default_factory=set)
    """Metrics that are the whole GPU's, whatever instance they are told for."""
    profiles: dict[str, str] = field(default_factory=dict)
    """MIG instance -> profile, e.g. 1g.10gb."""


def samples_of(lines: Iterable[Named]) -> list[GpuSample]:
    """Make one sample of every GPU that the lines speak of, in the order of their ids."""
    gpus: dict[str, _Gpu] = {}
    for line in lines:
        labels = dict(line.labels)
        index, host = labels.pop(semconv.GPU_INDEX, ""), labels.pop(semconv.HOST, "")
        uuid = labels.pop(semconv.GPU_ID, "") or (f"{host}:{index}" if index else "")
        if not uuid or line.alias is None or not _is_plausible(line):
            continue
        gpu = gpus.setdefault(uuid, _Gpu())
        gpu.index, gpu.host = gpu.index or index, gpu.host or host
        gpu.name = gpu.name or labels.pop(semconv.GPU_NAME, None)
        labels.pop(semconv.GPU_NAME, None)
        if pod := labels.pop("pod", ""):
            gpu.pods.add(pod)
        instance, profile = labels.pop(semconv.MIG_ID, ""), labels.pop(semconv.MIG_PROFILE, "")
        if line.alias.primary and instance not in ("", "0"):
            continue
        if profile:
            gpu.profiles[instance] = profile
        if line.alias.per == "device":
            gpu.whole.add(line.name)
        own = tuple(sorted(line.alias.add))
        gpu.values.setdefault((line.name, own), {}).setdefault(instance, line.value)
    return [_sample(uuid, gpu) for uuid, gpu in sorted(gpus.items())]


def _is_plausible(line: Named) -> bool:
    return line.value >= 0 and not (line.name in ("hw.power", "infer.gpu.power_limit") and line.value > WATTS_MAX)


def _sample(uuid: str, gpu: _Gpu) -> GpuSample:
    values: dict[str, float] = {}
    series: list[GpuSeries] = []
    for (name, own), by_instance in gpu.values.items():
        value = _whole(name, gpu, by_instance)
        if value is None:
            continue
        if own:
            series.append(GpuSeries(name, value, dict(own)))
        else:
            values[name] = min(value, 1.0) if name in RATIOS else value
        if (of_slice := OF_A_SLICE.get(name)) is not None:
            series += [
                GpuSeries(of_slice, one, {semconv.MIG_ID: instance, semconv.MIG_PROFILE: gpu.profiles[instance]})
                for instance, one in by_instance.items()
                if instance in gpu.profiles
            ]
    free, reserved = values.pop(MEMORY_FREE, None), values.pop(MEMORY_RESERVED, 0.0)
    if MEMORY_LIMIT not in values and free is not None and MEMORY_USAGE in values:
        values[MEMORY_LIMIT] = values[MEMORY_USAGE] + free + reserved
    labels = {semconv.HOST: gpu.host, semconv.REPLICA: next(iter(gpu.pods)) if len(gpu.pods) == 1 else ""}
    index = int(gpu.index) if gpu.index.isdecimal() else -1
    return GpuSample(uuid, index, gpu.name, values, {key: one for key, one in labels.items() if one}, tuple(series))


def _whole(name: str, gpu: _Gpu, by_instance: Mapping[str, float]) -> float | None:
    """Return the whole GPU's value of a metric."""
    if "" in by_instance:
        return by_instance[""]
    if name in gpu.whole or (len(by_instance) == 1 and not gpu.profiles):
        return next(iter(by_instance.values()))
    if name in ADDED_UP:
        return sum(by_instance.values())
    if name not in RATIOS:
        return next(iter(by_instance.values()))
    slices = next((count for word, count in COMPUTE_SLICES.items() if word in (gpu.name or "")), 7)
    shares = {instance: _slices(gpu.profiles.get(instance, "")) for instance in by_instance}
    if not all(shares.values()):
        return None
    return sum(value * shares[instance] for instance, value in by_instance.items()) / slices


def _slices(profile: str) -> int:
    """Return the compute slices of a MIG profile: 3 of `3g.40gb`; 0 where it is none."""
    found = re.match(r"(\d+)g\.", profile)
    return int(found[1]) if found else 0


@dataclass(slots=True)
class LatchedXids:
    """Turns a gauge that shows the last XID for ever into events: an XID is news when the value changes.

    Two equal XIDs in a row can't be told from one, and what stood there before the first look is old.
    """

    seen: dict[str, int] = field(default_factory=dict)
    """GPU -> the last value."""

    def take(self, sample: GpuSample) -> GpuSample:
        """Return the sample with `infer.gpu.xid` where there is a new one."""
        if LAST_XID not in sample.values:
            return sample
        code = int(sample.values[LAST_XID])
        before = self.seen.get(sample.uuid)
        self.seen[sample.uuid] = code
        if before is None or code in (0, before):
            return sample
        return sample.with_value("infer.gpu.xid", float(code))
