"""The tables explain themselves, and the closed list of names and the table `requests` say the same."""

import re
from pathlib import Path

import duckdb
import pytest

from collector.migrations import migrate
from engine_exporter import alias_tables, semconv

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_FILES = sorted((ROOT / "collector/schema").glob("*.sql"))
QUERY_FILES = sorted((ROOT / "analytics").rglob("*.sql"))
IDENTIFIERS = {"series_id", "gpu_index", "xid", "segment"}
"""Numbers that name something, and so have no unit."""

NOT_ON_THE_WIRE = {"trace_id", "span_id", "started_at", "ended_at", "attributes", "received_at"}
"""Columns of `requests` that are the span's own ids and times, its leftover attributes, or the collector's."""


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        migrate(connection)
        yield connection


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.name)
def test_a_schema_file_is_numbered_and_every_table_in_it_states_its_grain(file):
    assert re.match(r"\d{3}_[a-z_]+\.sql$", file.name)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("-- ")
    for table in re.findall(r"CREATE TABLE (\w+)", text):
        grain = re.search(rf"^-- {table}: (.+)$", text, re.MULTILINE)
        assert grain, f"{file.name}: no line `-- {table}: <grain>`"
        assert f"COMMENT ON TABLE {table} IS" in text


def test_schema_files_count_up_and_no_number_stands_twice():
    numbers = [int(file.name[:3]) for file in SCHEMA_FILES]
    assert numbers == sorted(set(numbers))


def test_every_column_says_what_it_means_its_unit_and_its_source(database):
    columns = database.execute(
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
        "WHERE NOT internal AND table_name != 'schema_migrations' AND (table_name, column_name) NOT IN "
        "(SELECT ('judged_requests', column_name) FROM duckdb_columns() WHERE table_name = 'requests')"
    ).fetchall()
    assert len(columns) > 100
    faults = []
    for table, column, kind, comment in columns:
        if not comment or "Source: " not in comment:
            faults.append(f"{table}.{column} has no comment with its source")
        measured = re.search(r"INT|DOUBLE|FLOAT|DECIMAL|TIMESTAMP", kind) and column not in IDENTIFIERS
        if measured and "Unit: " not in (comment or ""):
            faults.append(f"{table}.{column} ({kind}) has no unit")
    assert faults == []


def test_the_grain_in_the_file_is_the_grain_in_the_database(database):
    files = "\n".join(file.read_text(encoding="utf-8") for file in SCHEMA_FILES)
    for table, comment in database.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE table_name != 'schema_migrations'"
    ).fetchall():
        assert f"-- {table}: {comment}\n" in files, f"{table}: {comment}"


def test_attributes_and_columns_of_requests_are_the_same_list(database):
    columns = {
        name
        for (name,) in database.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = 'requests'"
        ).fetchall()
    }
    mapped = {known.column for known in semconv.REQUEST_ATTRIBUTES}
    assert mapped <= columns
    assert columns - mapped == NOT_ON_THE_WIRE


def test_an_attribute_and_its_column_have_the_same_type(database):
    fits = {
        "str": {"VARCHAR"},
        "strs": {"VARCHAR"},
        "bool": {"BOOLEAN"},
        "int": {"INTEGER", "BIGINT"},
        "float": {"DOUBLE"},
    }
    types = dict(
        database.execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'requests'").fetchall()
    )
    wrong = {
        known.name: types[known.column]
        for known in semconv.REQUEST_ATTRIBUTES
        if types[known.column] not in fits[known.type]
    }
    assert wrong == {}


def test_no_name_on_the_list_stands_twice():
    for names in (
        [known.name for known in semconv.REQUEST_ATTRIBUTES],
        [known.column for known in semconv.REQUEST_ATTRIBUTES],
        [known.name for known in semconv.METRICS],
    ):
        assert len(names) == len(set(names))


def test_every_engines_name_leads_to_a_listed_metric():
    assert set(alias_tables.simple_names().values()) <= {known.name for known in semconv.METRICS}


@pytest.mark.parametrize("file", QUERY_FILES, ids=lambda file: file.name)
def test_a_query_file_states_its_grain_and_takes_named_parameters_only(file):
    text = file.read_text(encoding="utf-8")
    if not file.name.endswith(".checks.sql"):
        assert text.startswith(f"-- {file.stem}: "), f"{file.name}: the first line is not `-- {file.stem}: <grain>`"
    statement = re.sub(r"--[^\n]*|'[^']*'", "", text)
    assert not re.search(r"\?|\$\d|\{\w*\}", statement), "only $name parameters"


@pytest.mark.parametrize(
    "file",
    sorted(f for n in ("alerts", "collector", "stack") for f in (ROOT / n).rglob("*.sql")),
    ids=lambda file: file.name,
)
def test_every_other_sql_file_begins_by_saying_what_it_is(file):
    assert re.match(r"-- \S.{15,}", file.read_text(encoding="utf-8"))
