"""A collector on a small real data file, and the boards on that collector: both as processes, as people run them."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.dashboards.synthetic import write_fleet
from tests.ui.watching import browser

START_SECONDS = 60


class Command:
    """A running `fleetmeter` command, whose address is read from what it says."""

    def __init__(self, log, *arguments: str) -> None:
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleetmeter", *arguments], stdout=sink, stderr=sink, env=os.environ
            )

    def address(self, pattern: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.log.read_text()):
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(f"it did not start:\n{self.log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


@pytest.fixture(scope="module")
def collector(tmp_path_factory, now):
    folder = tmp_path_factory.mktemp("collector")
    write_fleet(folder / "fleetmeter.duckdb", now, hours=15 * 24, per_minute=3)
    ports = ["--api-port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0"]
    command = Command(folder / "log", "collect", "--data-dir", str(folder), *ports)
    try:
        yield command.address(r"api=(http://\S+)")
    finally:
        command.stop()


@pytest.fixture(scope="module")
def boards(tmp_path_factory, collector):
    log = tmp_path_factory.mktemp("boards") / "log"
    nobody = "http://127.0.0.1:9"
    command = Command(log, "dash", "--url", collector, "--alerts-url", nobody, "--port", "0", "--headless")
    try:
        yield command.address(r"dashboards on (http://\S+)")
    finally:
        command.stop()


@pytest.fixture(scope="module")
def query(collector):
    """Ask as a person would: `fleetmeter query`."""

    def ask(sql: str, **parameters) -> dict:
        given = [part for name, value in parameters.items() for part in ("--param", f'{name}="{value}"')]
        command = [sys.executable, "-m", "fleetmeter", "query", sql, *given, "--url", collector, "--format", "json"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        rows = json.loads(answer.stdout)
        return rows[0] if isinstance(rows, list) else rows["rows"][0]

    return ask


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running
