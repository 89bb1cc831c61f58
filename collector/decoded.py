"""What a decoder returns: rows by table, and what could not become a row, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.table_contracts import table_contracts
from collector.walked_rows import WalkedRows, joined, plain

BYTES_PER_ROW = 2000
"""About what a row takes as Python objects."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One span or point that can't become a row."""

    reason: str
    """What is wrong with it, for the sender."""
    item: bytes
    """Its bytes, for the dead-letter folder."""


@dataclass(slots=True)
class RowBuilder:
    """Rows of one table as tuples. Making Arrow of them costs by column, so it is done once for many bodies."""

    table: str
    names: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row; every row names the same columns in the same order."""
        if not self.names:
            self.names = tuple(row)
        self.rows.append(tuple(row.values()))

    def build(self) -> pa.Table:
        """Return the rows with the table's own types."""
        schema = table_contracts()[self.table].schema
        fields = [schema.field(name) for name in self.names]
        arrays = [pa.array(values, one.type) for values, one in zip(zip(*self.rows, strict=True), fields, strict=True)]
        return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field(one.name, one.type) for one in fields]))


Ids = npt.NDArray[np.int64]
Unknown = Callable[[Ids], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class SeriesUsed:
    """The series of a body's points, described only where the tables do not know them."""

    ids: Ids
    """Their ids, once each."""
    describe: Callable[[Ids], Sequence[RowBuilder]]
    """Rows of the series at these places of `ids`."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One request body, decoded."""

    arrow: Mapping[str, pa.Table] = field(default_factory=dict)
    """Rows that are Arrow already, by table."""
    accepted_count: int = 0
    """How many spans or points became rows."""
    rejected: tuple[Rejected, ...] = ()
    """Those that did not."""
    builders: tuple[RowBuilder, ...] = ()
    """Rows that are not Arrow yet."""
    series: SeriesUsed | None = None
    """Series that points in `arrow` belong to, beside those in the rows."""
    written: Mapping[str, int] = field(default_factory=dict)
    """What was accepted by kind, where a protocol answers with that."""
    walked: tuple[WalkedRows, ...] = ()
    """Rows that the compiled walker left as numbers."""

    @property
    def rows_count(self) -> int:
        """Rows in all tables."""
        count = 0  # asked several times of every body, most of which have one part
        for one in self.walked:
            count += len(one.cells)
        for table in self.arrow.values():
            count += table.num_rows
        for builder in self.builders:
            count += len(builder.rows)
        return count

    @property
    def held_bytes(self) -> int:
        """About how much memory the rows take."""
        size = 0
        for one in self.walked:
            size += one.held_bytes
        for table in self.arrow.values():
            size += table.nbytes
        for builder in self.builders:
            size += BYTES_PER_ROW * len(builder.rows)
        return size

    @property
    def tables(self) -> dict[str, pa.Table]:
        """All rows by table as Arrow; tables without rows are left out."""
        return merged_tables([self])

    @property
    def message(self) -> str:
        """Say what was rejected and why, the reasons once each; empty where nothing was."""
        reasons = list(dict.fromkeys(item.reason for item in self.rejected))
        more = f" (and {len(reasons) - 3} more reasons)" if len(reasons) > 3 else ""
        return "; ".join(reasons[:3]) + more


def merged_entries(bodies: Sequence[Decoded], unknown: Unknown | None = None) -> list[tuple[str, pa.Table]]:
    """Put the rows of many bodies together as (table, rows); a table comes twice where some texts are encoded.

    Args:
        bodies: what was decoded.
        unknown: tells of each series id whether the tables lack it; None describes every series.
    """
    walked = [(one.table, one.build()) for one in joined(one for body in bodies for one in body.walked)]
    return [*merged_plain(bodies, unknown).items(), *walked]  # to ask what is unknown may have to wait for the database


def merged_tables(bodies: Sequence[Decoded], unknown: Unknown | None = None) -> dict[str, pa.Table]:
    """Put the rows of many bodies together, one Arrow table a table, with the table's own types."""
    parts: dict[str, list[pa.Table]] = {}
    for table, rows in merged_entries(bodies, unknown):
        parts.setdefault(table, []).append(plain(rows))
    return {table: pa.concat_tables(rows, promote_options="default") for table, rows in parts.items()}


def merged_plain(bodies: Sequence[Decoded], unknown: Unknown | None) -> dict[str, pa.Table]:
    """Put the rows that are Arrow, or Python's, together."""
    parts: dict[str, list[pa.Table]] = {}
    described = [builder for used in series_of(bodies) for builder in describe(used, unknown)]
    for body in bodies:
        for table, rows in body.arrow.items():
            parts.setdefault(table, []).append(rows)
    for builder in merged_builders([*(builder for body in bodies for builder in body.builders), *described]):
        parts.setdefault(builder.table, []).append(builder.build())
    return {table: pa.concat_tables(rows, promote_options="default") for table, rows in parts.items()}


def series_of(bodies: Sequence[Decoded]) -> list[SeriesUsed]:
    """Return the series of all bodies; those of one cache once each."""
    return [body.series for body in bodies if body.series is not None]


def describe(used: SeriesUsed, unknown: Unknown | None) -> Sequence[RowBuilder]:
    """Return the rows of those series that are unknown."""
    absent = np.ones(len(used.ids), np.bool_) if unknown is None else unknown(used.ids)
    return used.describe(np.flatnonzero(absent)) if absent.any() else ()


def merged_builders(builders: Iterable[RowBuilder]) -> list[RowBuilder]:
    """Put rows of one table with the same columns into one builder; those without rows are left out."""
    merged: dict[tuple[str, tuple[str, ...]], RowBuilder] = {}
    for builder in builders:
        if builder.rows:
            one = merged.setdefault((builder.table, builder.names), RowBuilder(builder.table, builder.names))
            one.rows.extend(builder.rows)
    return list(merged.values())
