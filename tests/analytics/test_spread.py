"""Spread of one measure: counted by the database, checked against counting by hand."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from analytics.errors import AnalyticsError
from analytics.spread import spread
from collector.client import FileClient

START = datetime(2026, 11, 1)
VALUES = [0.001, 0.5, 0.51, 1.0, 1.1, 4.0, None, 0.0]


@pytest.fixture
def client(tmp_path):
    opened = FileClient(tmp_path / "spread.duckdb", write=True)
    rows = [
        {
            "trace_id": f"{number:032x}",
            "span_id": f"{number:016x}",
            "started_at": START + timedelta(minutes=number),
            "ended_at": START + timedelta(minutes=number, seconds=2),
            "model": "m" if number % 2 else None,
            "outcome": "ok",
            "ttft_seconds": value,
            "source": "test",
            "estimated": False,
        }
        for number, value in enumerate(VALUES)
    ]
    opened.land("requests", pa.Table.from_pylist(rows))
    yield opened
    opened.close()


def test_every_positive_value_is_in_exactly_one_bin(client):
    bins = spread(client, START, START + timedelta(hours=1))
    assert bins["requests_count"].sum() == 6
    for value in (value for value in VALUES if value):
        assert bins.filter((bins["low"] <= value * 1.0000001) & (value < bins["high"] * 0.9999999)).height == 1


def test_a_bin_is_a_quarter_of_a_doubling_wide(client):
    bins = spread(client, START, START + timedelta(hours=1))
    assert (bins["high"] / bins["low"]).to_list() == pytest.approx([2**0.25] * bins.height)


def test_the_window_and_the_filters_narrow_the_spread(client):
    assert spread(client, START, START + timedelta(minutes=2))["requests_count"].sum() == 2
    assert spread(client, START, START + timedelta(hours=1), model="unknown")["requests_count"].sum() == 3


def test_an_unknown_measure_is_refused_with_those_known(client):
    with pytest.raises(AnalyticsError, match="ttft_seconds"):
        spread(client, START, START + timedelta(hours=1), measure="shoe_size")
