"""For tests of any part: a real collector process on free ports, and messages to send to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from collector.client import HttpClient

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


@dataclass(slots=True)
class CollectorProcess:
    """A running `fleetmeter collect`."""

    data_dir: Path
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    api: str = ""
    """Address of the API, http://127.0.0.1:…"""
    otlp_http: str = ""
    """Address of OTLP/HTTP."""
    otlp_grpc: str = ""
    """host:port of OTLP/gRPC."""
    lines: list[str] = field(default_factory=list)
    """What it wrote to stderr."""
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None

    def start(self) -> CollectorProcess:
        """Start it and wait until it listens."""
        ports = ("--api-port", "0", "--otlp-http-port", "0", "--otlp-grpc-port", "0")
        command = (sys.executable, "-m", "fleetmeter", "collect", "--data-dir", str(self.data_dir), *ports, *self.flags)
        environment = {**os.environ, **self.environment}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        listening = threading.Event()
        self.reader = threading.Thread(target=self._read, args=(self.process, listening), daemon=True)
        self.reader.start()
        deadline = time.monotonic() + START_SECONDS
        while not listening.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the collector did not start:\n" + "".join(self.lines))
        return self

    def wait_until(self, sql: str, expected: Any, *, seconds: float = 30.0) -> None:
        """Ask until the first value of the first row is as expected."""
        deadline = time.monotonic() + seconds
        while (found := self.value(sql)) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"{sql} gives {found!r}, not {expected!r}\n" + "".join(self.lines[-20:]))
            time.sleep(0.02)

    def wait_ready(self, *, seconds: float = 180.0) -> None:
        """Wait until it is ready and the spool of the last run is landed."""
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise AssertionError("the collector does not get ready:\n" + "".join(self.lines[-20:]))
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.api}/readyz", timeout=ANSWER_SECONDS)
            return answer.status_code == 200 and self.metric("fleetmeter_replaying ") == 0
        except httpx.TransportError:
            return False

    def value(self, sql: str) -> Any:
        """Return the first value of a query's first row."""
        with contextlib.closing(HttpClient(self.api)) as client:
            return next(iter(client.query(sql).to_pylist()[0].values()))

    def metric(self, line_start: str) -> float:
        """Return a value of the collector's own /metrics by the start of its line; 0 where there is no such line."""
        for line in httpx.get(f"{self.api}/metrics", timeout=ANSWER_SECONDS).text.splitlines():
            if line.startswith(line_start):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def kill(self) -> None:
        """Kill -9: nothing can be tidied up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 30.0) -> int:
        """Stop it as a supervisor would; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        if self.reader is not None:
            self.reader.join()
        return code

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.lines.append(line)
                if " listening " in line:
                    found = dict(re.findall(r"(api|otlp_http|otlp_grpc)=(\S+)", line))
                    self.api, self.otlp_http, self.otlp_grpc = found["api"], found["otlp_http"], found["otlp_grpc"]
                    listening.set()


@contextlib.contextmanager
def running_collector(data_dir: Path, *flags: str, **environment: str) -> Iterator[CollectorProcess]:
    """Run a collector on free ports for a while.

    Args:
        data_dir: its data folder.
        flags: more flags of `fleetmeter collect`.
        environment: more of its environment, e.g. FLEETMETER__COLLECTOR__SPOOL_LIMIT_BYTES="1000".
    """
    collector = CollectorProcess(data_dir, flags, environment).start()
    try:
        yield collector
    finally:
        try:
            collector.stop()
        except subprocess.TimeoutExpired:
            collector.kill()


def dead_letters(data_dir: Path) -> list[dict[str, Any]]:
    """Return every dead letter of a collector."""
    files = sorted((data_dir / "dead_letters").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def any_value(value: Any) -> AnyValue:
    """Return a Python value as OTLP has it."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
    return AnyValue(string_value=value)


def key_values(attributes: dict[str, Any]) -> list[KeyValue]:
    """Return attributes as OTLP has them."""
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def span_message(number: int = 1, attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return the fields of one span whose ids follow from a number; `fields` replace any of them."""
    started = 1_790_000_000_000_000_000 + number * 1_000_000
    span = {
        "trace_id": number.to_bytes(16),
        "span_id": number.to_bytes(8),
        "name": "chat",
        "start_time_unix_nano": started,
        "end_time_unix_nano": started + 1_500_000_000,
        "attributes": key_values(attributes or {}),
    }
    return {**span, **fields}


def traces_body(*spans: dict[str, Any], resource: dict[str, Any] | None = None, scope: str = "test") -> bytes:
    """Return an OTLP traces body with these spans."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.extend(key_values(resource or {}))
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = scope
    for span in spans:
        scope_spans.spans.add(**span)
    return bytes(request.SerializeToString())
