"""Every format says exactly what the table holds: decimals, times, maps and nulls."""

import csv
import io
import json
from datetime import datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from collector.rendering import to_arrow_stream, to_csv_text, to_json_text, to_table_text

AWKWARD = duckdb.sql(
    """
    SELECT 12345678901234567890123456789::HUGEINT AS big, 1.10::DECIMAL(38, 2) AS money, 0.1::DOUBLE AS tenth,
        TIMESTAMP '2024-01-01 00:00:00.000001' AS at, DATE '2024-02-29' AS day, true AS yes, NULL::VARCHAR AS nothing,
        '' AS empty, 'a,"b"' || chr(10) || 'c' AS text, [1, NULL] AS list, MAP {'k': 'v'} AS map, {'x': 1.50} AS struct,
        'nan'::DOUBLE AS nan, INTERVAL '1 month 2 days 3.5 seconds' AS span, 'ab'::BLOB AS bytes,
        TIMESTAMP_NS '2024-01-01 00:00:00.123456789' AS fine, TIMESTAMPTZ '2024-01-01 00:00:00+00' AS zoned
    """
).to_arrow_table()


def test_json_is_exact_and_keeps_null_apart_from_empty():
    (row,) = json.loads("\n".join(to_json_text(AWKWARD)), parse_float=Decimal)
    assert row == {
        "big": 12345678901234567890123456789,
        "money": Decimal("1.10"),
        "tenth": Decimal("0.1"),
        "at": "2024-01-01T00:00:00.000001",
        "day": "2024-02-29",
        "yes": True,
        "nothing": None,
        "empty": "",
        "text": 'a,"b"\nc',
        "list": [1, None],
        "map": {"k": "v"},
        "struct": {"x": Decimal("1.50")},
        "nan": "NaN",
        "span": "P1M2DT3.5S",
        "bytes": "6162",
        "fine": "2024-01-01 00:00:00.123456789",
        "zoned": row["zoned"],
    }
    assert datetime.fromisoformat(row["zoned"]) == datetime.fromisoformat("2024-01-01T00:00:00+00:00")


def test_csv_can_be_read_back_and_quotes_an_empty_text():
    lines = "\n".join(to_csv_text(AWKWARD))
    (row,) = csv.DictReader(io.StringIO(lines))
    assert (row["big"], row["money"], row["at"]) == (
        "12345678901234567890123456789",
        "1.10",
        "2024-01-01 00:00:00.000001",
    )
    assert (row["text"], row["map"], row["list"]) == ('a,"b"\nc', '{"k": "v"}', "[1, null]")
    assert ',true,,"",' in lines


def test_a_table_is_aligned_with_numbers_to_the_right():
    table = pa.table({"model": ["a", "longer", None], "n": [5, 1234, None], "at": [datetime(2024, 1, 1)] * 3})
    assert list(to_table_text(table)) == [
        "model      n  at",
        "------  ----  -------------------",
        "a          5  2024-01-01 00:00:00",
        "longer  1234  2024-01-01 00:00:00",
        "null    null  2024-01-01 00:00:00",
    ]


def test_a_long_or_many_lined_cell_stays_on_its_line():
    lines = list(to_table_text(pa.table({"s": ["x" * 100, "a\nb"]}), widest_cell=10))
    assert lines[2:] == ["xxxxxxxxx…", "a\\nb"]


@pytest.mark.parametrize(
    ("render", "expected"), [(to_json_text, ["[]"]), (to_csv_text, ["a"]), (to_table_text, ["a", "-"])]
)
def test_no_rows_are_no_rows(render, expected):
    assert list(render(pa.table({"a": pa.array([], pa.int64())}))) == expected


def test_an_arrow_stream_is_the_table_itself():
    table = AWKWARD.drop_columns(["nan"])  # NaN equals nothing
    assert pa.ipc.open_stream(to_arrow_stream(table)).read_all().equals(table)


def test_two_columns_of_one_name_are_both_there():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert list(to_csv_text(table)) == ["a,a", "1,2"]
