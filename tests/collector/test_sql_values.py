"""Parameters and answers as JSON: what is written is what stands there, and what can't be is refused."""

import json
from contextlib import closing

import duckdb
import httpx
import pytest

from collector.errors import PermanentError
from collector.sql_route import QUESTION_BYTES
from collector.sql_values import answer_to_json, mapping_of_parameters, parameter_from_json


def written(value):
    with closing(duckdb.connect()) as connection:
        rows = connection.sql(f"SELECT * FROM (VALUES ({value}), (NULL)) AS t(x)").to_arrow_table()
    values = [row[0] for row in json.loads(answer_to_json(rows))["rows"]]
    assert values[1] is None
    return values[0]


@pytest.mark.parametrize("of_type", ["TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATE"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_infinite_times_are_named(of_type, sign):
    assert written(f"'{sign}infinity'::{of_type}") == f"{sign}infinity"


@pytest.mark.parametrize(
    ("value", "as_json"),
    [
        ("'24:00:00'::TIME", "24:00:00"),
        ("'12:00:00.5'::TIME", "12:00:00.500000"),
        ("'12:00:00.123456789'::TIME_NS", "12:00:00.123456789"),
        ("'24:00:00'::TIME_NS", "24:00:00"),
        ("DATE '2026-01-02'", "2026-01-02"),
        ("DATE '12026-01-02'", "12026-01-02"),
        ("['2026-01-02'::DATE]", ["2026-01-02"]),
        ("TIMESTAMP '2026-01-02 03:04:05'", "2026-01-02T03:04:05"),
        ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
    ],
)
def test_values_are_written_as_they_are(value, as_json):
    assert written(value) == as_json


@pytest.mark.parametrize(
    "value",
    [
        "42::VARIANT", "[{'a': 42::VARIANT}]", "'5'::BIGNUM", "['infinity'::DATE]", "{'a': 'infinity'::TIMESTAMPTZ}",
        "MAP {'a': 'infinity'::TIMESTAMP_NS}", "['24:00:00'::TIME]", "['12:00:00'::TIME_NS]", "DATE '290000-01-01'",
    ],
)  # fmt: skip
def test_a_value_that_json_can_not_carry_is_refused_with_its_column(value):
    with pytest.raises(PermanentError, match=r"column x .* cast it, x::VARCHAR"):
        written(value)


@pytest.mark.parametrize("value", [2**127, -(2**127) - 1, [1, 2**200]])
def test_an_integer_that_would_come_back_as_another_is_refused(value):
    with pytest.raises(PermanentError, match="128 bits"):
        mapping_of_parameters({"a": value})


@pytest.mark.parametrize("value", [0, True, 2**127 - 1, -(2**127), [2**64]])
def test_other_integers_are_taken(value):
    assert parameter_from_json(value) == value


@pytest.mark.parametrize("text", ["!!!!", "AA=A", "AAA", "ü"])
def test_bytes_that_are_no_base64_are_refused(text):
    with pytest.raises(PermanentError, match="is no bytes"):
        parameter_from_json({"type": "bytes", "value": text})


def test_bytes_are_taken():
    assert parameter_from_json({"type": "bytes", "value": "AAE="}) == b"\0\1"


def test_a_question_that_is_too_large_is_not_told_of_a_setting_of_bodies(collector):
    answer = httpx.post(f"{collector.api}/api/v1/sql", json={"sql": f"SELECT '{'x' * QUESTION_BYTES}'"})
    assert answer.status_code == 413
    assert "no setting changes" in answer.json()["error"] and "max_body_bytes" not in answer.text
