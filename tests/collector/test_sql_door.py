"""The read API's door: SELECT goes through, everything else stays out."""

import threading
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from collector.errors import PermanentError, RetryableError
from collector.file_store import FileStore
from collector.sql_door import Asker, SqlDoor
from collector.statement_checks import REFUSED_FUNCTIONS

ANSWERED = [
    "SELECT 1",
    "FROM events",
    "VALUES (1)",
    "TABLE events",
    "DESCRIBE events",
    "SHOW TABLES",
    "SUMMARIZE events",
    "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 5) SELECT * FROM r",
    "SELECT * FROM range(3) AS t(x), unnest([1, 2]) AS u(y)",
    "SELECT list_transform([1, 2], lambda x: x + 1)",
    "FROM events PIVOT (count(*) FOR kind IN ('deploy'))",
    "SELECT * FROM duckdb_columns() WHERE table_name = 'events'",
    "SELECT * FROM information_schema.tables",
    "SELECT pg_typeof(1)",
    "SELECT kind, count(*) OVER (PARTITION BY kind) FROM events QUALIFY row_number() OVER () = 1",
    "-- a comment; with a semicolon\nSELECT 1;",
    "SELECT repeat('█', 40), lpad('7', 3, '0'), range(1700000000, 1700003600, 60), unnest(range(100))",
    "SELECT lpad(1700000000000::VARCHAR, 20, '0'), list_resize([1700000000000], 3), repeat('2000000', 2)",
    "SELECT count(*) FROM main.events, range(2000000)",
]

