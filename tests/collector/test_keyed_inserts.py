"""One row a key, whatever comes in whatever order, in tables with and without an index."""

from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.errors import PermanentError
from collector.file_store import FileStore
from collector.keyed_inserts import ROW_BY_ROW
from collector.seen_keys import SeenKeys
from collector.table_contracts import BOOKKEEPING, table_contracts

AT = datetime(2026, 1, 1)
SMALL = st.integers(0, 12)
KEYS = st.lists(st.tuples(SMALL, SMALL), max_size=20)


def spans(keys):
    return pa.table({
        "trace_id": pa.array([f"t{trace}" for trace, _ in keys], pa.string()),
        "span_id": pa.array([f"s{span}" for _, span in keys], pa.string()),
        "name": pa.array(["n"] * len(keys), pa.string()),
        "started_at": pa.array([AT + timedelta(days=index % 3) for index in range(len(keys))], pa.timestamp("us")),
    })  # fmt: skip


def points(keys):
    return pa.table({
        "series_id": pa.array([series for series, _ in keys], pa.int64()),
        "observed_at": pa.array([AT + timedelta(hours=hour) for _, hour in keys], pa.timestamp("us")),
        "value": pa.array([1.0] * len(keys), pa.float64()),
    })  # fmt: skip


def events(keys):
    return pa.table({
        "event_id": pa.array([f"{a}-{b}" for a, b in keys], pa.string()),
        "occurred_at": pa.array([AT] * len(keys), pa.timestamp("us")),
        "kind": pa.array(["deploy"] * len(keys), pa.string()),
        "title": pa.array(["t"] * len(keys), pa.string()),
    })  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = FileStore(tmp_path_factory.mktemp("store") / "f.duckdb", threads=1)
    yield store
    store.close()


@pytest.mark.parametrize(("table", "rows_of"), [("spans", spans), ("metric_points", points), ("events", events)])
@settings(deadline=None)
@given(batches=st.lists(KEYS, max_size=4))
def test_each_key_is_one_row_and_is_counted_as_new_once(store, table, rows_of, batches):
    key = ", ".join(table_contracts()[table].key)
    before = {tuple(row.values()) for row in store.query(f"SELECT {key} FROM {table}").to_pylist()}
    known = set(before)
    for keys in batches:
        rows = rows_of(keys)
        incoming = {tuple(row.values()) for row in rows.select(table_contracts()[table].key).to_pylist()}
        assert store.land({table: rows}) == {table: len(incoming - known)}
        known |= incoming
    found = [tuple(row.values()) for row in store.query(f"SELECT {key} FROM {table}").to_pylist()]
    assert sorted(found) == sorted(known)


def test_large_tables_have_no_index_and_small_ones_have():
    without = {
        name
        for name, contract in table_contracts().items()
        if contract.key and not contract.indexed and name not in BOOKKEEPING
    }
    large = {"requests", "spans", "metric_points", "metric_histograms", "metric_exemplars", "gpu_samples", "logs"}
    assert without == large


def test_new_rows_are_inserted_by_one_thread_without_a_copy_in_between(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=2)
    cursor = store.cursor()
    cursor.register("incoming_rows", spans([(1, 1)]))
    plans = {
        source: cursor.execute(f"EXPLAIN INSERT INTO spans (trace_id) SELECT trace_id FROM {source}").fetchall()[0][1]
        for source in ("incoming_rows", ROW_BY_ROW)
    }
    cursor.close()
    store.close()
    batched = {source: "batch" in plan.lower() for source, plan in plans.items()}
    assert batched == {"incoming_rows": True, ROW_BY_ROW: False}


@pytest.mark.parametrize("pieces", [[], [0], [3], [2048, 1, 0, 5000]])
def test_rows_of_any_number_of_pieces_land_whole_and_in_order(tmp_path, pieces):
    starts = np.cumsum([0, *pieces])
    parts = [spans([(number, number) for number in range(a, b)]) for a, b in pairwise(starts)]
    store = FileStore(tmp_path / "f.duckdb", threads=2)
    counts = store.land_conformed([("spans", pa.concat_tables([spans([]), *parts]))])
    there = store.query("SELECT trace_id FROM spans ORDER BY rowid").column("trace_id").to_pylist()
    store.close()
    assert counts == [starts[-1]]
    assert there == [f"t{number}" for number in range(starts[-1])]


def test_keys_are_known_again_after_a_restart(tmp_path):
    for expected in (2, 0):
        store = FileStore(tmp_path / "f.duckdb", threads=1)
        assert store.land({"spans": spans([(1, 1), (1, 2)])}) == {"spans": expected}
        store.close()


def test_two_entries_of_one_batch_know_of_each_other(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    assert store.land_conformed([("spans", spans([(1, 1)])), ("spans", spans([(1, 1), (2, 2)]))]) == [1, 1]
    store.close()


def test_a_rolled_back_row_is_new_when_it_comes_again(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    broken = spans([(2, 2)]).set_column(2, "name", pa.nulls(1, pa.string()))
    with pytest.raises(PermanentError):
        store.land_conformed([("spans", spans([(1, 1)])), ("spans", broken)])
    assert store.land({"spans": spans([(1, 1)])}) == {"spans": 1}
    store.close()


@given(st.lists(st.lists(st.integers(0, 300), max_size=60), max_size=8))
def test_the_set_of_hashes_is_a_set(batches):
    seen, expected = SeenKeys(), set()
    for batch in batches:
        hashes = np.array(batch, dtype=np.uint64)
        missing = seen.missing(hashes)
        assert missing.tolist() == sorted(set(batch) - expected)
        seen.add(missing)
        expected |= set(batch)
    assert len(seen) == len(expected)


def test_a_failed_batch_is_forgotten_and_no_other(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    store.land({"spans": spans([(1, 1), (1, 2)])})
    broken = spans([(2, 2)]).set_column(2, "name", pa.nulls(1, pa.string()))
    seen = store._inserts._seen["spans"]
    with pytest.raises(PermanentError):
        store.land_conformed([("spans", spans([(1, 1), (1, 3)])), ("spans", broken)])
    assert store._inserts._seen["spans"] is seen
    assert len(seen) == 2
    assert store.land({"spans": spans([(1, 2), (1, 3), (2, 2)])}) == {"spans": 2}
    store.close()


def test_points_of_a_failed_batch_land_when_they_come_again(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    broken = spans([(2, 2)]).set_column(2, "name", pa.nulls(1, pa.string()))
    for keys, new in (([(1, 1), (1, 2)], 2), ([(1, 2), (1, 3)], 1)):
        with pytest.raises(PermanentError):
            store.land_conformed([("metric_points", points(keys)), ("spans", broken)])
        assert store.land({"metric_points": points(keys)}) == {"metric_points": new}
    store.close()


@given(st.lists(st.lists(st.integers(0, 300), max_size=60), max_size=8), st.sets(st.integers(0, 300)))
def test_hashes_that_are_discarded_are_missing_again(batches, gone):
    seen = SeenKeys()
    for batch in batches:
        seen.add(seen.missing(np.array(batch, dtype=np.uint64)))
    seen.discard(np.array(sorted(gone), dtype=np.uint64))
    left = {number for batch in batches for number in batch} - gone
    assert len(seen) == len(left)
    assert seen.missing(np.arange(301, dtype=np.uint64)).tolist() == sorted(set(range(301)) - left)
