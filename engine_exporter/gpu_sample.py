"""One GPU at one time, from wherever it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class GpuSeries:
    """A value of a part of a GPU, with labels that say which part."""

    name: str
    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU now. A value that the GPU does not give is left out."""

    uuid: str
    index: int
    """Its number on the host; -1 where it is not known."""
    name: str | None
    values: dict[str, float] = field(default_factory=dict)
    """Canonical metric name -> value, in the unit of `semconv.GPU_METRICS` and `semconv.GPU_SERIES`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Host and replica, where the source knows them."""
    series: tuple[GpuSeries, ...] = ()

    def with_value(self, name: str, value: float) -> GpuSample:
        """Return a copy with one more value."""
        return replace(self, values={**self.values, name: value})
