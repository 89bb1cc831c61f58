"""An engine's page under canonical names, units and labels. Pure; what a name means is `alias_tables.py`'s.

Both doors use it: the sidecar, which pushes, and the collector, which scrapes. It works line by line of the
Prometheus text, so that a histogram's lines stay lines; whoever calls puts them together as before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from engine_exporter import alias_tables, semconv
from engine_exporter.alias_tables import Alias, Derived, Found, Table, Version

KINDS: Final = {one.name: one.kind for one in (*semconv.METRICS, *semconv.GPU_METRICS, *semconv.GPU_SERIES)}
HISTOGRAM_SUFFIXES: Final = ("_bucket", "_sum", "_count")
QUALITY: Final = "quality"
SUSPECT: Final = "suspect"
OWNER_LABELS: Final = ("engine", "model_name")
"""What is left of an info metric's labels on a value that is read from them."""


class Line(NamedTuple):
    """One sample of a page."""

    name: str
    labels: Mapping[str, str]
    value: float
    time_ms: int | None = None
    """Its own time, milliseconds since 1970, where it has one."""


class Named(NamedTuple):
    """One sample under its canonical name, or under its own where it has no other."""

    name: str
    """A histogram's line: the family's name."""
    suffix: str
    """`_bucket`, `_sum` or `_count` of a histogram, else empty."""
    labels: dict[str, str]
    value: float
    time_ms: int | None
    served: str
    """The name on the page; a histogram's family."""
    alias: Alias | None
    """None where the name is not known."""


@dataclass(slots=True)
class Page:
    """A page, read."""

    lines: list[Named] = field(default_factory=list)
    gpu_lines: list[Named] = field(default_factory=list)
    """What is about GPUs; `gpu_pages.py` makes samples of it."""
    tables: set[str] = field(default_factory=set)
    """The engines, gateways and exporters whose names are on it."""
    spellings: dict[str, int] = field(default_factory=dict)
    """Served name -> place of its prefix in the table: the first is today's."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing on it was known."""
        return not self.tables


def normalise(
    lines: Iterable[Line], types: Mapping[str, str], *, version: Version = (), keep_unknown: bool = True
) -> Page:
    """Read a page.

    Args:
        lines: its samples.
        types: family -> counter, gauge, histogram …, as the page declares them.
        version: the engine's version, where it is known: what it is known to count wrongly gets `quality="suspect"`.
        keep_unknown: pass what has no canonical name under its own; False drops it.
    """
    served = list(lines)
    index = alias_tables.index_for({line.name for line in served} | {base_of(line.name)[0] for line in served})
    page = Page()
    numbers: dict[str, dict[str, dict[tuple[tuple[str, str], ...], Line]]] = {}
    for line in served:
        known = _place(page, line, index, version, numbers)
        if not known and keep_unknown:
            _pass_on(page, line, types)
    page.lines = _best_named(page.lines, page.spellings)
    for engine, values in numbers.items():
        _derive(page, alias_tables.table_of(engine), values)
    return page


def base_of(name: str) -> tuple[str, str]:
    """Cut a histogram's suffix off a name."""
    for suffix in HISTOGRAM_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def _place(
    page: Page,
    line: Line,
    index: Mapping[str, Found],
    version: Version,
    numbers: dict[str, dict[str, dict[tuple[tuple[str, str], ...], Line]]],
) -> bool:
    """Put a line where its names belong: as a number, as a histogram's line, or both."""
    number = index.get(line.name) or index.get(f"{line.name}_total")
    family, suffix = base_of(line.name)
    histogram = index.get(family) if suffix else None
    if histogram is not None and histogram.alias is not None and KINDS.get(histogram.alias.to) == "counter":
        histogram = None
    if number is not None and number.alias is not None and KINDS.get(number.alias.to) == "histogram":
        number = None
    for found, ending in ((number, ""), (histogram, suffix)):
        if found is None:
            continue
        page.tables.add(found.table.engine)
        if found.alias is None or not _is_rank_zero(found.table, line.labels):
            continue
        if not ending and (line.value in found.table.blanks or not math.isfinite(line.value)):
            continue
        _add(page, found, line, ending, version)
        if not ending:
            values = numbers.setdefault(found.table.engine, {}).setdefault(found.name, {})
            labels = _labels(found.table, line.labels, frozenset())
            values[tuple(sorted(labels.items()))] = line._replace(labels=labels)
    return number is not None or histogram is not None


def _add(page: Page, found: Found, line: Line, suffix: str, version: Version) -> None:
    alias = found.alias
    if alias is None or any(line.labels.get(key) != value for key, value in alias.where):
        return
    labels = _labels(found.table, line.labels, alias.drop)
    labels.update(alias.add)
    if _is_suspect(found, version):
        labels[QUALITY] = SUSPECT
    value = line.value
    if suffix == "_bucket" and alias.scale != 1.0 and "le" in labels:
        labels["le"] = scaled_bound(labels["le"], alias.scale)
    elif suffix in ("", "_sum"):
        value *= alias.scale
    served = line.name.removesuffix(suffix) if suffix else line.name
    named = Named(alias.to or served, suffix, labels, value, line.time_ms, served, alias)
    prefix = served.removesuffix("_total").removesuffix(alias.name.removesuffix("_total"))
    page.spellings[served] = found.table.prefixes.index(prefix) if prefix in found.table.prefixes else 0
    (page.gpu_lines if found.table.gpu and alias.to else page.lines).append(named)


