"""A few rows made into Arrow here are those that DuckDB makes: same schema, same values, or none at all."""

from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import few_rows
from collector.errors import PermanentError
from collector.sql_door import SqlDoor

PLAIN = {
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "127"],
    "SMALLINT": ["-32768", "32767"],
    "INTEGER": ["-2147483648", "2147483647"],
    "BIGINT": ["-9223372036854775808", "9223372036854775807"],
    "UTINYINT": ["0", "255"],
    "USMALLINT": ["0", "65535"],
    "UINTEGER": ["0", "4294967295"],
    "UBIGINT": ["0", "18446744073709551615"],
    "FLOAT": ["0.1", "-0.0", "3.4e38", "'inf'", "'-inf'", "1e-45"],
    "DOUBLE": ["0.1", "-0.0", "1.7e308", "'inf'", "5e-324", "2.0 ** 53 + 1"],
    "VARCHAR": ["''", "'a'", "'ü😀'", "chr(0)", "'a' || chr(0) || 'b'"],
    "DATE": ["'0002-01-01'", "'9998-12-31'", "'1969-12-31'"],
    "TIMESTAMP": ["'0002-01-01'", "'9998-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.999999'"],
    "MAP(VARCHAR, VARCHAR)": ["MAP {}", "MAP {'b': 'c', 'a': NULL}"],
}
ODD = {
    "DATE": ["'infinity'", "'-infinity'", "'10000-01-01'", "'0044-03-15 (BC)'"],
    "TIMESTAMP": ["'infinity'", "'-infinity'", "'10000-01-01'", "'0044-03-15 (BC)'", "'9999-12-31 23:59:59.999999'"],
    "HUGEINT": ["1"],
    "DECIMAL(10, 2)": ["1.5"],
    "INTERVAL": ["'1 month'"],
    "UUID": ["'6f1c2b1e-9d3a-4f55-8a55-0123456789ab'"],
    "ENUM('a', 'b')": ["'a'"],
    "JSON": ["'{}'"],
    "BLOB": ["'a'"],
    "INTEGER[]": ["[1, NULL]"],
    "STRUCT(a INTEGER)": ["{'a': 1}"],
    "MAP(VARCHAR, INTEGER)": ["MAP {'a': 1}"],
    "TIMESTAMP_S": ["'2026-01-01'"],
}
"""What Python's values do not tell, or not as DuckDB does."""


@st.composite
def statements(draw: st.DrawFn) -> str:
    """A table of some columns and rows of plain types, nulls among them."""
    types = draw(st.lists(st.sampled_from(sorted(PLAIN)), min_size=1, max_size=5))
    rows = draw(
        st.lists(st.tuples(*(st.sampled_from([*PLAIN[name], "NULL"]) for name in types)), min_size=0, max_size=4)
    )
    cells = [[f"({value})::{name}" for value, name in zip(row, types, strict=True)] for row in rows]
    empty = ", ".join(f"NULL::{name} AS c{number}" for number, name in enumerate(types))
    unions = "".join(f" UNION ALL SELECT {', '.join(row)}" for row in cells)
    return f"SELECT * FROM (SELECT {empty} WHERE false{unions})"


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        opened.execute("SET threads = 1").fetchall()
        yield opened


@given(sql=statements())
def test_plain_values_are_those_that_duckdb_gives(connection, sql):
    expected = connection.sql(sql).to_arrow_table()
    answer = connection.execute(sql)
    assert few_rows.are_plain(answer) == few_rows.HOLDS_ITS_ROWS
    batch, is_all = few_rows.fetched(answer)
    assert is_all
    assert batch.schema.equals(expected.schema, check_metadata=True)
    # NaN is among none of them, and -0.0 is told from 0.0 by its text.
    assert repr(batch.to_pylist()) == repr(expected.to_pylist())
    assert few_rows.is_few(expected)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in ODD.items() for value in values])
def test_what_python_does_not_tell_as_duckdb_does_is_left_to_duckdb(connection, kind, value):
    for sql in (f"SELECT {value}::{kind} AS a", f"SELECT 1 AS a, unnest([NULL, {value}::{kind}]) AS b"):
        answer = connection.cursor().execute(sql)
        if few_rows.are_plain(answer):
            with pytest.raises(few_rows.OddValueError):
                few_rows.fetched(answer)
        expected = connection.sql(sql).to_arrow_table()
        door = SqlDoor(connection.cursor)
        for _ in range(3):  # as a stream, as a few rows, and as it is asked from then on
            assert door.query(sql).equals(expected)


def test_nan_is_nan(connection):
    batch, _ = few_rows.fetched(connection.execute("SELECT 'nan'::DOUBLE AS a, 'nan'::FLOAT AS b"))
    assert repr(batch.to_pylist()) == "[{'a': nan, 'b': nan}]"


def test_what_is_more_than_a_few_rows_comes_behind_them(connection):
    door = SqlDoor(connection.cursor)
    sql = "SELECT range AS a, -range AS b FROM range($count::BIGINT)"
    for count in (1, few_rows.FEW_CELLS // 2, few_rows.FEW_CELLS // 2 + 1, 1, 9_999, 20_000, 0):
        numbers = pa.array(range(count), pa.int64())
        expected = pa.table({"a": numbers, "b": pc.negate(numbers)})
        assert door.query(sql, {"count": count}).equals(expected), count


class Counting:
    """A connection that counts what it runs."""

    def __init__(self, opened: duckdb.DuckDBPyConnection, ran: list[str]) -> None:
        self.opened = opened
        self.ran = ran

    def execute(self, statement, *given):
        self.ran.append(str(getattr(statement, "query", statement)))
        return self.opened.execute(statement, *given)

    def sql(self, statement, **given):
        self.ran.append(statement.query)
        return self.opened.sql(statement, **given)

    def __getattr__(self, name):
        return getattr(self.opened, name)


def test_an_answer_that_grows_is_not_asked_twice_for_it(connection):
    ran: list[str] = []
    door = SqlDoor(lambda: Counting(connection.cursor(), ran))
    for count in (1, 1, 5_000, 1, 1):
        door.query("SELECT range FROM range($count::BIGINT)", {"count": count})
    assert len([sql for sql in ran if sql.startswith("SELECT range FROM")]) == 5


@pytest.mark.parametrize("text", ["repeat('é', $length::BIGINT) || '😀'", "MAP {'a': repeat('é', $length::BIGINT)}"])
def test_long_texts_are_left_to_duckdb(connection, text):
    door = SqlDoor(connection.cursor)
    sql = f"SELECT {text} AS a FROM range($count::BIGINT)"
    for length, count in ((1, 1), (100_000, 100), (1, 1), (2_000_000, 1)):
        asked = {"length": length, "count": count}
        assert door.query(sql, asked).equals(connection.sql(sql, params=asked).to_arrow_table())


def test_another_type_at_another_time_is_no_matter(connection):
    door = SqlDoor(connection.cursor)
    for value in (1, 2, "a", "b", 1.5, None, datetime(2026, 1, 1, tzinfo=UTC), b"a", [1], 2**70, True):
        expected = connection.sql("SELECT $value AS a", params={"value": value}).to_arrow_table()
        assert door.query("SELECT $value AS a", {"value": value}).equals(expected)


def test_a_few_rows_are_within_the_limits_too(connection):
    door = SqlDoor(connection.cursor, rows_limit=2)
    assert door.query("SELECT 1 FROM range($count::BIGINT)", {"count": 1}).num_rows == 1
    for _ in range(2):
        with pytest.raises(PermanentError, match="over 2 rows"):
            door.query("SELECT 1 FROM range($count::BIGINT)", {"count": 3})
