"""What the token of one team sees: the tables that have a column `team`, cut to its rows, and nothing else.

The cut is a temporary view of the same name on the query's own connection, which is found before the table; the table
itself can't be reached, for a name with a schema is refused, and so is every table, view or function that is not cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb

from collector.errors import PermanentError

TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
"""Table functions that only compute: those that tell about tables would tell their sizes."""

WITH_TEAM = """
SELECT table_name, schema_name
FROM duckdb_columns()
WHERE column_name = 'team' AND database_name = current_database() AND NOT internal
"""
ALL_NAMES = """
SELECT lower(table_name) FROM duckdb_tables() UNION SELECT lower(view_name) FROM duckdb_views()
"""


def narrow(cursor: duckdb.DuckDBPyConnection, team: str, tree: Any) -> None:
    """Let a connection see one team's rows alone, and check that a statement asks for no more.

    Args:
        cursor: the connection that will run the statement.
        team: the team.
        tree: the parsed statement.

    Raises:
        PermanentError: the statement names something that the team may not see.
    """
    places = cursor.execute(WITH_TEAM).fetchall()
    path = str(cursor.execute("SELECT current_setting('search_path')").fetchall()[0][0]).split(",")
    order = [name.strip().strip('"').split(".")[-1] for name in path if name.strip()] + ["main"]
    schema_of: dict[str, str] = {}
    for table, schema in sorted(places, key=lambda place: order.index(place[1]) if place[1] in order else len(order)):
        if schema in order:
            schema_of.setdefault(table, schema)
    others = {str(name) for (name,) in cursor.execute(ALL_NAMES).fetchall()} - {name.lower() for name in schema_of}
    for name, qualified in tables_of(tree):
        if qualified or name.lower() in others:
            raise PermanentError(
                f"this token sees the rows of team {team!r} alone: {name} is not to be had; there are "
                + ", ".join(sorted(schema_of))
            )
    literal = "'" + team.replace("'", "''") + "'"
    (database,) = cursor.execute("SELECT current_database()").fetchall()[0]
    for table, schema in schema_of.items():
        source = ".".join(quoted(part) for part in (database, schema, table))
        cursor.execute(f"CREATE TEMP VIEW {quoted(table)} AS SELECT * FROM {source} WHERE team = {literal}")


def tables_of(tree: Any) -> Iterator[tuple[str, bool]]:
    """Yield every table that a parsed statement names, and whether by its schema or in a way that is no plain table."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            if name := node.get("table_name"):
                qualified = node.get("schema_name") or node.get("catalog_name") or node.get("type") != "BASE_TABLE"
                yield str(name), bool(qualified)
            pending.extend(node.values())


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'
