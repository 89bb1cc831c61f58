"""Rows of `gpu_samples` from the points that describe one GPU: `hw.*` and `infer.gpu.*` with the GPU's id. Pure.

An XID among them is an event too, in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.decoded import RowBuilder
from engine_exporter import semconv
from engine_exporter.xids import describe_xid

COLUMNS = {metric.name: metric.column for metric in semconv.GPU_METRICS}
WHOLE_NUMBERS = frozenset({"memory_used_bytes", "memory_total_bytes", "xid"})
LABELS = {
    "gpu_type": semconv.GPU_NAME,
    "host": semconv.HOST,
    "replica": semconv.REPLICA,
    "cluster": semconv.CLUSTER,
}
EMPTY = dict.fromkeys(COLUMNS.values())


@dataclass(slots=True)
class GpuRows:
    """Collects the points of one body into one row per GPU and time."""

    _rows: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def take(self, name: str, labels: Mapping[str, str], observed_us: int, value: float) -> bool:
        """Take a point if it is about a GPU.

        Args:
            name: name of the metric, as received.
            labels: attributes of point and resource.
            observed_us: microseconds since 1970, UTC.
            value: in the unit of `semconv.GPU_METRICS`; not finite says that there is none.

        Returns:
            Whether it was taken: otherwise it is a point like any other.
        """
        column, gpu_uuid = COLUMNS.get(name), labels.get(semconv.GPU_ID)
        if column is None or not gpu_uuid:
            return False
        row = self._rows.setdefault((gpu_uuid, observed_us), new_row(gpu_uuid, labels, observed_us))
        if not math.isfinite(value):
            return True
        if column == "clock_event_reasons":
            row[column] = clock_event_reasons(int(value))
        else:
            row[column] = int(value) if column in WHOLE_NUMBERS else value
        return True

    def build(self) -> RowBuilder:
        """Return the rows."""
        builder = RowBuilder("gpu_samples")
        for row in self._rows.values():
            builder.add(row)
        return builder

    def events(self) -> RowBuilder:
        """Return an event for every XID, with an id that a retry repeats."""
        builder = RowBuilder("events")
        for row in self._rows.values():
            if row["xid"] is not None:
                builder.add(xid_event(row))
        return builder


def xid_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the XID of a row of `gpu_samples` as an event."""
    xid = describe_xid(row["xid"])
    named = {
        "xid": str(xid.code),
        "mnemonic": xid.mnemonic,
        "action": xid.action,
        "severity": xid.severity,
        "gpu_type": row["gpu_type"],
        "host": row["host"],
        "cluster": row["cluster"],
    }
    return {
        "event_id": f"xid-{row['gpu_uuid']}-{row['sampled_at']}-{xid.code}",
        "occurred_at": row["sampled_at"],
        "kind": "xid",
        "replica": row["replica"],
        "gpu_uuid": row["gpu_uuid"],
        "title": xid.title,
        "attributes": sorted((key, value) for key, value in named.items() if value),
    }


def new_row(gpu_uuid: str, labels: Mapping[str, str], observed_us: int) -> dict[str, Any]:
    """Return the row of one GPU at one time, with nothing measured yet."""
    index = labels.get(semconv.GPU_INDEX, "")
    return {
        "gpu_uuid": gpu_uuid,
        "sampled_at": observed_us,
        "gpu_index": int(index) if index.isdecimal() else None,
        **{column: labels.get(label) for column, label in LABELS.items()},
        **EMPTY,
    }


def clock_event_reasons(mask: int) -> list[str]:
    """Name the bits of NVML's mask; a bit without a name is told as its number."""
    names = [name for bit, name in semconv.CLOCK_EVENT_REASONS.items() if mask & bit]
    unnamed = mask & ~sum(semconv.CLOCK_EVENT_REASONS)
    return [*names, hex(unnamed)] if unnamed else names
