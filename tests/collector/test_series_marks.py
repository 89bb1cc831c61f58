"""How far each series has come: later points are new, and the others are compared."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.file_store import FileStore
from collector.points.marks import Marks

START = datetime(2026, 11, 21)
pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=12)


def points(found):
    return pa.table(
        {
            "series_id": pa.array([series for series, _ in found], pa.int64()),
            "observed_at": pa.array([START + timedelta(seconds=at) for _, at in found], pa.timestamp("us")),
            "value": pa.array([float(number) for number, _ in enumerate(found)], pa.float64()),
        }
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(pairs, max_size=4), st.integers(0, 3))
def test_every_point_is_there_once_in_whatever_order_points_come(batches, reopened):
    store = FileStore(":memory:")
    expected = set()
    for number, batch in enumerate(batches):
        if number == reopened:
            store._inserts.forget()
        landed = store.land({"metric_points": points(batch)})["metric_points"]
        assert landed == len(set(batch) - expected)
        expected |= set(batch)
    there = store.query("SELECT series_id, observed_at FROM metric_points").to_pylist()
    found = [(row["series_id"], int((row["observed_at"] - START).total_seconds())) for row in there]
    store.close()
    assert sorted(found) == sorted(expected)


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5)), max_size=50))
def test_a_mark_never_goes_back(steps):
    marks, latest = Marks(), {}
    for series, at in steps:
        (fresh,) = marks.advance(np.array([series]), np.array([at])).tolist()
        assert fresh == (at > latest.get(series, -1))
        latest[series] = max(at, latest.get(series, -1))
    asked = np.array([*latest, 12345], np.int64)
    assert marks.missing(asked).tolist() == [int(one) not in latest for one in asked]


def test_marks_grow():
    marks, ids = Marks(), np.arange(100_000)
    assert marks.advance(ids, ids).all() and len(marks) == 100_000
    assert not marks.advance(ids, ids).any() and not marks.missing(ids).any()
    assert marks.advance(ids, ids + 1).all()
