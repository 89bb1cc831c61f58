"""What is known of a live server's metrics: known, renamed, missing for its version, suspect. Pure.

A finding is what somebody should do something about: a name that this version should have and does not serve, or a
value that can't be right. A note is worth knowing, but no fault of this server.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine_exporter import alias_tables, normalise
from engine_exporter.alias_tables import Alias, Found, Table, Version
from engine_exporter.normalise import KINDS, Line, Named

RATIO_SLACK: Final = 1e-9
RUNNING: Final = "infer.engine.requests_running"
PROGRESS: Final = frozenset(
    {
        "infer.engine.input_tokens",
        "infer.engine.output_tokens",
        "infer.engine.requests_finished",
        "infer.engine.preemptions",
    }
)
"""Counters of which one at least moves in an engine that runs requests."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One served name that may mislead, and why."""

    name: str
    why: str
    source: str = ""
    is_finding: bool = True
    """False: a note."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The names of one server."""

    engines: tuple[str, ...]
    """What it serves: engines, gateways, caches and GPU exporters."""
    version: str | None
    """As the server tells it; None where it does not."""
    at_least: str | None
    """The newest version of which it has a name, where it does not tell its own."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Name as served -> canonical name."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Old name as served -> the engine's name today: still read."""
    kept: tuple[str, ...] = ()
    """Known, stored under their own name."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Served and not read -> why."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Name that this version has -> canonical name, of what fleetmeter reads and this server has under no name."""
    suspect: tuple[Doubt, ...] = ()
    unknown: tuple[str, ...] = ()
    """With an engine's prefix, but never heard of."""

    @property
    def has_findings(self) -> bool:
        """Whether somebody should do something."""
        return bool(self.missing) or any(doubt.is_finding for doubt in self.suspect)


def examine(
    lines: Sequence[Line], types: Mapping[str, str], *, version: str | None = None, later: Sequence[Line] = ()
) -> Catalog:
    """Look at a page.

    Args:
        lines: its samples.
        types: the kinds that it declares by family.
        version: the server's own word; None: inferred from its names.
        later: the same page some seconds later, to see whether it moves; empty: not looked at.
    """
    names = {name_of(line.name, types) for line in lines}
    names = {name for name in names if not normalise.is_birthday(name, types)}
    index = alias_tables.index_for(names)
    found = {name: one for name in names if (one := index.get(name)) is not None}
    tables = {one.table.engine: one.table for one in found.values()}
    at_least = None if version else newest(found.values())
    reckoned = alias_tables.parse_version(version or at_least or "")
    page = normalise.normalise(lines, types)
    covered = {line.name for line in (*page.lines, *page.gpu_lines)} | declared(types, index)
    read = {name: one.alias for name, one in found.items() if one.alias is not None and one.alias.to}
    return Catalog(
        engines=tuple(sorted(tables)),
        version=version,
        at_least=at_least,
        known={name: alias.to for name, alias in sorted(read.items()) if alias.now is None},
        renamed={name: todays_name(name, alias) for name, alias in sorted(read.items()) if alias.now is not None},
        kept=tuple(sorted(name for name, one in found.items() if one.alias is not None and not one.alias.to)),
        ignored={name: one.table.ignored[one.name] for name, one in sorted(found.items()) if one.alias is None},
        missing=missing_of(tables.values(), covered, reckoned),
        suspect=(
            *known_doubts(found, reckoned),
            *doubtful_values((*page.lines, *page.gpu_lines), lines, names),
            *frozen(page.lines, later, types),
        ),
        unknown=tuple(sorted(name for name in names - found.keys() if alias_tables.prefix_of(name) in tables.values())),
    )


def declared(types: Mapping[str, str], index: Mapping[str, Found]) -> set[str]:
    """Name what a page declares: a series with labels has no line before something happened."""
    families = [index.get(family) or index.get(f"{family}_total") for family in types]
    return {found.alias.to for found in families if found is not None and found.alias is not None}


def name_of(name: str, types: Mapping[str, str]) -> str:
    """Return a histogram line's family, else the name."""
    family, suffix = normalise.base_of(name)
    return family if suffix and types.get(family) in ("histogram", "summary") else name


def todays_name(name: str, alias: Alias) -> str:
    """Return what the engine calls it today, with the same prefix."""
    return name.removesuffix(alias.name) + (alias.now or alias.name)


def newest(found: Iterable[Found]) -> str | None:
    """Return the newest version that is known to have brought one of these names."""
    versions = [one.alias.since for one in found if one.alias is not None and one.alias.since is not None]
    return max(versions, key=alias_tables.parse_version, default=None)


