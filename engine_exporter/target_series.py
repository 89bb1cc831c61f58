"""What one target served last time: since when its counters count, what it no longer serves, and its hit ratio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine_exporter.otlp_metrics import SeriesKey

SERIES_LIMIT = 50_000
"""Series of one target whose past is kept; of more, resets and ends are not told."""
INPUT, CACHED = "infer.engine.input_tokens", "infer.engine.cached_tokens"
QUERIES, HITS = "infer.engine.prefix_cache_queries", "infer.engine.prefix_cache_hits"
OWNER_LABELS = ("engine", "model_name", "instance")


@dataclass(slots=True)
class TargetSeries:
    """The past of one target's series."""

    _starts: dict[SeriesKey, tuple[int, float]] = field(default_factory=dict)
    """Counter -> (start of its present run, last value)."""
    _served: dict[SeriesKey, str] = field(default_factory=dict)
    _read_at_unix_ns: int = 0
    resets_count: int = 0

    def start_of(self, key: SeriesKey, value: float, at_unix_ns: int) -> int:
        """Return since when a counter counts: first seen, or the read before the one at which it had fallen."""
        known = self._starts.get(key)
        if known is None:
            start = at_unix_ns
            if len(self._starts) >= SERIES_LIMIT:
                return start
        elif value < known[1]:
            start = self._read_at_unix_ns or at_unix_ns
            self.resets_count += 1
        else:
            start = known[0]
        self._starts[key] = (start, value)
        return start

    def ended(self, served: Mapping[SeriesKey, str], at_unix_ns: int) -> dict[SeriesKey, str]:
        """Take what a target serves now.

        Returns:
            What it served before and does not now, with kinds.
        """
        gone = {key: kind for key, kind in self._served.items() if key not in served}
        for key in gone:
            self._starts.pop(key, None)
        self._served = dict(served) if len(served) <= SERIES_LIMIT else {}
        self._read_at_unix_ns = at_unix_ns
        return gone


@dataclass(slots=True)
class HitRatio:
    """The share of input tokens that came from the prefix cache, of what was counted between two reads.

    Never from totals since the start, and not where a counter has fallen. Cached tokens over input tokens where the
    engine counts both, else hits over look-ups: vLLM below 0.28 counts look-ups several times.
    """

    _before: dict[tuple[tuple[str, str], ...], dict[str, float]] = field(default_factory=dict)

    def take(self, counters: Iterable[tuple[str, Mapping[str, str], float]]) -> list[tuple[dict[str, str], float]]:
        """Take one read's counters.

        Args:
            counters: (canonical name, labels, value); others than the four are passed over.

        Returns:
            Labels and ratio for every engine that looked anything up since the last read.
        """
        now: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        for name, labels, value in counters:
            if name in (INPUT, CACHED, QUERIES, HITS):
                owner = tuple((key, labels[key]) for key in OWNER_LABELS if key in labels)
                sums = now.setdefault(owner, {})
                sums[name] = sums.get(name, 0.0) + value
        ratios = []
        for owner, sums in now.items():
            ratio = _ratio(sums, self._before.get(owner, {}))
            if ratio is not None:
                ratios.append((dict(owner), ratio))
        self._before = now
        return ratios

    def forget(self) -> None:
        """Forget the last read: the target was down."""
        self._before = {}


def _ratio(now: Mapping[str, float], before: Mapping[str, float]) -> float | None:
    for whole, part in ((INPUT, CACHED), (QUERIES, HITS)):
        if whole in now and part in now:
            if whole not in before or part not in before:
                return None
            asked, found = now[whole] - before[whole], now[part] - before[part]
            return found / asked if asked > 0 and 0 <= found <= asked else None
    return None
