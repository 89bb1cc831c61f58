"""A file of an earlier fleetmeter is migrated in place with its rows; what can't be opened says why and what to do."""

import shutil
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from collector.file_store import FileStore
from collector.migrations import apply_migration
from collector.table_contracts import schema_files


@pytest.fixture
def old_file(tmp_path) -> Path:
    """A file as the first release made it (schema 007), with rows."""
    path = tmp_path / "fleetmeter.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMP)"
        )
        for file in schema_files():
            if int(file.name[:3]) <= 7:
                apply_migration(connection, file)
        connection.execute(
            "INSERT INTO requests (trace_id, span_id, started_at, outcome, source, estimated, model, input_tokens) "
            "SELECT printf('%032x', i), printf('%016x', i), TIMESTAMP '2026-01-01' + to_minutes(i), 'ok', 'test', "
            "false, 'm', 10 FROM range(500) t(i)"
        )
        connection.execute("INSERT INTO metric_points VALUES (1, '2026-01-01', 0.5)")
    return path


def test_an_old_file_opens_and_migrates_in_place_with_its_rows(old_file):
    for _ in range(2):
        store = FileStore(old_file, threads=1)
        row = store.query(
            "SELECT count(*) AS n, sum(input_tokens)::BIGINT AS tokens, count(http_status) AS new FROM requests"
        )
        assert row.to_pylist() == [{"n": 500, "tokens": 5000, "new": 0}]
        assert store.query("SELECT sum(requests_count)::BIGINT AS n FROM request_hours")["n"].to_pylist() == [500]
        assert store.query("SELECT count(*) AS n FROM schema_migrations")["n"].to_pylist() == [len(schema_files())]
        store.compact(datetime(2026, 2, 1), archive_after_days=1)
        store.close()


def test_an_old_file_is_migrated_by_command(old_file, cli):
    ran = cli("query", "--db", old_file, "SELECT 1")
    assert ran.code == 2
    assert "made by an earlier fleetmeter (it lacks 008_" in ran.err
    assert f"fleetmeter store migrate --db {old_file}" in ran.err
    ran = cli("store", "migrate", "--db", old_file)
    assert ran.code == 0
    assert ran.out.splitlines()[0] == "008_request_identity_and_steps.sql"
    assert (
        cli("query", "--db", old_file, "--format", "csv", "SELECT count(*) FROM judged_requests").out.split()[-1]
        == "500"
    )
    ran = cli("store", "migrate", "--db", old_file)
    assert (ran.code, ran.out) == (0, "") and "up to date" in ran.err


@pytest.mark.parametrize("words", [("slo", "status"), ("drift", "scan"), ("cost", "report")], ids=" ".join)
def test_commands_that_read_an_old_file_say_what_to_do(old_file, cli, words):
    ran = cli(*words, "--db", old_file)
    assert (ran.code, ran.out) == (2, "")
    assert "fleetmeter store migrate" in ran.err


def test_a_file_of_a_later_fleetmeter_is_refused_by_every_door(old_file, cli):
    with duckdb.connect(str(old_file)) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (999, 'later', now()::TIMESTAMP)")
    before = old_file.read_bytes()
    for words in (("query", "SELECT 1"), ("store", "migrate")):
        ran = cli(*words, "--db", old_file)
        assert ran.code == 2
        assert "the database is at schema 999" in ran.err and "later version" in ran.err
    assert old_file.read_bytes() == before


def test_a_duckdb_file_of_somebody_else_is_refused_untouched(tmp_path, cli):
    path = tmp_path / "theirs.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE requests (a INTEGER)")
    before = path.read_bytes()
    for words in (("query", "SELECT 1"), ("store", "migrate")):
        ran = cli(*words, "--db", path)
        assert ran.code == 2 and "no database of fleetmeter" in ran.err
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(old_file, tmp_path):
    from collector.errors import PermanentError

    copy = tmp_path / "copy.duckdb"
    shutil.copy(old_file, copy)
    with duckdb.connect(str(copy)) as connection:
        connection.execute("DROP VIEW judged_requests")
    with pytest.raises(PermanentError, match="schema 008_"):
        FileStore(copy)
    with duckdb.connect(str(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM requests").fetchall() == [(500,)]
        assert connection.execute("SELECT max(version) FROM schema_migrations").fetchall() == [(7,)]