def missing_of(tables: Iterable[Table], covered: set[str], version: Version) -> dict[str, str]:
    """Find what a version has, always, and this server does not serve under any name.

    Of a server whose version is not known, only what every version has can be missing.
    """
    missing: dict[str, str] = {}
    for table in tables:
        if table.gpu:  # which fields are served is the choice of whoever runs the exporter
            continue
        for alias in table.metrics.values():
            if alias.when is not None or alias.now is not None or alias.to in covered:
                continue
            expected = alias.served_by(version) if version else alias.since is None and alias.until is None
            if expected:
                missing[table.prefixes[0] + alias.name] = alias.to
    return missing


def known_doubts(found: Mapping[str, Found], version: Version) -> list[Doubt]:
    """Find served names of which the tables say that they mislead in this version."""
    doubts = []
    for name, one in sorted(found.items()):
        doubt = one.table.suspects.get(one.name)
        if doubt is None:
            continue
        if doubt.until is not None and not (version and version <= alias_tables.parse_version(doubt.until)):
            continue
        doubts.append(Doubt(name, doubt.why, doubt.source, is_finding=not doubt.note))
    return doubts


def doubtful_values(named: Iterable[Named], lines: Iterable[Line], names: set[str]) -> list[Doubt]:
    """Find values that can't be right: ratios beyond 1, NaN, counts below 0, buckets that fall."""
    reasons: dict[str, str] = {}
    for line in named:
        if line.alias is None or line.suffix:
            continue
        if is_ratio(line.name) and not -RATIO_SLACK <= line.value <= 1 + RATIO_SLACK:
            reasons[line.served] = f"it is a share from 0 to 1 and says {line.value:g}: is it a percentage?"
        elif KINDS.get(line.name) == "counter" and line.value < 0:
            reasons[line.served] = f"it is a counter and says {line.value:g}"
    for one in lines:
        family, suffix = normalise.base_of(one.name)
        if not math.isfinite(one.value) and family in names and suffix:
            reasons[family] = f"a histogram with {one.value:g} in it"
    reasons.update(falling_buckets(named))
    return [Doubt(name, why) for name, why in sorted(reasons.items())]


def is_ratio(name: str) -> bool:
    """Tell whether a canonical name is that of a share."""
    return name.endswith(("_ratio", "_active", "_occupancy")) or name == "hw.gpu.utilization"


def falling_buckets(named: Iterable[Named]) -> dict[str, str]:
    """Find histograms of which a bucket holds less than a smaller one."""
    series: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, float]]] = {}
    for line in named:
        if line.suffix == "_bucket" and line.alias is not None and "le" in line.labels:
            own = tuple(sorted((key, value) for key, value in line.labels.items() if key != "le"))
            series.setdefault((line.served, own), []).append((bound_of(line.labels["le"]), line.value))
    reasons = {}
    for (served, _), buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        if any(low > high for low, high in itertools.pairwise(counts)):
            reasons[served] = "a bucket holds fewer observations than a smaller one"
    return reasons


def bound_of(text: str) -> float:
    """Read a bucket's bound; what is no number stands at the end."""
    try:
        return float(text)
    except ValueError:
        return math.inf


def frozen(named: Sequence[Named], later: Sequence[Line], types: Mapping[str, str]) -> list[Doubt]:
    """Find an engine that says it runs requests while nothing that counts them moves."""
    if not later:
        return []
    after = normalise.normalise(later, types).lines
    running, then = ([line for line in lines if line.name == RUNNING and line.value > 0] for lines in (named, after))
    if not running or not then or _progress(named) != _progress(after):
        return []
    why = "it says that requests run, and no counter moved between two reads: is the engine dead or stuck?"
    return [Doubt(running[0].served, why)]


def runs_requests(lines: Iterable[Line], types: Mapping[str, str]) -> bool:
    """Tell whether a page says that requests run, so that a second look is worth its time."""
    return any(line.name == RUNNING and line.value > 0 for line in normalise.normalise(lines, types).lines)


def _progress(named: Iterable[Named]) -> list[tuple[str, float]]:
    counted = [(line.served + str(sorted(line.labels.items())), line.value) for line in named if line.name in PROGRESS]
    steps = [
        (line.served + str(sorted(line.labels.items())), line.value)
        for line in named
        if line.suffix == "_count" and line.alias is not None
    ]
    return sorted(counted + steps)
