"""The ways out: the command, OTLP, the HTTP load; and what is said where one is closed."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from analytics.simulator.config import FleetConfig
from analytics.simulator.errors import ReceiverError, SimulatorError
from analytics.simulator.fleet import SimulatedFleet
from analytics.simulator.http_load import load_server
from analytics.simulator.otlp import to_otlp
from analytics.simulator.replay import Receiver
from collector.client import FileClient
from engine_exporter import semconv
from tests.analytics.simulator.conftest import END, SMALL, START


class Peer(ThreadingHTTPServer):
    """A server that keeps what it was sent, and answers OTLP with the codes it was told to."""

    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.codes: list[int] = []
        self.bodies: list[bytes] = []
        self.chats: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"data": [{"id": "big", "owned_by": "vllm"}]}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            code = self.server.codes.pop(0) if self.server.codes else 200
            if code == 200:
                self.server.bodies.append(gzip.decompress(body))
            self.answer(code, b"busy")
            return
        chat = json.loads(body)
        self.server.chats.append(chat)
        if chat["max_tokens"] < 1:
            self.answer(400, b"{}")
            return
        self.answer(200, b"".join(b"data: {}\n\n" for _ in range(chat["max_tokens"])) if chat["stream"] else b"{}")

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("fleet") / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    return file


ENDING = ["--end", END.isoformat(), "--days", "0.1"]


def test_the_command_fills_a_database_and_writes_the_truth_beside(cli: Any, small_file: Path, tmp_path: Path) -> None:
    db = tmp_path / "fleet.duckdb"
    ran = cli("simulate", small_file, "--db", db, *ENDING)
    assert ran.code == 0, ran.err
    counts = dict(line.split("\t") for line in ran.out.splitlines())
    client = FileClient(db)
    assert client.query("SELECT count(*) AS n FROM requests")["n"].to_pylist() == [int(counts["requests"])]
    client.close()
    assert pq.read_table(tmp_path / "small-truth" / "truth_shares.parquet").num_rows == int(counts["truth_shares"])
    again = cli("simulate", small_file, "--db", db, *ENDING)
    assert again.out == ran.out, "the same seed and end: the same rows, and none lands twice"
    client = FileClient(db)
    assert client.query("SELECT count(*) AS n FROM requests")["n"].to_pylist() == [int(counts["requests"])]
    client.close()


def test_the_command_writes_parquet(cli: Any, small_file: Path, tmp_path: Path) -> None:
    ran = cli("simulate", small_file, "--out", tmp_path / "out", "--seed", 5, *ENDING)
    assert ran.code == 0, ran.err
    names = {file.stem for file in (tmp_path / "out").glob("*.parquet")}
    assert {"requests", "gpu_samples", "metric_points", "truth_shares", "truth_incidents"} <= names


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["dmeo"], 2, "no preset 'dmeo'; did you mean demo"),
        (["none.yaml"], 2, "none.yaml can't be read"),
        (["demo", "--days", "0"], 2, "days"),
        (["demo", "--end", "tomorrow"], 2, "neither `now` nor an ISO time"),
        (["demo", "--db", "a", "--out", "b"], 2, "exclude each other"),
        (["demo", "--days", "0.01", "--url", "http://127.0.0.1:9"], 3, "no collector answers"),
        (["demo", "--days", "0.01", "--otlp", "http://127.0.0.1:9"], 3, "no OTLP receiver answers"),
        (["demo", "--days", "0.01", "--otlp", "nonsense"], 2, "begin it with http://"),
        (["demo", "--days", "0.01", "--http", "http://127.0.0.1:9"], 3, "no OpenAI-compatible server answers"),
    ],
)
def test_a_closed_door_says_how_to_open_it(
    cli: Any, tmp_path: Path, monkeypatch: Any, words: list[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("simulate", *words)
    assert (ran.code, says in ran.err) == (code, True), ran.err


def test_a_broken_file_names_every_problem(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "surprise": 1, "days": -1}))
    ran = cli("simulate", file)
    assert ran.code == 2 and "surprise" in ran.err and "days" in ran.err
    file.write_text("{")
    assert "is not YAML" in cli("simulate", file).err


def test_otlp_bodies_carry_every_column_of_every_request(fleet: SimulatedFleet) -> None:
    rows = fleet.tables["requests"].slice(0, 1200)
    bodies = to_otlp(rows)
    assert len(bodies) == 3
    seen = {}
    for body in bodies:
        message = ExportTraceServiceRequest.FromString(body)
        spans = [(r, span) for r in message.resource_spans for scope in r.scope_spans for span in scope.spans]
        assert len(spans) <= 512
        for resource, span in spans:
            pairs = [*resource.resource.attributes, *span.attributes]
            values = {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
            seen[span.trace_id.hex(), span.span_id.hex()] = (span, values)
    assert len(seen) == rows.num_rows
    for row in rows.to_pylist():
        span, values = seen[row["trace_id"], row["span_id"]]
        assert span.end_time_unix_nano - span.start_time_unix_nano == round(
            (row["ended_at"] - row["started_at"]).total_seconds() * 1e9
        )
        for attribute in semconv.REQUEST_ATTRIBUTES:
            got = values.get(attribute.name)
            if attribute.type == "strs" and got is not None:
                got = got.values[0].string_value
            assert got == row[attribute.column], attribute.column


def test_otlp_is_sent_again_where_the_receiver_is_busy(fleet: SimulatedFleet, peer: Peer) -> None:
    peer.codes = [503, 429]
    waits: list[float] = []
    body = to_otlp(fleet.tables["requests"].slice(0, 10))[0]
    with Receiver(peer.url, sleep=waits.append) as receiver:
        receiver.send(body)
        assert peer.bodies == [body] and len(waits) == 2
        peer.codes = [400]
        with pytest.raises(SimulatorError, match="answered 400"):
            receiver.send(body)
        peer.codes = [503] * 20
        with pytest.raises(ReceiverError, match="tried 6 times"):
            receiver.send(body)


def test_the_command_sends_otlp(cli: Any, small_file: Path, tmp_path: Path, peer: Peer, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    ran = cli("simulate", small_file, "--otlp", peer.url, *ENDING)
    assert ran.code == 0, ran.err
    sent = sum(
        len(s.spans)
        for body in peer.bodies
        for r in ExportTraceServiceRequest.FromString(body).resource_spans
        for s in r.scope_spans
    )
    assert f"requests\t{sent}" in ran.out
    assert (tmp_path / "small-truth" / "truth_incidents.parquet").is_file()


def test_the_http_load_is_bounded_and_as_long_as_simulated(small: FleetConfig, peer: Peer) -> None:
    counts = load_server(small, 7, START, START + timedelta(hours=2), peer.url + "/v1", requests_most=60, speed=1e6)
    assert sum(counts[name] for name in ("ok", "client_disconnect", "rejected", "error")) == 60 == len(peer.chats)
    assert counts["ok"] > 40 and counts["error"] == 0
    chat = next(chat for chat in peer.chats if chat["stream"])
    assert chat["model"] == "big" and chat["ignore_eos"]
    systems = {c["messages"][0]["content"] for c in peer.chats if len(c["messages"]) == 2}
    assert {len(text.split()) for text in systems} == {1000, 2000}, "requests of one application share their beginning"


def test_the_http_load_wants_a_server_of_this_kind(small: FleetConfig) -> None:
    with pytest.raises(SimulatorError, match="begin it with http://"):
        load_server(small, 7, START, END, "nonsense", requests_most=1)
    with pytest.raises(ReceiverError) as failed:
        load_server(small, 7, START, END, "http://127.0.0.1:9", requests_most=1)
    assert failed.value.exit_code == 3
    assert isinstance(failed.value.__cause__, httpx.HTTPError)
