"""What the token of one team sees: the tables that have a column `team`, cut to its rows, and nothing else.

The cut is a temporary view on the query's own connection, and the parsed statement is changed to read it in the place
of the table. The table itself can't be reached: a name with a schema is refused, and so is every table, view or
function that is not cut.
"""

from __future__ import annotations

import json
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
ALL_NAMES = "SELECT lower(table_name) FROM duckdb_tables() UNION SELECT lower(view_name) FROM duckdb_views()"


def narrowed(cursor: duckdb.DuckDBPyConnection, team: str, tree: Any) -> str:
    """Return a statement as one team may ask it.

    Args:
        cursor: the connection that will run the statement; it gets the views.
        team: the team.
        tree: the parsed statement (`json_serialize_sql`); it is changed.

    Raises:
        PermanentError: the statement names something that the team may not see.
    """
    schema_of = tables_with_team(cursor)
    hidden = {str(name) for (name,) in cursor.execute(ALL_NAMES).fetchall()} - schema_of.keys()
    made = {
        str(entry["key"]).lower() for node in nodes_of(tree) for entry in (node.get("cte_map") or {}).get("map", ())
    }
    if taken := made & (schema_of.keys() | hidden):
        raise PermanentError(f"{', '.join(sorted(taken))} is a table's name: give that part of WITH another")
    for node in nodes_of(tree):
        if not (name := str(node.get("table_name") or "").lower()):
            continue
        if is_qualified(node) or name in hidden:
            there = ", ".join(sorted(schema_of))
            raise PermanentError(
                f"this token sees the rows of team {team!r} alone, in {there}; {name} is not to be had"
            )
        if name in schema_of:
            read_cut(node, name)
    literal = "'" + team.replace("'", "''") + "'"
    (database,) = cursor.execute("SELECT current_database()").fetchall()[0]
    for table, schema in schema_of.items():
        source = ".".join(quoted(part) for part in (database, schema, table))
        cursor.execute(f"CREATE TEMP VIEW {quoted(cut_name(table))} AS SELECT * FROM {source} WHERE team = {literal}")
    (statement,) = cursor.execute("SELECT json_deserialize_sql($tree::JSON)", {"tree": json.dumps(tree)}).fetchall()[0]
    return str(statement)


def tables_with_team(cursor: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the tables and views that tell a row's team, and of each the schema that a query finds first."""
    (path,) = cursor.execute("SELECT current_setting('search_path')").fetchall()[0]
    order = [name.strip().strip('"').split(".")[-1] for name in str(path).split(",") if name.strip()] + ["main"]
    places = [place for place in cursor.execute(WITH_TEAM).fetchall() if place[1] in order]
    found: dict[str, str] = {}
    for table, schema in sorted(places, key=lambda place: order.index(place[1])):
        found.setdefault(table.lower(), schema)
    return found


def nodes_of(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a parsed statement."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            yield node
            pending.extend(node.values())


def is_qualified(node: dict[str, Any]) -> bool:
    """Tell whether a node names a table by its schema, or is something else that has a table's name."""
    path = (node.get("qualified_name") or {}).get("path") or ()
    return bool(
        node.get("schema_name") or node.get("catalog_name") or len(path) > 1 or node.get("type") != "BASE_TABLE"
    )


def read_cut(node: dict[str, Any], table: str) -> None:
    """Let a node read the cut of a table, under the table's name."""
    node["alias"] = node["alias"] or node["table_name"]
    node["table_name"] = cut_name(table)
    if "qualified_name" in node:  # DuckDB 2
        node["qualified_name"] = {"path": [cut_name(table)]}


def cut_name(table: str) -> str:
    """Return the name of a table's cut."""
    return f"{table} of the team"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'
