"""docs/schema.md, from the comments in the database."""

import re

import duckdb

from collector.migrations import migrate
from collector.table_contracts import table_contracts
from tests.contracts.describe import markdown

INTRODUCTION = """\
The tables of the collector's database. `collector/schema/*.sql` makes them, and this page is read from the comments
that those files put into the database. Times are naive UTC with microseconds. Ratios are 0-1. Absent data is null,
never 0. Money is in whole units of 1e-9 USD."""

COLUMNS = """
SELECT column_name, data_type, is_nullable, comment
FROM duckdb_columns() WHERE table_name = $table AND NOT internal ORDER BY column_index
"""


def page() -> str:
    with duckdb.connect() as connection:
        migrate(connection)
        return markdown.page("Tables", INTRODUCTION, *(describe(connection, *row) for row in tables(connection)))


def tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str | None, list[str]]]:
    rows = connection.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE table_name != 'schema_migrations' ORDER BY table_oid"
    ).fetchall()
    keys = {name: list(contract.key) for name, contract in table_contracts().items()}
    return [(name, comment, keys.get(name, [])) for name, comment in rows]


def describe(connection: duckdb.DuckDBPyConnection, name: str, grain: str | None, key: list[str]) -> str:
    columns = connection.execute(COLUMNS, {"table": name}).fetchall()
    head = ("column", "type", "null", "meaning", "unit", "source")
    rows = [
        (markdown.code(column), markdown.code(kind), "yes" if nullable else "", *split_comment(comment or ""))
        for column, kind, nullable, comment in columns
    ]
    grain = re.sub(r"; key \(.*\)$", "", grain or "")
    said = f"Grain: {grain}. Key: {', '.join(map(markdown.code, key))}."
    return "\n\n".join([f"## {name}", said, markdown.table(head, rows)])


def split_comment(comment: str) -> tuple[str, str, str]:
    """Take `meaning. Unit: s. Source: …` apart."""
    match = re.fullmatch(r"(.*?)(?: ?Unit: (.*?)\.)?(?: ?Source: (.*?)\.?)?", comment, re.DOTALL)
    assert match is not None
    meaning, unit, source = match.groups()
    return meaning, unit or "", source or ""
