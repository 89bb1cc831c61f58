"""Hourly rollups say at every moment what the requests themselves say."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import PermanentError
from collector.file_store import FileStore

START = datetime(2026, 3, 1)
LATER = datetime(2026, 3, 9)
OF_THE_REQUESTS = """
SELECT date_trunc('hour', started_at) AS hour_at, team, model, outcome, service_failed, count(*) AS requests_count,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens
FROM judged_requests GROUP BY ALL ORDER BY ALL
"""
OF_THE_ROLLUPS = """
SELECT hour_at, team, model, outcome, service_failed, sum(requests_count)::BIGINT AS requests_count,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens
FROM request_hours GROUP BY ALL ORDER BY ALL
"""
SKETCHED = "SELECT count(*) AS n FROM requests WHERE outcome = 'ok' AND isfinite(ttft_seconds)"
IN_SKETCHES = "SELECT sum(requests_count)::BIGINT AS n FROM request_sketches WHERE measure = 'ttft_seconds'"

ARRIVED = """
SELECT date_trunc('hour', started_at) AS hour_at, team, count(*) AS requests_count,
    sum(epoch_us(received_at) % 4294967296)::BIGINT AS received_sum,
    min(coalesce(ended_at, started_at)) AS first_event_at, max(coalesce(ended_at, started_at)) AS last_event_at,
    max(ended_at) AS last_end_at
FROM requests GROUP BY ALL ORDER BY ALL
"""
IN_ARRIVALS = "SELECT * FROM request_arrivals ORDER BY ALL"


def requests(numbers, ttft_seconds=0.2):
    numbers = list(numbers)
    return pa.table({
        "trace_id": [f"{number:032x}" for number in numbers], "span_id": ["a" * 16] * len(numbers),
        "started_at": [START + timedelta(minutes=7 * number) for number in numbers],
        "ended_at": [
            START + timedelta(minutes=7 * number, seconds=90 * number) if number % 4 else None for number in numbers
        ],
        "team": [("x", "y", None)[number % 3] for number in numbers], "model": ["m"] * len(numbers),
        "outcome": [("ok", "ok", "error", "rejected")[number % 4] for number in numbers],
        "source": ["test"] * len(numbers), "estimated": [False] * len(numbers),
        "input_tokens": pa.array([None if number % 5 == 0 else number for number in numbers], pa.int64()),
        "output_tokens": pa.array([2 * number for number in numbers], pa.int64()),
        "ttft_seconds": pa.array([ttft_seconds] * len(numbers), pa.float64()),
    })  # fmt: skip


def agree(store):
    assert store.query(OF_THE_ROLLUPS).to_pylist() == store.query(OF_THE_REQUESTS).to_pylist()
    assert store.query(IN_ARRIVALS).to_pylist() == store.query(ARRIVED).to_pylist()
    assert (store.query(IN_SKETCHES)["n"][0].as_py() or 0) == store.query(SKETCHED)["n"][0].as_py()


@pytest.fixture
def store(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    yield store
    store.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("land"), st.lists(st.integers(0, 60), min_size=1, max_size=12)),
        st.tuples(st.just("settle"), st.integers(0, 9)),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("archive"), st.none()),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=15)
@given(steps=STEPS)
def test_late_rows_duplicates_restarts_and_the_archive_change_nothing_about_it(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("rollups") / "f.duckdb"
    store = FileStore(path, threads=1)
    for what, argument in steps:
        if what == "land":
            store.land({"requests": requests(argument)})
        elif what == "settle":
            store.compact(START + timedelta(hours=argument))
        elif what == "archive":
            store.compact(LATER, archive_after_days=7)
        else:
            store.close()
            store = FileStore(path, threads=1)
        agree(store)
    store.compact(LATER)
    assert store.query("SELECT * FROM stale_hours").num_rows == 0
    agree(store)
    store.close()


def test_settled_hours_come_from_the_tables_and_late_rows_bring_them_back(store):
    store.land({"requests": requests(range(30))})
    store.compact(LATER)
    assert store.health().stale_hours_count == 0
    assert store.query("SELECT sum(requests_count)::BIGINT AS n FROM settled_request_hours")["n"].to_pylist() == [30]
    store.land({"requests": requests([30, 31, 5])})
    assert store.health().stale_hours_count == 2, "5 was there already, but its hour is looked at again"
    agree(store)


def test_an_hour_whose_rows_come_in_while_it_is_computed_stays_stale(store):
    store.land({"requests": requests(range(5))})
    reading = store.rollups.reading

    def land_meanwhile():
        cursor = reading()
        if store.query("SELECT 1 FROM requests WHERE trace_id = $t", {"t": f"{6:032x}"}).num_rows == 0:
            store.land({"requests": requests([6])})
        return cursor

    store.rollups.reading = land_meanwhile
    assert not store.rollups.settle(START)
    store.rollups.reading = reading
    agree(store)
    assert store.rollups.settle(START)
    agree(store)


def test_a_batch_that_is_rolled_back_leaves_its_hours_to_be_marked_by_the_next(store):
    broken = requests([2]).drop_columns("outcome").append_column("outcome", pa.nulls(1, pa.string()))
    with pytest.raises(PermanentError):
        store.land_conformed([("requests", requests([1])), ("requests", broken)])
    store.land({"requests": requests([1])})
    agree(store)
    assert store.query("SELECT hour_at FROM stale_hours")["hour_at"].to_pylist() == [START]


@given(st.floats(1e-6, 1e6))
@settings(max_examples=20, deadline=None)
def test_a_sketch_is_within_one_per_cent_of_the_value(value):
    import duckdb

    with duckdb.connect() as connection:
        sketch = "2 * pow(1.02, ceil(ln($v::DOUBLE) / ln(1.02))) / 2.02"
        ((estimate,),) = connection.execute(f"SELECT {sketch}", {"v": value}).fetchall()
    assert abs(estimate / value - 1) <= 0.01


def test_quantiles_of_a_sketch_are_near_the_exact_ones(store):
    count = 2000
    rows = requests(range(count))
    rows = rows.set_column(
        rows.column_names.index("ttft_seconds"),
        "ttft_seconds",
        pa.array([0.01 * 1.003**number for number in range(count)], pa.float64()),
    )
    store.land({"requests": rows})
    store.compact(datetime(2026, 4, 1))
    exact = store.query("SELECT quantile_disc(ttft_seconds, 0.95) AS q FROM requests WHERE outcome = 'ok'")["q"][
        0
    ].as_py()
    sketched = store.query(
        "SELECT min(2 * pow(1.02, bucket) / 2.02) FILTER (WHERE share >= 0.95) AS q FROM ("
        "SELECT bucket, sum(requests_count) OVER (ORDER BY bucket) / sum(requests_count) OVER () AS share "
        "FROM (SELECT bucket, sum(requests_count) AS requests_count FROM request_sketches "
        "WHERE measure = 'ttft_seconds' GROUP BY bucket))"
    )["q"][0].as_py()
    assert abs(sketched / exact - 1) < 0.02
