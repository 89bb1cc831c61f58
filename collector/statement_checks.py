"""What a statement from outside may hold: one SELECT, of tables and of functions that only compute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import duckdb

from collector import team_view
from collector.errors import PermanentError
from collector.small_answers import tree_of

TABLE_FUNCTIONS = frozenset(
    {
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_tables",
        "duckdb_views",
        "generate_series",
        "generate_subscripts",
        "json_each",
        "json_tree",
        "pragma_table_info",
        "range",
        "repeat",
        "repeat_row",
        "unnest",
    }
)
"""Table functions that only compute, or tell about the tables."""

SYSTEM_PREFIXES = ("duckdb_", "pg_", "pragma_", "sqlite_")
"""Views of the system: table functions under another name (pg_settings tells the settings)."""

REFUSED_FUNCTIONS = frozenset(
    {
        "current_setting",
        "getenv",
        "getvariable",
        "json_serialize_plan",
        "nextval",
        "query",
        "query_table",
        "setval",
        "stats",
        "write_log",
    }
)
"""Scalar functions that tell about the process or act on it, or tell of rows that the statement does not read: a plan
and statistics hold the least and greatest values of a whole table."""

LENGTHENING_FUNCTIONS = frozenset(
    {"array_resize", "bitstring", "generate_series", "list_resize", "lpad", "range", "repeat", "rpad"}
)
"""Scalar functions that make one value of any length, which no time limit stops and no memory limit holds."""
LONGEST_VALUE = 1_000_000
"""So much may be written into a statement as the length of one value. What is computed is not looked at."""

FILE_SIGNS = re.compile(r"[./\\*?\[:]")
"""What the name of a file has, and the name of a table has not: DuckDB reads a file that stands in a table's place."""


def check_statement(
    cursor: duckdb.DuckDBPyConnection, sql: str, allowed: frozenset[str] = TABLE_FUNCTIONS
) -> tuple[duckdb.Statement, Any]:
    """Let in one statement that only reads, with no table function but those allowed; return it and its parsed form.

    Raises:
        duckdb.Error: it does not parse.
        PermanentError: it is no text, not one SELECT, reads a file, or calls a function that does more than read.
    """
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise PermanentError(f"the statement is no text: {error}") from error
    statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise PermanentError(f"give one SELECT: {len(statements) or 'no'} statements came")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise PermanentError(f"only SELECT is answered here, not {statements[0].type.name}: this door is read-only")
    tree = tree_of(cursor, statements[0].query)
    if tree.get("error"):
        raise PermanentError(f"only a plain SELECT is answered here: {tree.get('error_message', 'it reads no table')}")
    for function, is_table_function in functions_of(tree):
        if function in REFUSED_FUNCTIONS or (is_table_function and function not in allowed):
            raise PermanentError(f"function {function}() is not to be had here: this door only reads the tables")
    check_tables(cursor, tree)
    return statements[0], tree


def check_tables(cursor: duckdb.DuckDBPyConnection, tree: Any) -> None:
    """Let no file stand in a table's place.

    Raises:
        PermanentError: a name is, or may be, that of a file.
    """
    paths = [path_of(node) for node in team_view.nodes_of(tree) if node.get("type") == "BASE_TABLE"]
    qualified = {path[-1].lower() for path in paths if len(path) > 1}
    if qualified:
        qualified -= {name for (name,) in cursor.execute(team_view.ALL_NAMES).fetchall()}
    for path in paths:
        if any(FILE_SIGNS.search(part) for part in path) or (len(path) > 1 and path[-1].lower() in qualified):
            raise PermanentError(
                f"there is no table {'.'.join(path)}; duckdb_tables() lists them, and no file is read here"
            )


def path_of(node: dict[str, Any]) -> list[str]:
    """Return the parts of a table's name, its schema before it."""
    path = (node.get("qualified_name") or {}).get("path") or (
        node.get("catalog_name"), node.get("schema_name"), node.get("table_name")
    )  # fmt: skip
    return [str(part) for part in path if part]


def check_length(node: dict[str, Any]) -> None:
    """Let a statement write down no value that is too long to be stopped.

    Raises:
        PermanentError: it does.
    """
    name, given = str(node["function_name"]).lower(), node.get("arguments") or node.get("children") or ()
    if name in ("generate_series", "range"):
        numbers = [number for one in given for number in constants_of(one)]
        known = len(numbers) == len(given)
        length = abs(numbers[1] - numbers[0]) if known and len(numbers) > 1 else sum(numbers) if known else 0
    else:  # the value to lengthen, then the length
        length = max((number for one in given[1:2] for number in constants_of(one)), default=0)
    if length > LONGEST_VALUE:
        raise PermanentError(
            f"{name}() of over {LONGEST_VALUE} is not to be had as one value; as a table, FROM range(…), it is"
        )


def constants_of(tree: Any) -> Iterator[int]:
    """Yield the whole numbers that stand in an expression."""
    for node in team_view.nodes_of(tree):
        if (literal := node.get("literal")) and literal.get("kind") == "INTEGER":
            yield int(literal["text"])
        elif node.get("class") == "CONSTANT" and isinstance(value := node.get("value"), dict):  # DuckDB 1.5
            yield from [value["value"]] if isinstance(value.get("value"), int) else []


def functions_of(tree: Any) -> Iterator[tuple[str, bool]]:
    """Yield every function that a parsed statement names, and whether it stands as a table (so do system views).

    Raises:
        PermanentError: it shows what may be a setting, or one makes too long a value.
    """
    pending = [(tree, False)]
    while pending:
        node, as_table = pending.pop()
        if isinstance(node, list):
            pending.extend((item, as_table) for item in node)
        elif isinstance(node, dict):
            if node.get("type") == "BASE_TABLE" and (name := str(node["table_name"]).lower()).startswith(
                SYSTEM_PREFIXES
            ):
                yield name, True
            if node.get("show_type") == "SHOW":
                raise PermanentError("SHOW TABLES is answered here, and DESCRIBE of a table; SHOW may name a setting")
            if "function_name" in node:
                name = str(node["function_name"]).lower()
                if name in LENGTHENING_FUNCTIONS and not as_table:
                    check_length(node)
                yield name, as_table
            for key, value in node.items():
                pending.append((value, key == "function" and node.get("type") == "TABLE_FUNCTION"))
