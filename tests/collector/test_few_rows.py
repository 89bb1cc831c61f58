"""A few rows made into Arrow here are those that DuckDB makes: same schema, same values, or none at all."""

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
    batch = few_rows.fetched(connection.execute(sql))
    assert batch is not None
    assert batch.schema.equals(expected.schema, check_metadata=True)
    # NaN is among none of them, and -0.0 is told from 0.0 by its text.
    assert repr(batch.to_pylist()) == repr(expected.to_pylist())
    assert few_rows.is_few(expected)


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in ODD.items() for value in values])
def test_what_python_does_not_tell_as_duckdb_does_is_left_to_duckdb(connection, kind, value):
    for sql in (f"SELECT {value}::{kind} AS a", f"SELECT 1 AS a, unnest([NULL, {value}::{kind}]) AS b"):
        assert few_rows.fetched(connection.execute(sql)) is None
        expected = connection.sql(sql).to_arrow_table()
        door = SqlDoor(connection.cursor)
        for _ in range(3):  # as a stream, as a few rows, and as it is asked from then on
            assert door.query(sql).equals(expected)


def test_nan_is_nan(connection):
    batch = few_rows.fetched(connection.execute("SELECT 'nan'::DOUBLE AS a, 'nan'::FLOAT AS b"))
    assert repr(batch.to_pylist()) == "[{'a': nan, 'b': nan}]"


def test_many_rows_are_left_to_duckdb_and_asked_so_from_then_on(connection):
    door = SqlDoor(connection.cursor)
    sql = "SELECT range AS a, -range AS b FROM range($count::BIGINT)"
    for count in (1, few_rows.FEW_CELLS // 2, few_rows.FEW_CELLS // 2 + 1, 1, 9_999, 20_000, 0):
        numbers = pa.array(range(count), pa.int64())
        expected = pa.table({"a": numbers, "b": pc.negate(numbers)})
        assert door.query(sql, {"count": count}).equals(expected), count


def test_a_few_rows_are_within_the_limits_too(connection):
    door = SqlDoor(connection.cursor, rows_limit=2)
    assert door.query("SELECT 1 FROM range($count::BIGINT)", {"count": 1}).num_rows == 1
    for _ in range(2):
        with pytest.raises(PermanentError, match="over 2 rows"):
            door.query("SELECT 1 FROM range($count::BIGINT)", {"count": 3})
