"""`fleetmeter up`: one line a part, no start beside another stack, and the exit code of each way to end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.ports import Ports


def configured(folder: Path, ports: Ports) -> Path:
    file = folder / "fleet.yaml"
    file.write_text(
        f"collector: {{api_port: {ports.api}, otlp_http_port: {ports.otlp_http}, otlp_grpc_port: {ports.otlp_grpc}}}\n"
        f"alerts: {{port: {ports.alerts}, collector_url: 'http://127.0.0.1:{ports.api}'}}\n"
        f"dashboards: {{port: {ports.dashboards}, collector_url: 'http://127.0.0.1:{ports.api}'}}\n"
    )
    return file


@contextmanager
def running(folder: Path, file: Path) -> Iterator[subprocess.Popen[str]]:
    command = (sys.executable, "-P", "-m", "fleetmeter", "up", "--config", str(file))
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_says_where_each_part_is_and_ends_in_order(
    tmp_path: Path, free_ports: Ports, number: signal.Signals, code: int
) -> None:
    with running(tmp_path, configured(tmp_path, free_ports)) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(4)]
        process.send_signal(number)
        assert process.wait(30) == code
    assert f"dashboards is ready: http://127.0.0.1:{free_ports.dashboards}\n" in lines


def test_it_does_not_take_another_collector_for_its_own(tmp_path: Path, free_ports: Ports) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", free_ports.api))
        other.listen()
        with running(tmp_path, configured(tmp_path, free_ports)) as process:
            _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"can't listen on 127.0.0.1:{free_ports.api} (collector.api_port)" in told
    assert "is ready" not in told
