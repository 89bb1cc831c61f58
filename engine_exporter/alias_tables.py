"""The tables of every engine's metric names, read from `data/`: what a served name means here, and in which versions.

The tables are data: `data/engines/*.yaml` and `data/gpus/*.yaml`, each with its sources. What is done to a page with
them is `normalise.py`; this module reads them and looks names up. Imports nothing but the standard library and yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).resolve().parent / "data"
BARE_NAMES_MIN = 3
"""So many names without a prefix must fit before a page is taken for that of an engine that has none."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Alias:
    """What one served name means."""

    name: str
    """The served name behind its prefix, e.g. `num_requests_running`; of a histogram, the family's."""
    to: str
    """The canonical name; empty for one that is kept under its own."""
    rank: int
    """Place in the file: of several served names for one canonical name, the lowest is read."""
    scale: float = 1.0
    """A served value times this is in the canonical unit."""
    add: tuple[tuple[str, str], ...] = ()
    """Labels that are laid on."""
    where: tuple[tuple[str, str], ...] = ()
    """Only series with these labels are meant."""
    drop: frozenset[str] = frozenset()
    """Labels that are left out."""
    since: str | None = None
    """First version that is known to have it."""
    until: str | None = None
    """Last version that is known to have it."""
    now: str | None = None
    """The name that replaced it."""
    when: str | None = None
    """What has to be switched on or to have happened before it is served; it is never missed then."""
    per: str = "device"
    """Of a GPU: `slice` where it is measured for each partition, else `device`."""
    primary: bool = False
    """Of a GPU: only the first partition has it; the others say 0."""

    def served_by(self, version: Version) -> bool:
        """Tell whether a version is known to have it."""
        return (self.since is None or parse_version(self.since) <= version) and (
            self.until is None or version <= parse_version(self.until)
        )


@dataclass(frozen=True, slots=True)
class Derived:
    """A canonical metric that is a sum or a product of served ones, or stands in an info metric's labels."""

    to: str
    sum: tuple[str, ...] = ()
    """Served names that are added up."""
    product: tuple[str, ...] = ()
    """Served names that are multiplied."""
    times: str | None = None
    """The sum is multiplied by this served name's value."""
    missing_as_zero: bool = False
    """The first of the sum is enough; the others count as 0 where they are not served."""
    of: str | None = None
    """The info metric whose labels are read."""
    labels: tuple[str, ...] = ()
    """Its labels, which are multiplied."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A served name that may mislead."""

    why: str
    source: str
    until: str | None = None
    """Up to this version; None: always."""
    note: bool = False
    """True: worth knowing, but no fault of this server."""


@dataclass(frozen=True, slots=True)
class Table:
    """One engine's names."""

    engine: str
    title: str
    prefixes: tuple[str, ...]
    """How its names begin; the first is today's."""
    metrics: Mapping[str, Alias]
    kept: Mapping[str, Alias] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Served name -> why it is not read."""
    derived: tuple[Derived, ...] = ()
    suspects: Mapping[str, Suspect] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Served label -> label here."""
    drop: frozenset[str] = frozenset()
    """Labels that no series needs."""
    rank_zero: tuple[str, ...] = ()
    """Labels of ranks that repeat each other: only series of rank 0 are read."""
    version_path: str | None = None
    """Where the server tells its version, as JSON."""
    version_key: str = "version"
    blanks: frozenset[float] = frozenset()
    """Values that say that there is none."""
    gpu: bool = False
    """Whether it is about GPUs."""

    def known(self) -> dict[str, Alias]:
        """Everything that has a name here, read or kept."""
        return {**self.kept, **self.metrics}


@dataclass(frozen=True, slots=True)
class Found:
    """A served name, looked up."""

    table: Table
    name: str
    """Behind its prefix."""
    alias: Alias | None
    """None where the table says to ignore it."""


