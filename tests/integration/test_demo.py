"""The main job, end to end, as a user would start it: one command, real processes, sample input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from analytics.simulator.otlp import to_otlp
from collector.client import HttpClient
from stack.demo_input import PROTOBUF, Door, LiveFleet, land_past, utc_now
from stack.demo_plan import DemoConfig, parts, prepare
from stack.ports import Ports
from stack.supervisor import Supervisor

pytestmark = pytest.mark.slow


def demo(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "fleetmeter", "demo", "--data-dir", str(folder), *flags],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_one_command_goes_from_nothing_to_a_delivered_alert(tmp_path: Path, free_ports: Ports) -> None:
    ran = demo(tmp_path / "demo", "--once", "--days", "2", "--ports-from", str(free_ports.otlp_http))
    assert ran.returncode == 0, ran.stderr
    summary = json.loads(ran.stdout)
    assert "FIRING   page" in ran.stderr
    assert summary["rows"]["requests"] > 10_000
    assert {"simulator", "vllm_exporter"} <= set(summary["requests_by_source"])
    assert summary["cost"]["parts_sum_to_the_bill"]
    assert summary["cost"]["unpriced"] == []
    firing = [alert for alert in summary["alerts"] if alert["state"] == "firing" and alert["severity"] == "page"]
    assert any(alert["labels"].get("model") == "llama-3.3-70b" for alert in firing)
    assert all(status == "delivered" for alert in firing for status in alert["deliveries"].values())


def test_a_port_in_use_is_named_with_the_fix(tmp_path: Path, free_ports: Ports) -> None:
    import socket

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", free_ports.dashboards))
        taken.listen()
        ran = demo(tmp_path / "demo", "--once", "--days", "1", "--ports-from", str(free_ports.otlp_http))
    assert ran.returncode == 2
    assert f"dashboards {free_ports.dashboards}" in ran.stderr
    assert "--ports-from" in ran.stderr
    assert not (tmp_path / "demo").exists()


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path, free_ports: Ports) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    ran = demo(tmp_path, "--once", "--days", "1", "--ports-from", str(free_ports.otlp_http))
    assert ran.returncode == 2
    assert "not empty" in ran.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_a_collector_killed_during_the_replay_loses_and_doubles_nothing(tmp_path: Path, free_ports: Ports) -> None:
    config = DemoConfig(days=1, seed=3, ports=free_ports, data_dir=tmp_path / "demo", browser=False)
    prepare(config)
    supervisor = Supervisor(config.data_dir / "logs", print)
    collector = parts(config)["collector"]
    supervisor.start(collector)
    try:
        supervisor.wait_ready(collector)
        door = Door(HttpClient(config.api_url), config.otlp_url, supervisor.tend)
        past = LiveFleet(config.seed, config.days, utc_now()).until(utc_now())
        requests = past.pop("requests").slice(0, 12_000)
        land_past(door, past)
        bodies = to_otlp(requests)
        for number, body in enumerate(bodies):
            door.post(f"{door.otlp_url}/v1/traces", body, PROTOBUF)
            if number in (3, len(bodies) // 2, len(bodies) - 1):
                os.kill(supervisor.pid("collector"), signal.SIGKILL)
        expected = {"n": requests.num_rows, "keys": requests.num_rows, "tokens": token_sum(requests)}
        assert settled(door, expected) == expected
        door.close()
    finally:
        supervisor.stop()


def token_sum(requests: pa.Table) -> int:
    return sum(value for value in requests["output_tokens"].to_pylist() if value)


def settled(door: Door, expected: dict[str, int]) -> dict[str, int]:
    """What `requests` holds once the collector is back and has landed its spool."""
    sql = (
        "SELECT count(*) AS n, count(DISTINCT (trace_id, span_id)) AS keys, sum(output_tokens)::BIGINT AS tokens "
        "FROM requests"
    )
    deadline = time.monotonic() + 60
    found: dict[str, int] = {}
    while time.monotonic() < deadline and found != expected:
        found = door.patiently(lambda: door.client.query(sql)).to_pylist()[0]
        time.sleep(0.2)
    return found
