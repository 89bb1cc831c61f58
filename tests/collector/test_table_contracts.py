"""The gate: what fits a table is cast, what does not is refused with the column's name."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from collector.errors import PermanentError
from collector.table_contracts import conform

AT = datetime(2026, 1, 1, 12)


def span(**columns):
    rows = {"trace_id": ["t"], "span_id": ["s"], "name": ["n"], "started_at": [AT]}
    return conform("spans", pa.table({**rows, **columns}))


def test_columns_left_out_stay_out_and_the_rest_is_in_the_tables_order():
    rows = conform("spans", pa.table({"started_at": [AT], "name": ["n"], "span_id": ["s"], "trace_id": ["t"]}))
    assert rows.column_names == ["trace_id", "span_id", "name", "started_at"]


@pytest.mark.parametrize(
    "text_type", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_any_arrow_type_is_text(text_type):
    assert span(kind=pa.array(["server"]).cast(text_type)).column("kind").to_pylist() == ["server"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_microseconds(unit):
    assert span(ended_at=pa.array([AT], pa.timestamp(unit))).column("ended_at").to_pylist() == [AT]


def test_times_with_a_zone_are_taken_to_utc():
    there = AT.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=2)))
    assert span(ended_at=pa.array([there], pa.timestamp("us", "+02:00"))).column("ended_at").to_pylist() == [AT]


def test_a_column_of_nulls_fits_any_type():
    assert span(duration_seconds=pa.nulls(1), attributes=pa.nulls(1)).column("attributes").to_pylist() == [None]


@pytest.mark.parametrize(
    "attributes",
    [
        pa.array([[("a", "1")]], pa.map_(pa.string(), pa.string())),
        pa.array([{"a": "1", "b": None}]),
        pa.array([[{"key": "a", "value": "0"}, {"key": "a", "value": "1"}]]),
        pa.array([{"a": 1}]),
    ],
)
def test_maps_come_as_maps_structs_or_lists_of_pairs(attributes):
    assert span(attributes=attributes).column("attributes").to_pylist() == [[("a", "1")]]


def test_whole_floats_are_integers_and_others_are_refused():
    base = {
        "trace_id": ["t"],
        "span_id": ["s"],
        "started_at": [AT],
        "outcome": ["ok"],
        "source": ["x"],
        "estimated": [False],
    }
    rows = conform("requests", pa.table({**base, "input_tokens": [3.0]}))
    assert rows.column("input_tokens").to_pylist() == [3]
    with pytest.raises(PermanentError, match=r"requests\.input_tokens"):
        conform("requests", pa.table({**base, "input_tokens": [3.5]}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"nonsense": [1]}, "no column nonsense"),
        ({"name": pa.nulls(1, pa.string())}, r"spans\.name is null in 1 rows"),
        ({"started_at": ["yesterday"]}, r"spans\.started_at takes timestamp"),
        ({"attributes": ["x"]}, r"spans\.attributes takes map"),
        ({"attributes": [[{"a": 1, "b": 2, "c": 3}]]}, r"spans\.attributes"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_column(columns, message):
    with pytest.raises(PermanentError, match=message):
        span(**columns)


def test_a_required_column_that_is_missing_is_named():
    with pytest.raises(PermanentError, match="spans needs name, span_id, started_at"):
        conform("spans", pa.table({"trace_id": ["t"]}))


def test_a_column_that_comes_twice_is_refused():
    rows = pa.table([pa.array(["t"]), pa.array(["t"])], names=["trace_id", "trace_id"])
    with pytest.raises(PermanentError, match=r"twice|needs"):
        conform("spans", rows)
