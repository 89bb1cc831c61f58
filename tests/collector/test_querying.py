"""`fleetmeter query`: SQL from the line, a file or stdin; typed parameters; every error with its exit code."""

import contextlib
import io
import json
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from collector.client import FileClient


@pytest.fixture
def db(tmp_path):
    FileClient(tmp_path / "x.duckdb", write=True).close()
    return tmp_path / "x.duckdb"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5", 5),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("search", "search"),
        ('"5"', "5"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_a_parameter_has_the_type_that_it_is_written_in(cli, db, value, expected):
    ran = cli("query", "--db", db, "SELECT $x AS x", "--param", f"x={value}", "--format", "json")
    assert json.loads(ran.out) == [{"x": expected}]


def test_a_time_given_as_text_compares_with_a_timestamp(cli, db):
    sql = "SELECT TIMESTAMP '2025-06-01' >= $since::TIMESTAMP AS later"
    ran = cli("query", "--db", db, sql, "--param", "since=2025-01-01", "--format", "json")
    assert json.loads(ran.out) == [{"later": True}]


def test_the_sql_may_come_from_a_file_or_from_stdin(cli, db, tmp_path, monkeypatch):
    (tmp_path / "q.sql").write_text("-- grain: one row\nSELECT 7 AS n")
    assert json.loads(cli("query", "--db", db, "--file", tmp_path / "q.sql", "--format", "json").out) == [{"n": 7}]
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 8 AS n"))
    assert json.loads(cli("query", "--db", db, "--file", "-", "--format", "json").out) == [{"n": 8}]


def test_a_table_is_data_on_stdout_and_its_row_count_is_not(cli, db):
    ran = cli("query", "--db", db, "SELECT count(*) AS n FROM requests")
    assert ran.out.splitlines() == ["n", "-", "0"]
    assert ran.err == "1 row\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["SELEC 1"], 2, "syntax error"),
        (["SELECT * FROM request"], 2, "requests"),
        (["DROP TABLE requests"], 2, "read-only"),
        (["SELECT $missing"], 2, "missing"),
        ([], 2, "give the SQL, or --file"),
        (["SELECT 1", "--file", "q.sql"], 2, "not both"),
        (["--file", "absent.sql"], 2, "no SQL file at absent.sql"),
        (["SELECT 1", "--param", "x"], 2, "write name=value"),
        (["SELECT 1", "--format", "xml"], 2, "'xml' is not one of"),
    ],
)
def test_a_wrong_question_is_told_and_exits_2(cli, db, words, code, said):
    ran = cli("query", "--db", db, *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err


def test_an_absent_file_exits_2_and_an_absent_collector_3(cli, tmp_path):
    ran = cli("query", "--db", tmp_path / "absent.duckdb", "SELECT 1")
    assert ran.code == 2 and "no database at" in ran.err
    ran = cli("query", "--url", "http://127.0.0.1:1", "SELECT 1")
    assert ran.code == 3 and "no collector answers" in ran.err and "fleetmeter collect" in ran.err


def test_a_reader_that_has_seen_enough_is_no_error(db):
    command = (sys.executable, "-m", "fleetmeter", "query", "--db", str(db), "SELECT range FROM range(200000)")
    with subprocess.Popen([*command, "--format", "csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"range\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_an_arrow_stream_is_bytes_on_stdout(db):
    command = (sys.executable, "-m", "fleetmeter", "query", "--db", str(db), "SELECT 7 AS n", "--format", "arrow")
    ran = subprocess.run(command, capture_output=True, check=True)
    assert pa.ipc.open_stream(ran.stdout).read_all().to_pylist() == [{"n": 7}]


def test_ctrl_c_ends_a_long_query_with_130(db):
    long = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 3"
    command = (sys.executable, "-c", BUSY, "query", "--db", str(db), long)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "asking\n"
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        assert process.returncode == 130, process.stderr.read()
        assert "Traceback" not in process.stderr.read()


BUSY = """
import collector.file_store, fleetmeter, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests behind it lets them ignore it
ask = collector.file_store.FileStore.query
def announced(*words):
    print("asking", flush=True)
    return ask(*words)
collector.file_store.FileStore.query = announced
fleetmeter.main()
"""
"""`fleetmeter`, saying when it asks, so that the interrupt comes while DuckDB is at work."""
