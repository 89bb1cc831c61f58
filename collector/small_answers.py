"""A statement in a form that can't give many rows, so that its whole answer may be fetched at once.

DuckDB for Python binds a query twice where its rows are to come as a stream: once to tell the columns, once to run. For
a board's statement that is a tenth to a quarter of its time. Run at once it is bound once, but then all of its rows are
held before the first is seen, however many they are.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from collector.duckdb_files import parsed

SMALL_ROWS = 9_999
"""An answer of at most so many rows is small. For a LIMIT above 10,000 DuckDB scans with one thread."""
SMALL_BYTES = 32 * 2**20
"""And of at most so many bytes: until it is made into Arrow, what is fetched at once is under no limit of memory."""

SERIALIZE_SQL = "SELECT json_serialize_sql($sql::VARCHAR)"

# DuckDB says at each such answer that it copies its rows; a small one is what we mean.
warnings.filterwarnings("ignore", message="Arrow output on a DB-API result makes an extra copy", category=UserWarning)


@dataclass(frozen=True, slots=True)
class SmallForm:
    """What gives at most one row more than a small answer has."""

    statement: duckdb.Statement
    limit_parameter: str | None
    """Its own LIMIT is this parameter; None: it was given one."""

    def is_small(self, parameters: Mapping[str, Any]) -> bool:
        """Say whether it is bounded with these parameters."""
        if self.limit_parameter is None:
            return True
        limit = parameters.get(self.limit_parameter)
        return isinstance(limit, int) and not isinstance(limit, bool) and 0 <= limit <= SMALL_ROWS


def tree_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """Return a statement as `json_serialize_sql` tells it."""
    return json.loads(cursor.execute(parsed(SERIALIZE_SQL), {"sql": sql}).fetchall()[0][0])


def small_form(cursor: duckdb.DuckDBPyConnection, statement: duckdb.Statement, tree: Any) -> SmallForm | None:
    """Return a statement's small form; None where it has none that is sure to say the same.

    Args:
        cursor: parses.
        statement: one SELECT.
        tree: the same, as `tree_of` gives it.
    """
    if limits := limits_of(tree):
        name = limit_parameter_of(limits[0])
        return None if name is None else SmallForm(statement, name)
    sql = f"{statement.query.rstrip().rstrip(';')}\nLIMIT {SMALL_ROWS + 1}"
    try:
        (limited,) = cursor.extract_statements(sql)
        tree_limited = tree_of(cursor, sql)
        given = limits_of(tree_limited)
    except (duckdb.ParserException, KeyError, ValueError):
        return None
    if len(given) != 1:
        return None
    modifiers_of(tree_limited).remove(given[0])
    return SmallForm(limited, None) if tree_limited == tree else None


def modifiers_of(tree: Any) -> list[dict[str, Any]]:
    """Return what stands behind the outermost SELECT: ORDER BY, DISTINCT, LIMIT."""
    found: list[dict[str, Any]] = tree["statements"][0]["node"]["modifiers"]
    return found


def limits_of(tree: Any) -> list[dict[str, Any]]:
    """Return the outermost LIMIT, or none."""
    return [modifier for modifier in modifiers_of(tree) if modifier["type"].startswith("LIMIT")]


def limit_parameter_of(limit: dict[str, Any]) -> str | None:
    """Return the parameter that is a LIMIT, cast or not; None where it is something else, or a share of the rows.

    What `try_cast` can't cast is null, and that is no limit.
    """
    if limit["type"] != "LIMIT_MODIFIER" or limit.get("limit_type", "ROW_COUNT") != "ROW_COUNT" or limit.get("offset"):
        return None
    expression = limit.get("limit")
    while isinstance(expression, dict) and expression.get("class") == "CAST" and not expression.get("try_cast"):
        expression = expression.get("child")
    if not isinstance(expression, dict) or expression.get("class") != "PARAMETER":
        return None
    return str(expression.get("identifier"))
