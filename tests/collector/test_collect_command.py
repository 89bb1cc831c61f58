"""`fleetmeter collect` as a process: exit codes, signals, and messages that say what to do."""

import signal
import socket
import subprocess
import sys

import httpx
import pytest

from collector.testing import running_collector, span_message, traces_body

FREE = ("--api-port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")


def collect(*flags, **environment):
    import os

    command = (sys.executable, "-m", "fleetmeter", "collect", *map(str, flags))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    return done.returncode, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lands_everything_and_ends_it(data_dir, number, code):
    slow = {"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "600"}
    with running_collector(data_dir, **slow) as collector:
        body = traces_body(*(span_message(one) for one in range(1, 50)))
        headers = {"Content-Type": "application/x-protobuf"}
        assert httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=headers).status_code == 200
        assert collector.stop(number) == code
        assert any("stopped unlanded_bytes=0" in line for line in collector.lines)
    with running_collector(data_dir) as collector:
        assert collector.value("SELECT count(*) FROM spans") == 49
        assert any("spool_left bytes=0" in line for line in collector.lines)


@pytest.mark.parametrize("key", ["api-port", "otlp-http-port", "otlp-grpc-port"])
def test_a_port_in_use_is_a_usage_error_that_names_the_flag(data_dir, key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, told = collect("--data-dir", data_dir, *FREE, f"--{key}", port)
    assert code == 2
    assert f"127.0.0.1:{port} can't be listened on" in told
    assert f"--{key}" in told
    assert "Traceback" not in told


def test_a_second_collector_on_the_same_data_says_that_the_first_holds_it(data_dir):
    with running_collector(data_dir):
        code, told = collect("--data-dir", data_dir, *FREE)
    assert code == 3
    assert "held by another process" in told
    assert "Traceback" not in told


def test_a_host_that_is_not_ours_is_a_usage_error(data_dir):
    code, told = collect("--data-dir", data_dir, *FREE, "--host", "203.0.113.1")
    assert (code, "203.0.113.1" in told, "Traceback" in told) == (2, True, False)


def test_a_data_dir_that_is_a_file_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    code, told = collect("--data-dir", tmp_path / "file", *FREE)
    assert (code, "Traceback" in told) == (2, False)
    code, told = collect("--data-dir", tmp_path / "file" / "below", *FREE)
    assert (code, "Traceback" in told) == (2, False)


def test_a_database_that_is_none_is_a_usage_error(data_dir):
    data_dir.mkdir()
    (data_dir / "fleetmeter.duckdb").write_bytes(b"rubbish" * 1000)
    code, told = collect("--data-dir", data_dir, *FREE)
    assert (code, "not a DuckDB file" in told, "Traceback" in told) == (2, True, False)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        ("tokens: [", "not a tokens file"),
        ("tokens: 5", "not a tokens file"),
        ("tokens: [{name: a, sha256: short}]", "not a tokens file"),
        ("just text", "not a tokens file"),
    ],
)
def test_a_bad_tokens_file_is_a_usage_error(data_dir, tmp_path, content, says):
    file = tmp_path / "tokens.yaml"
    if content is not None:
        file.write_text(content)
    code, told = collect("--data-dir", data_dir, *FREE, "--tokens-file", file)
    assert (code, says in told, "Traceback" in told) == (2, True, False)


def test_a_wrong_configuration_is_a_usage_error(data_dir):
    code, told = collect("--data-dir", data_dir, *FREE, FLEETMETER__COLLECTOR__SPOOL_LIMIT_BYTES="lots")
    assert (code, "spool_limit_bytes" in told, "Traceback" in told) == (2, True, False)


def test_the_log_is_one_event_a_line(data_dir):
    with running_collector(data_dir, "--host", "127.0.0.1") as collector:
        collector.stop()
        for line in collector.lines:
            at, level, event, *_ = line.split(" ")
            assert at.endswith("Z")
            assert level in ("info", "warning")
            assert event.strip().isidentifier()
