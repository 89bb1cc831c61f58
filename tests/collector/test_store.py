"""The store: idempotent, atomic, one process at a time."""

import subprocess
import sys
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from collector.errors import PermanentError, RetryableError
from collector.file_store import FileStore
from collector.spool_records import Position
from collector.table_contracts import schema_files, table_contracts

AT = datetime(2026, 1, 1)


@pytest.fixture
def store(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", threads=1)
    yield store
    store.close()


def events(*ids, title="t"):
    return pa.table({
        "event_id": list(ids), "occurred_at": [AT] * len(ids),
        "kind": ["deploy"] * len(ids), "title": [title] * len(ids),
    })  # fmt: skip


def count(store, table="events"):
    return store.query(f"SELECT count(*) AS n FROM {table}").to_pylist()[0]["n"]


def test_rows_that_are_there_already_are_left_alone(store):
    assert store.land({"events": events("a", "b")}) == {"events": 2}
    assert store.land({"events": events("b", "c", title="later")}) == {"events": 1}
    assert store.query("SELECT event_id, title FROM events ORDER BY 1").to_pylist() == [
        {"event_id": "a", "title": "t"}, {"event_id": "b", "title": "t"}, {"event_id": "c", "title": "later"},
    ]  # fmt: skip


def test_a_key_that_comes_twice_in_one_batch_is_one_row(store):
    assert store.land({"events": events("a", "a", "b")}) == {"events": 2}


def test_a_batch_lands_whole_or_not_at_all(store):
    with pytest.raises(PermanentError):
        store.land_conformed([("events", events("a")), ("events", pa.table({"event_id": ["b"]}))])
    assert count(store) == 0


def test_the_spools_progress_lands_with_the_rows_or_not_at_all(store):
    store.land_conformed([("events", events("a"))], Position(3, 70))
    assert store.progress() == Position(3, 70)
    with pytest.raises(PermanentError):
        store.land_conformed([("events", pa.table({"event_id": ["b"]}))], Position(4, 5))
    assert store.progress() == Position(3, 70)


def test_rows_say_when_they_were_received(tmp_path):
    store = FileStore(tmp_path / "f.duckdb", clock=lambda: datetime(2026, 2, 3, tzinfo=UTC))
    span = pa.table({"trace_id": ["t"], "span_id": ["s"], "name": ["n"], "started_at": [AT]})
    store.land({"spans": span})
    assert store.query("SELECT received_at FROM spans").to_pylist() == [{"received_at": datetime(2026, 2, 3)}]
    store.close()


def test_an_unknown_table_and_the_collectors_own_take_no_rows(store):
    for table in ("nonsense", "spool_progress", "schema_migrations"):
        with pytest.raises(PermanentError, match="no table"):
            store.land({table: events("a")})


def test_a_second_start_finds_the_rows_and_migrates_nothing(tmp_path):
    for expected in (1, 0):
        store = FileStore(tmp_path / "f.duckdb")
        assert store.land({"events": events("a")}) == {"events": expected}
        assert count(store, "schema_migrations") == len(schema_files())
        store.close()


def test_a_database_of_a_later_fleetmeter_is_refused(tmp_path):
    FileStore(tmp_path / "f.duckdb").close()
    with duckdb.connect(str(tmp_path / "f.duckdb")) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'later', now()::TIMESTAMP)")
    with pytest.raises(PermanentError, match="later version"):
        FileStore(tmp_path / "f.duckdb")


def test_a_database_of_somebody_else_is_refused_untouched(tmp_path):
    with duckdb.connect(str(tmp_path / "f.duckdb")) as connection:
        connection.execute("CREATE TABLE requests (a INTEGER)")
    with pytest.raises(PermanentError, match="001_requests"):
        FileStore(tmp_path / "f.duckdb")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "f.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(PermanentError, match="not a DuckDB file"):
        FileStore(tmp_path / "f.duckdb")


def test_a_file_that_another_process_holds_says_how_to_ask_it(tmp_path):
    store = FileStore(tmp_path / "f.duckdb")
    code = "import sys; from collector.file_store import FileStore; FileStore(sys.argv[1], read_only=True)"
    done = subprocess.run([sys.executable, "-c", code, store.path], capture_output=True, text=True)
    store.close()
    assert "held by another process" in done.stderr
    assert RetryableError.__name__ in done.stderr


def test_two_series_with_one_id_are_noticed(store):
    def series(name):
        return {
            "metric_series": pa.table({"series_id": [1], "name": [name], "kind": ["gauge"], "labels": [{"a": "b"}]})
        }

    store.land(series("one"))
    store.land(series("one"))
    assert store.collisions_count == 0
    store.land(series("two"))
    assert store.collisions_count == 1


def test_every_table_and_column_is_explained(store):
    tables = store.query("SELECT table_name, comment FROM duckdb_tables()").to_pylist()
    unexplained = [
        row["table_name"] for row in tables if not row["comment"] and row["table_name"] != "schema_migrations"
    ]
    columns = store.query(
        "SELECT table_name || '.' || column_name AS name FROM duckdb_columns() "
        "WHERE comment IS NULL AND table_name NOT IN ('schema_migrations', 'judged_requests') AND NOT internal"
    ).to_pylist()
    assert (unexplained, columns) == ([], [])


def test_every_table_that_takes_rows_has_a_key():
    assert [name for name, one in table_contracts().items() if not one.key and name != "spool_progress"] == []


def test_a_series_without_labels_lands(store):
    rows = pa.table({"series_id": [1], "name": ["up"], "kind": ["gauge"]})
    assert store.land({"metric_series": rows}) == {"metric_series": 1}
    assert store.land({"metric_series": rows}) == {"metric_series": 0}
    assert store.collisions_count == 0


def test_a_process_may_open_its_file_twice(tmp_path):
    FileStore(tmp_path / "f.duckdb").close()
    first = FileStore(tmp_path / "f.duckdb", read_only=True)
    second = FileStore(tmp_path / "f.duckdb", read_only=True)
    assert count(first) == count(second) == 0
    first.close()
    second.close()
