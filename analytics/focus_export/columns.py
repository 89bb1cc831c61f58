"""The columns of FOCUS "Cost and Usage", pinned as data: level, type, when null, allowed values, by version.

The table is analytics/data/focus_columns.csv; where it comes from stands in analytics/data/README.md.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
VERSIONS = ("1.0", "1.1", "1.2", "1.3")
EXPORTED = ("1.2", "1.3")
"""Versions that an export can be of."""

Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the specification."""

    column: str
    """Its name."""
    since: str
    """The version that has it first."""
    deprecated: str
    """The version that deprecates it; empty is none."""
    level: str
    """mandatory, conditional or recommended."""
    kind: str
    """string, decimal, price (a decimal that is not negative), time, currency, json (a flat object) or json_object."""
    given: str
    """always where it may never be null."""
    null_when: str
    """When it must be null; see `holds`."""
    given_when: str
    """When it must not be null; see `holds`."""
    allowed: tuple[str, ...]
    """The values that it may have; empty is any."""

    def name(self, version: str) -> str:
        """Return its name in a file of a version: a later one's column is a custom one there."""
        return self.column if self.since <= version else f"x_{self.column}"


@cache
def columns() -> tuple[Column, ...]:
    """Read the pinned table."""
    with (DATA / "focus_columns.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Column(**{**row, "allowed": tuple(filter(None, row["allowed"].split("|")))})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        )


@cache
def subcategories() -> dict[str, str]:
    """Return the category of every allowed ServiceSubcategory."""
    with (DATA / "focus_services.csv").open(encoding="utf-8", newline="") as file:
        return {row["subcategory"]: row["category"] for row in csv.DictReader(file)}


def holds(condition: str, cells: Cells) -> bool:
    """Tell whether a condition of the table holds in a row.

    A condition is `COLUMN is null`, `COLUMN is given`, `COLUMN in A|B` or `COLUMN not in A|B`, joined by `and`, these
    by `or`. An empty one never holds.
    """
    return any(all(_term(term, cells) for term in part.split(" and ")) for part in condition.split(" or ") if part)


def _term(term: str, cells: Cells) -> bool:
    name, relation, value = term.replace(" not in ", " not_in ").split(" ", 2)
    cell = cells.get(name)
    if relation == "is":
        return (cell is None) == (value == "null")
    return (cell in value.split("|")) == (relation == "in")
