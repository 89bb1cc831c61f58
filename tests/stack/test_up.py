"""`fleetmeter up`: one line a part, no start beside another stack, and the exit code of each way to end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest

from stack.ports import Ports, taken_of


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


def heard(process: subprocess.Popen[str]) -> Queue[str]:
    """The lines that it writes to stderr, as they come."""
    lines: Queue[str] = Queue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_says_where_each_part_is_and_ends_in_order(
    tmp_path: Path, free_ports: Ports, number: signal.Signals, code: int
) -> None:
    with running(tmp_path, configured(tmp_path, free_ports)) as process:
        told = heard(process)
        lines = [told.get(timeout=200) for _ in range(4)]
        process.send_signal(number)
        assert told.get(timeout=60) == "ending …\n"
        for another in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(another)
        assert process.wait(90) == code
    assert taken_of(free_ports) == [], "a part is left alive"
    assert f"dashboards is ready: http://127.0.0.1:{free_ports.dashboards}\n" in lines


def test_it_does_not_take_another_collector_for_its_own(tmp_path: Path, free_ports: Ports) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", free_ports.api))
        other.listen()
        with running(tmp_path, configured(tmp_path, free_ports)) as process:
            _, told = process.communicate(timeout=90)
    assert process.returncode == 2
    assert f"can't listen on 127.0.0.1:{free_ports.api} (collector.api_port)" in told
    assert "is ready" not in told