def scaled_bound(text: str, scale: float) -> str:
    """Scale a bucket's bound; one that is no number stays, for whoever reads the histogram to refuse."""
    try:
        return repr(float(text) * scale)
    except ValueError:
        return text


def _labels(table: Table, served: Mapping[str, str], drop: frozenset[str]) -> dict[str, str]:
    """Map and drop labels; one that is there under our name already wins."""
    labels: dict[str, str] = {}
    for key, value in served.items():
        if key in drop or key in table.drop or key in table.rank_zero:
            continue
        ours = table.labels.get(key, key)
        if ours == key or not labels.get(ours):
            labels[ours] = value
    return labels


def _is_rank_zero(table: Table, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name, "0") in ("", "0") for name in table.rank_zero)


def _is_suspect(found: Found, version: Version) -> bool:
    suspect = found.table.suspects.get(found.name)
    return bool(version and suspect and suspect.until and version <= alias_tables.parse_version(suspect.until))


def _pass_on(page: Page, line: Line, types: Mapping[str, str]) -> None:
    """Keep a line under its own name, or under ours where it is our own metric."""
    if (own := semconv.EXPORTER_METRICS.get(line.name)) is not None:
        page.lines.append(Named(own, "", dict(line.labels), line.value, line.time_ms, line.name, None))
        return
    family, suffix = base_of(line.name)
    if suffix and types.get(family) in ("histogram", "gaugehistogram"):
        own = semconv.EXPORTER_METRICS.get(family, family)
        page.lines.append(Named(own, suffix, dict(line.labels), line.value, line.time_ms, family, None))
    elif not is_birthday(line.name, types):
        page.lines.append(Named(line.name, "", dict(line.labels), line.value, line.time_ms, line.name, None))


def is_birthday(name: str, types: Mapping[str, str]) -> bool:
    """Tell whether a sample is the start time that client libraries add to counters and histograms: no telemetry."""
    stem = name.removesuffix("_created")
    return stem != name and (stem in types or f"{stem}_total" in types)


def kind_of(name: str, types: Mapping[str, str]) -> str:
    """Return counter or gauge for a name of the page's own."""
    family = name.removesuffix("_total")
    if types.get(name) == "counter" or types.get(family) == "counter":
        return "counter"
    stem = name.removesuffix("_sum").removesuffix("_count")
    return "counter" if stem != name and types.get(stem) == "summary" else "gauge"


def _best_named(lines: list[Named], spellings: Mapping[str, int]) -> list[Named]:
    """Of several served names for one thing, keep the lines of the first in the table, in today's spelling."""
    best: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[int, int, str]] = {}
    places: list[tuple[int, int, str] | None] = []
    for line in lines:
        if line.alias is None or not line.alias.to:
            places.append(None)
            continue
        place = (line.alias.rank, spellings[line.served], line.served)
        slot = (line.name, line.alias.add)
        best[slot] = min(place, best.get(slot, place))
        places.append(place)
    return [
        line
        for line, place in zip(lines, places, strict=True)
        if place is None or line.alias is None or best[line.name, line.alias.add] == place
    ]


def _derive(page: Page, table: Table, values: Mapping[str, Mapping[tuple[tuple[str, str], ...], Line]]) -> None:
    """Add what the table says is a sum, a product or an info metric's label."""
    there = {line.name for line in page.lines}
    for derived in table.derived:
        if derived.to in there:
            continue
        made = _from_labels(derived, values) if derived.of else _from_values(derived, values)
        for line in made:
            page.lines.append(Named(derived.to, "", dict(line.labels), line.value, line.time_ms, line.name, None))


def _from_labels(derived: Derived, values: Mapping[str, Mapping[tuple[tuple[str, str], ...], Line]]) -> Iterable[Line]:
    for line in values.get(derived.of or "", {}).values():
        try:
            value = math.prod(float(line.labels[label]) for label in derived.labels)
        except (KeyError, ValueError):
            continue
        own = {key: line.labels[key] for key in OWNER_LABELS if key in line.labels}
        yield Line(line.name, own, value, line.time_ms)


def _from_values(derived: Derived, values: Mapping[str, Mapping[tuple[tuple[str, str], ...], Line]]) -> Iterable[Line]:
    first, *others = derived.sum or derived.product
    for key, line in values.get(first, {}).items():
        parts = [line.value]
        for name in others:
            other = values.get(name, {}).get(key)
            if other is not None:
                parts.append(other.value)
            elif not derived.missing_as_zero:
                break
        else:
            factor = 1.0
            if derived.times is not None:
                by = values.get(derived.times, {}).get(key)
                if by is None:
                    continue
                factor = by.value
            total = sum(parts) if derived.sum else math.prod(parts)
            yield Line(line.name, line.labels, total * factor, line.time_ms)