ATTACKS = [
    "",
    ";",
    "SELEC 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE events",
    "DELETE FROM events",
    "INSERT INTO events SELECT * FROM events",
    "UPDATE events SET title = 'x'",
    "CREATE TABLE t (a INTEGER)",
    "CREATE TEMP TABLE t (a INTEGER)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "DROP TABLE events",
    "ALTER TABLE events ADD COLUMN x INTEGER",
    "TRUNCATE events",
    "WITH d AS (DELETE FROM events RETURNING event_id) SELECT * FROM d",
    "WITH d AS (INSERT INTO events BY NAME SELECT 'z' AS event_id RETURNING 1) SELECT * FROM d",
    "WITH d AS (UPDATE events SET title = 'x' RETURNING 1) SELECT * FROM d",
    "SELECT * FROM (WITH d AS (DELETE FROM events RETURNING 1) SELECT * FROM d)",
    "EXPLAIN ANALYZE DELETE FROM events",
    "EXPLAIN DELETE FROM events",
    "COPY events TO '{folder}/stolen.csv'",
    "COPY events FROM '{folder}/secret.csv'",
    "COPY (SELECT 1) TO '{folder}/stolen.parquet'",
    "EXPORT DATABASE '{folder}/stolen'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{folder}/other.duckdb'",
    "DETACH f",
    "USE f",
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM read_text('{folder}/secret.csv')",
    "SELECT * FROM read_blob('{folder}/*')",
    "SELECT * FROM read_json('{folder}/secret.csv')",
    "SELECT * FROM read_parquet('{folder}/x.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/x.parquet')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
    "SELECT * FROM '{folder}/archive/*/*/*.parquet'",
    "FROM archive.parquet",
    'FROM "{folder}/archive/requests/day=2026-01-01/x"."parquet"',
    "SUMMARIZE '{folder}/archive/x.parquet'",
    "SELECT 1 WHERE EXISTS (FROM '{folder}/archive/x.parquet')",
    "WITH \"x.parquet\" AS (SELECT 1) SELECT * FROM 'x.parquet'",
    "SELECT json_serialize_plan('SELECT current_setting(''memory_limit'')', optimize := true)",
    "SELECT stats(title) FROM events",
    "SELECT length(lpad('x', 2000000000, 'y'))",
    "SELECT length(repeat('x', 1500000000::BIGINT))",
    "SELECT len(range(100000000))",
    "SELECT len(list_resize([1], 100000000))",
    "SELECT (SELECT content FROM read_text('{folder}/secret.csv'))",
    "SELECT * FROM query('SELECT content FROM read_text(''{folder}/secret.csv'')')",
    "SELECT * FROM query_table('events')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET threads",
    "PRAGMA threads = 1",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pg_catalog.pg_settings",
    "FROM pg_settings",
    'FROM "PG_Settings"',
    "SUMMARIZE pg_settings",
    "SELECT (SELECT max(setting) FROM pg_settings)",
    "WITH s AS (FROM pg_catalog.pg_settings) FROM s",
    "SELECT * FROM pg_database",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM main.sqlite_schema",
    "SHOW threads",
    "SHOW max_memory",
    "FROM (SHOW memory_limit)",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_extensions()",
    "FROM duckdb_databases",
    "FROM main.pragma_database_list",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM truncate_duckdb_logs()",
    "SELECT write_log('x')",
    "SELECT current_setting('memory_limit')",
    "SELECT getenv('HOME')",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SET VARIABLE x = 1",
    "SELECT * FROM a_python_variable",
    "SELECT * FROM incoming_rows",
    "SELECT '\ud800'",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    (folder / "secret.csv").write_text("secret\n42\n")
    store = FileStore(folder / "f.duckdb", threads=1)
    store.land({"events": pa.table({
        "event_id": ["a"], "occurred_at": [datetime(2026, 1, 1)], "kind": ["deploy"], "title": ["t"],
    })})  # fmt: skip
    yield store
    store.close()


@pytest.mark.parametrize("sql", ANSWERED)
def test_reading_is_answered(store, sql):
    assert store.query(sql).num_columns


def files_in(folder):
    """Of the store's folder and of where relative names lead, but for the log, which comes and goes."""
    return sorted(path for place in (folder, ".") for path in Path(place).iterdir() if path.suffix != ".wal")


@pytest.mark.parametrize("sql", ATTACKS)
def test_everything_else_is_refused_and_changes_nothing(store, sql):
    a_python_variable = pa.table({"a": [1]})
    folder = store.path.rpartition("/")[0]
    before = files_in(folder)
    with pytest.raises(PermanentError):
        store.query(sql.replace("{folder}", folder))
    assert a_python_variable.num_rows
    assert store.query("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 1}]
    assert files_in(folder) == before
    assert store.query("SELECT title FROM events").to_pylist() == [{"title": "t"}]


@pytest.mark.parametrize("sql", ["DELETE FROM events", "SET threads = 2", "COPY events TO '/tmp/x'"])
def test_the_database_itself_refuses_what_would_get_past_the_first_check(store, sql):
    cursor = store.cursor()
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY").fetchall()
        with pytest.raises(Exception, match=r"read-only|locked|disabled"):
            cursor.execute(sql).fetchall()
            cursor.execute("COMMIT").fetchall()
    finally:
        cursor.close()


def test_parameters_are_values_of_their_types(store):
    rows = store.query(
        "SELECT $n + 1 AS n, $at - INTERVAL 1 DAY AS at, $names AS names",
        {"n": 1, "at": datetime(2026, 1, 2), "names": ["a"]},
    )
    assert rows.to_pylist() == [{"n": 2, "at": datetime(2026, 1, 1), "names": ["a"]}]


@pytest.mark.parametrize("value", ["340282366920938463463374607431768211455::UHUGEINT", "'10:00:00+02'::TIMETZ"])
def test_a_value_that_arrow_would_change_is_refused_with_the_fix(store, value):
    for _ in range(3):
        with pytest.raises(PermanentError, match="cast it"):
            store.query(f"SELECT {value} AS x")
        assert store.query(f"SELECT ({value})::VARCHAR AS x").num_rows == 1


def test_a_missing_parameter_is_named(store):
    with pytest.raises(PermanentError, match=r"team|parameter"):
        store.query("SELECT * FROM events WHERE title = $team")


def test_a_query_that_takes_too_long_is_stopped(store):
    door = SqlDoor(store.cursor, timeout_seconds=0.2)
    with pytest.raises(RetryableError, match=r"over 0\.2 s"):
        door.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
    assert door.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_query_that_is_late_after_its_first_rows_is_stopped_all_the_same(store):
    door = SqlDoor(store.cursor, timeout_seconds=0.2)
    with pytest.raises(RetryableError, match=r"over 0\.2 s"):
        door.query(ENDLESS_ROWS)


ENDLESS_ROWS = "SELECT a.range AS x FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"
LATE_CAST = "SELECT CASE WHEN range = 200000 THEN ('a' || range)::INTEGER ELSE 1 END AS x FROM range(300000)"


def test_an_error_after_the_first_rows_is_the_senders_like_one_before_them(store):
    with pytest.raises(PermanentError, match="Could not convert string 'a200000'"):
        store.query(LATE_CAST)


def test_memory_that_ends_after_the_first_rows_is_not_the_senders_fault(store):
    error = OSError("Out of Memory Error: failed to allocate data of size 16.0 MiB")
    assert isinstance(SqlDoor(store.cursor)._explained(error, threading.Event()), RetryableError)
    assert isinstance(
        SqlDoor(store.cursor)._explained(pa.ArrowMemoryError("malloc"), threading.Event()), RetryableError
    )


def test_whoever_leaves_after_the_first_rows_stops_the_query(store):
    asker, ended = Asker(), threading.Event()

    def leave_until_it_has_ended():
        while not ended.wait(0.05):
            if asker.stop is not None:
                asker.leave()

    thread = threading.Thread(target=leave_until_it_has_ended)
    thread.start()
    try:
        with pytest.raises(RetryableError, match="taken back"):
            SqlDoor(store.cursor).query(ENDLESS_ROWS, asker=asker)
    finally:
        ended.set()
        thread.join()


def test_a_query_in_time_is_not_stopped_later(store):
    door = SqlDoor(store.cursor, timeout_seconds=30)
    door.query("SELECT 1")
    assert [
        one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()
    ] == []


def test_a_larger_answer_than_allowed_is_refused(store):
    with pytest.raises(PermanentError, match="over 1000 rows"):
        SqlDoor(store.cursor, rows_limit=1000).query("SELECT * FROM range(1001)")
    with pytest.raises(PermanentError, match="bytes"):
        SqlDoor(store.cursor, bytes_limit=1000).query("SELECT * FROM range(1001)")
    assert SqlDoor(store.cursor, rows_limit=1000).query("SELECT * FROM range(1000)").num_rows == 1000


def test_closing_stops_what_runs_and_lets_nothing_more_in(store):
    door = SqlDoor(store.cursor)
    failures = []

    def ask():
        try:
            door.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
        except RetryableError as error:
            failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 10
    while thread.is_alive() and time.monotonic() < deadline:
        door.close()
        thread.join(0.05)
    assert failures
    assert "stopping" in failures[0]
    with pytest.raises(RetryableError, match="stopping"):
        door.query("SELECT 1")


HARMLESS = {
    "current_connection_id", "current_query", "current_query_id", "current_transaction_id", "currval", "error",
    "gen_random_uuid", "random", "setseed", "sleep_ms", "txid_current",
    "uuid", "uuidv4", "uuidv7", "vector_type",
}  # fmt: skip
"""Volatile, for each call gives another value or waits; `setseed` is of a connection that ends with the question."""


def test_every_function_that_does_more_than_compute_is_refused_or_known_to_be_harmless():
    with closing(duckdb.connect()) as connection:
        found = connection.sql("SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'")
        volatile = {name for (name,) in found.fetchall()}
    assert volatile - HARMLESS <= REFUSED_FUNCTIONS
    assert {"nextval", "setval"} <= REFUSED_FUNCTIONS