def parse_version(text: str) -> Version:
    """Return the numbers a version begins with: `0.32.0rc1+cpu` is (0, 32, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@cache
def tables() -> tuple[Table, ...]:
    """Read every table; engines first."""
    engines = [_table(file, gpu=False) for file in sorted((DATA / "engines").glob("*.yaml"))]
    return (*engines, *(_table(file, gpu=True) for file in sorted((DATA / "gpus").glob("*.yaml"))))


def table_of(engine: str) -> Table:
    """Return an engine's table.

    Raises:
        KeyError: there is none.
    """
    by_name = {table.engine: table for table in tables()}
    if engine not in by_name:
        raise KeyError(f"no alias table of {engine!r}; there are {', '.join(sorted(by_name))}")
    return by_name[engine]


@cache
def index() -> dict[str, Found]:
    """Every served name with every prefix of its engine -> what is known of it."""
    found: dict[str, Found] = {}
    for table in tables():
        for prefix in table.prefixes:
            for name, alias in table.known().items():
                found[prefix + name] = Found(table, name, alias)
            for name in table.ignored:
                found[prefix + name] = Found(table, name, None)
    return found


@cache
def bare_index() -> dict[str, Found]:
    """Names of an engine whose early versions had no prefix: TensorRT-LLM 1.0 and 1.1."""
    table = table_of("tensorrt_llm")
    known = {name: Found(table, name, alias) for name, alias in table.known().items()}
    return {**known, **{name: Found(table, name, None) for name in table.ignored}}


@cache
def simple_names() -> dict[str, str]:
    """Served names that need nothing but another name -> the canonical one: for series that come one by one."""
    return {
        name: found.alias.to
        for name, found in index().items()
        if found.alias is not None
        and found.alias.to
        and not found.table.gpu
        and found.alias.scale == 1.0
        and not (found.alias.where or found.alias.add)
    }


def index_for(names: Iterable[str]) -> Mapping[str, Found]:
    """Choose the index that fits a page's names: the one with prefixes wherever it knows any."""
    served = set(names)
    if served & index().keys() or len(served & bare_index().keys()) < BARE_NAMES_MIN:
        return index()
    return bare_index()


def prefix_of(name: str) -> Table | None:
    """Return the table whose prefix a name has, known or not."""
    fitting = [table for table in tables() if any(name.startswith(prefix) for prefix in table.prefixes)]
    return fitting[0] if fitting else None


def _table(file: Path, *, gpu: bool) -> Table:
    raw: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    aliases = {name: _alias(name, rank, one) for rank, (name, one) in enumerate(raw["metrics"].items())}
    kept = {name: _alias(name, 0, one) for name, one in raw.get("kept", {}).items()}
    version = raw.get("version", {})
    starts = raw.get("blanks_from", ())
    return Table(
        engine=raw["engine"],
        title=raw["title"],
        prefixes=tuple(raw["prefixes"]),
        metrics=aliases,
        kept=kept,
        ignored=dict(raw.get("ignored", {})),
        derived=tuple(_derived(one) for one in raw.get("derived", ())),
        suspects={
            name: Suspect(one["why"], one["source"], _text(one.get("until")), bool(one.get("note")))
            for name, one in raw.get("suspects", {}).items()
        },
        labels=dict(raw.get("labels", {})),
        drop=frozenset(raw.get("drop", ())),
        rank_zero=tuple(raw.get("rank_zero", ())),
        version_path=version.get("path"),
        version_key=version.get("key", "version"),
        blanks=frozenset(float(start + step) for start in starts for step in range(8))
        | frozenset(float(one) for one in raw.get("blanks", ())),
        gpu=gpu,
    )


def _alias(name: str, rank: int, raw: Mapping[str, Any]) -> Alias:
    return Alias(
        name=name,
        to=raw.get("to", ""),
        rank=rank,
        scale=float(raw.get("scale", 1.0)),
        add=tuple(sorted((key, str(value)) for key, value in raw.get("add", {}).items())),
        where=tuple(sorted((key, str(value)) for key, value in raw.get("where", {}).items())),
        drop=frozenset(raw.get("drop", ())),
        since=_text(raw.get("since")),
        until=_text(raw.get("until")),
        now=raw.get("now"),
        when=_text(raw.get("when")),
        per=raw.get("per", "device"),
        primary=bool(raw.get("primary", False)),
    )


def _derived(raw: Mapping[str, Any]) -> Derived:
    return Derived(
        to=raw["to"],
        sum=tuple(raw.get("sum", ())),
        product=tuple(raw.get("product", ())),
        times=raw.get("times"),
        missing_as_zero=bool(raw.get("missing_as_zero", False)),
        of=raw.get("of"),
        labels=(raw["label"],) if "label" in raw else tuple(raw.get("label_product", ())),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
