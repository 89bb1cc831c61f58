"""What a decoder returns: rows by table, and what could not become a row, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from collector.table_contracts import table_contracts


@dataclass(frozen=True, slots=True)
class Rejected:
    """One span or point that can't become a row."""

    reason: str
    """What is wrong with it, for the sender."""
    item: bytes
    """Its bytes, for the dead-letter folder."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One request body, decoded."""

    tables: Mapping[str, pa.Table]
    """Rows by table; tables without rows are left out."""
    accepted_count: int = 0
    """How many spans or points became rows."""
    rejected: tuple[Rejected, ...] = ()
    """Those that did not."""

    @property
    def rows_count(self) -> int:
        """Rows in all tables."""
        return sum(table.num_rows for table in self.tables.values())

    @property
    def message(self) -> str:
        """Say what was rejected and why, the reasons once each; empty where nothing was."""
        reasons = list(dict.fromkeys(item.reason for item in self.rejected))
        more = f" (and {len(reasons) - 3} more reasons)" if len(reasons) > 3 else ""
        return "; ".join(reasons[:3]) + more


@dataclass(slots=True)
class RowBuilder:
    """Columns of one table, filled row by row."""

    table: str
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row that has every column that the first row had."""
        if not self.columns:
            self.columns = {name: [] for name in row}
        for name, values in self.columns.items():
            values.append(row[name])

    def build(self) -> pa.Table:
        """Return the rows with the table's own types."""
        schema = table_contracts()[self.table].schema
        fields = [schema.field(name) for name in self.columns]
        arrays = [pa.array(self.columns[one.name], one.type) for one in fields]
        return pa.Table.from_arrays(arrays, schema=pa.schema([pa.field(one.name, one.type) for one in fields]))


def built(builders: Iterable[RowBuilder]) -> dict[str, pa.Table]:
    """Build every table that has rows."""
    return {builder.table: builder.build() for builder in builders if builder.columns}
