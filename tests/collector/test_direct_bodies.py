"""Bodies that a connection takes itself are answered as those that go over ASGI, and nothing of HTTP is lost by it."""

import asyncio
import contextlib
import gzip
import hashlib
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cramjam
import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from collector.config import CollectorConfig
from collector.listeners import http_server, listening, not_found
from collector.pipeline import Pipeline
from collector.receivers.direct_bodies import DirectBodies, DirectProtocol
from collector.receivers.intake import Intake
from collector.receivers.otlp_http import OtlpHttp
from collector.remote_write_messages import WriteRequest
from collector.testing import running_collector, span_message, traces_body
from collector.tokens import Tokens

PLAIN = "application/x-protobuf"
NOW_MS = 1_790_000_000_000
GOOD = {"content-type": PLAIN, "authorization": "Bearer writer"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    rights = {"writer": ["write"], "reader": ["read", "write"], "looker": ["read"]}
    tokens = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "may": may} for name, may in rights.items()
    ]
    file = folder / "tokens.yaml"
    file.write_text(yaml.safe_dump({"tokens": tokens}))
    variables = {
        "FLEETMETER__COLLECTOR__TOKENS_FILE": str(file), "FLEETMETER__COLLECTOR__MAX_BODY_BYTES": str(2**20),
    }  # fmt: skip
    with running_collector(folder / "data", **variables) as process:
        yield process


@pytest.fixture
def connect(collector):
    """Open a connection to the OTLP port."""
    opened = []

    def open_one():
        host, port = collector.otlp_http.removeprefix("http://").rsplit(":", 1)
        opened.append(socket.create_connection((host, int(port)), timeout=60))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def request(body, headers, *, chunked=False, path="/v1/traces"):
    lines = [f"POST {path} HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in headers.items())]
    if chunked:
        lines.append("transfer-encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    else:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answer(read):
    """One answer: its status line, its headers, its body."""
    status, headers = read.readline(), {}
    while (line := read.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b": ")
        headers[name] = value.strip() if name != b"date" else b"some day"
    return status, headers, read.read(int(headers.get(b"content-length", 0)))


SPANS = traces_body(*(span_message(number, {"infer.request.outcome": "ok"}) for number in range(1, 20)))
PARTLY = traces_body(span_message(50), span_message(51, trace_id=b"short"))
CASES = {
    "taken": (SPANS, {}),
    "gzip": (gzip.compress(SPANS), {"content-encoding": "gzip"}),
    "empty": (b"", {}),
    "taken in part": (PARTLY, {}),
    "no protobuf": (b"\xff" * 40, {}),
    "no gzip": (SPANS, {"content-encoding": "gzip"}),
    "torn gzip": (gzip.compress(SPANS)[:-9], {"content-encoding": "gzip"}),
    "a bomb": (gzip.compress(bytes(2**22)), {"content-encoding": "gzip"}),
    "an unknown encoding": (SPANS, {"content-encoding": "lz4"}),
    "no type": (SPANS, {"content-type": ""}),
    "JSON": (b"{}", {"content-type": "application/json"}),
    "no token": (SPANS, {"authorization": ""}),
    "an unknown token": (SPANS, {"authorization": "Bearer nobody"}),
    "a token that may only read": (SPANS, {"authorization": "Bearer looker"}),
    "the last of two names": (SPANS, {"connection": "close"}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_the_same_answer(connect, case):
    body, headers = CASES[case]
    answers = []
    for chunked in (False, True):
        connection = connect()
        connection.sendall(request(body, GOOD | headers, chunked=chunked))
        answers.append(answer(connection.makefile("rb")))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("case", CASES)
def test_a_request_whose_head_is_known_gets_the_same_answer(connect, case):
    body, headers = CASES[case]
    content, read = request(body, GOOD | headers), None
    answers = []
    for _ in range(4):
        if read is None or answers[-1][1].get(b"connection") == b"close":
            connection = connect()
            read = connection.makefile("rb")
        connection.sendall(content)
        answers.append(answer(read))
    assert answers[1:] == answers[:1] * 3


FIRST = {"content-type": PLAIN, "content-encoding": "snappy", "authorization": "Bearer writer"}
SECOND = FIRST | {"content-type": f"{PLAIN};proto=io.prometheus.write.v2.Request"}


def write_body(*names):
    message = WriteRequest()
    for name in names:
        one = message.timeseries.add()
        for label in [("job", "j"), *([("__name__", name)] if name else [])]:
            one.labels.add(name=label[0], value=label[1])
        one.samples.add(value=1.0, timestamp=NOW_MS)
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def metrics_body():
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="up")
    metric.gauge.data_points.add(time_unix_nano=NOW_MS * 10**6, as_double=1.0)
    return message.SerializeToString()


OTHERS = {
    "remote write": ("/api/v1/write", write_body("a", "b"), FIRST),
    "remote write 2.0": ("/api/v1/write", bytes(cramjam.snappy.compress_raw(b"\x22\x00")), SECOND),
    "remote write, taken in part": ("/api/v1/write", write_body("a", None), FIRST),
    "no snappy": ("/api/v1/write", b"\xff" * 40, FIRST),
    "no write request": ("/api/v1/write", bytes(cramjam.snappy.compress_raw(b"\xff" * 40)), FIRST),
    "another encoding": ("/api/v1/write", write_body("a"), FIRST | {"content-encoding": "gzip"}),
    "another version": ("/api/v1/write", write_body("a"), FIRST | {"content-type": f"{PLAIN};proto=v3"}),
    "a reader": ("/api/v1/write", write_body("a"), FIRST | {"authorization": "Bearer looker"}),
    "OTLP metrics": ("/v1/metrics", metrics_body(), GOOD),
    "OTLP logs": ("/v1/logs", b"", GOOD),
    "no logs": ("/v1/logs", b"\xff" * 40, GOOD),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_bodies_get_the_same_answer_on_both_ways_and_with_a_known_head(collector, case):
    path, body, headers = OTHERS[case]
    host, port = collector.api.removeprefix("http://").rsplit(":", 1)
    answers = []
    for chunked in (True, False):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            read = connection.makefile("rb")
            for _ in range(1 if chunked else 3):
                connection.sendall(request(body, headers, chunked=chunked, path=path))
                answers.append(answer(read))
    assert answers[1:] == answers[:1] * 3


@pytest.mark.parametrize("size", [1, 7, 500, 10**6])
def test_a_known_head_may_come_before_its_body_and_the_next_one_with_it(connect, size):
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    read, one, refused = connection.makefile("rb"), request(SPANS, GOOD), request(b"\xff", GOOD)
    head = one.index(b"\r\n\r\n") + 4
    for first in (one[:head], one[:head], one):
        connection.sendall(first)
        time.sleep(0.02)
        rest = one[len(first) :] + refused + one
        for at in range(0, len(rest), size):
            connection.sendall(rest[at : at + size])
        statuses = [int(answer(read)[0].split()[1]) for _ in range(3)]
        assert statuses == [200, 400, 200]


def test_a_known_head_with_more_or_less_behind_it_goes_to_the_parser(connect):
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    read, one = connection.makefile("rb"), request(SPANS, GOOD)
    for pieces in ([one], [one], [one + one], [one[:-5], one[-5:]], [one[:30], one[30:]], [one, one], [one]):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        for _ in range(b"".join(pieces).count(b"POST ")):
            assert answer(read)[0] == b"HTTP/1.1 200 OK\r\n"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(connect):
    connection = connect()
    head = request(b"", GOOD | {"content-length": str(2**40)}).replace(b"content-length: 0\r\n", b"")
    connection.sendall(head)
    status, _, _ = answer(connection.makefile("rb"))
    assert status.startswith(b"HTTP/1.1 413 ")


def test_requests_behind_each_other_are_answered_in_order(connect):
    connection = connect()
    several = [(SPANS, False), (PARTLY, True), (PARTLY, False), (b"\xff", False), (SPANS, True), (SPANS, False)]
    connection.sendall(b"".join(request(body, GOOD, chunked=chunked) for body, chunked in several))
    read = connection.makefile("rb")
    found = [(int(status.split()[1]), bool(body)) for status, _, body in (answer(read) for _ in several)]
    assert found == [(200, False), (200, True), (200, True), (400, True), (200, False), (200, False)]


def test_a_request_may_come_in_any_pieces_and_others_between(connect, collector):
    wanted = request(SPANS, GOOD) + request(b"", GOOD, path="/nowhere") + request(SPANS, GOOD)
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(wanted), 97):
        connection.sendall(wanted[at : at + 97])
    read = connection.makefile("rb")
    statuses = [int(answer(read)[0].split()[1]) for _ in range(3)]
    assert statuses == [200, 404, 200]


def test_the_connection_ends_where_the_client_wants_it_to(connect):
    connection = connect()
    connection.sendall(request(SPANS, GOOD | {"connection": "close"}))
    status, headers, _ = answer(connection.makefile("rb"))
    assert status == b"HTTP/1.1 200 OK\r\n" and headers[b"connection"] == b"close"
    assert connection.recv(1) == b""


class Serving:
    """A whole way from a connection to the tables in this process, which counts what goes over ASGI."""

    def __init__(self, data_dir, tokens):
        self.tokens = tokens
        self.heads_parsed = 0
        self.threads = ThreadPoolExecutor(1)
        self.pipeline = Pipeline(CollectorConfig(data_dir=data_dir, trace_decoder="reference"), print)
        self.over_asgi = 0

    async def __aenter__(self):
        pipeline = self.pipeline
        pipeline.start()
        self.intake = Intake(
            pipeline.spool, self.threads, self.threads, pipeline.traces, pipeline.metrics, max_body_bytes=2**20
        )
        otlp = OtlpHttp(self.intake, self.tokens, pipeline.metrics, not_found)

        async def counted(scope, receive, send):
            self.over_asgi += 1
            await otlp(scope, receive, send)

        self.stack = contextlib.AsyncExitStack()
        listener = self.stack.enter_context(listening("127.0.0.1", 0, "otlp_http_port"))
        self.direct = DirectBodies(otlp.routes(), self.intake, self.tokens, pipeline.metrics)
        begin = self.direct.begin

        def begun(*head):
            self.heads_parsed += 1
            return begin(*head)

        self.direct.begin = begun
        self.server = http_server(counted, protocol=partial(DirectProtocol, self.direct))
        self.running = asyncio.create_task(self.server.serve(sockets=[listener]))
        self.address = listener.getsockname()
        while not self.server.started:
            await asyncio.sleep(0.005)
        return self

    async def __aexit__(self, *error):
        self.server.should_exit = True
        await self.running
        await self.stack.aclose()
        await asyncio.to_thread(self.pipeline.close)
        self.threads.shutdown()

    async def ask(self, content):
        """Send, and return the status of the answer and the connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1]), writer

    async def until_held(self, bytes_count):
        while self.intake.room.held_bytes != bytes_count:
            await asyncio.sleep(0.005)


def under_a_server(data_dir, story, tokens=None):
    async def run():
        async with asyncio.timeout(60), Serving(data_dir, tokens or Tokens(None)) as server:
            await story(server)

    asyncio.run(run())


def test_plain_requests_skip_the_framework_and_odd_ones_do_not(data_dir):
    async def story(server):
        for content, over_asgi in (
            (request(SPANS, GOOD), 0),
            (request(PARTLY, GOOD), 0),
            (request(b"\xff", GOOD), 0),
            (request(SPANS, GOOD, chunked=True), 1),
            (request(SPANS, GOOD | {"expect": "100-continue"}), 2),
            (request(SPANS, GOOD | {"content-type": "text/plain"}), 3),
            (request(SPANS, GOOD, path="/v1/traces?x=1"), 4),
        ):
            _, writer = await server.ask(content)
            writer.close()
            assert server.over_asgi == over_asgi

    under_a_server(data_dir, story)


def test_a_head_is_parsed_once_and_its_token_is_looked_at_every_time(data_dir, tmp_path):
    file = tmp_path / "tokens.yaml"

    def let_in(*names):
        tokens = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in names]
        file.write_text(yaml.safe_dump({"tokens": tokens}))

    let_in("writer")
    clock = [0.0]

    async def story(server):
        reader, writer = await asyncio.open_connection(*server.address)

        async def ask(body):
            writer.write(request(body, GOOD))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            return int(head.split()[1])

        assert [await ask(SPANS) for _ in range(3)] == [200] * 3
        assert (len(server.direct._known), server.heads_parsed) == (1, 1)
        assert [await ask(PARTLY) for _ in range(2)] == [200] * 2
        assert (len(server.direct._known), server.heads_parsed) == (2, 2)
        let_in("somebody else")
        clock[0] += 10.0
        assert await ask(SPANS) == 401
        assert server.over_asgi == 1
        writer.close()

    under_a_server(data_dir, story, Tokens(file, clock=lambda: clock[0]))


def without(head_of):
    return head_of[: head_of.index(b"\r\n\r\n") + 4]


def test_the_tail_of_a_head_and_empty_lines_are_learned_as_no_head(data_dir):
    """Else one client could say how another's requests are read."""

    async def story(server):
        usual, other = request(SPANS, GOOD | {"user-agent": "somebody"}), request(PARTLY, GOOD)
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(other + b"POST /v1/logs HTTP/1.1\r\ncontent-encoding: gzip\r\nx-junk: ")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(usual)
        await asyncio.sleep(0.05)
        assert without(usual) not in server.direct._known
        writer.close()
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"\r\n\r\n" + usual)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert all(head.startswith(b"POST ") for head in server.direct._known)
        writer.close()

    under_a_server(data_dir, story)


def test_a_head_is_not_learned_with_what_stands_in_the_next_one(data_dir, tmp_path):
    file = tmp_path / "tokens.yaml"
    hashed = hashlib.sha256(b"writer").hexdigest()
    token = {"name": "writer", "sha256": hashed, "write_bytes_per_second": 10.0}
    file.write_text(yaml.safe_dump({"tokens": [token]}))

    async def story(server):
        refused = request(SPANS, GOOD)
        behind = request(b"x" * 1000, GOOD).replace(b"content-length: 1000", b"content-length: 500000")
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(request(SPANS * 3, GOOD))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refused + behind)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        assert server.direct._known.get(without(refused)) is None
        writer.close()

    under_a_server(data_dir, story, Tokens(file))


@pytest.mark.parametrize("kind", ["traces", "metrics"])
def test_a_disk_that_does_not_answer_is_a_503_and_the_next_body_is_taken(data_dir, monkeypatch, kind):
    body = {"traces": SPANS, "metrics": metrics_body()}[kind]

    async def story(server):
        spool = server.pipeline.spool

        def failing(path):
            raise OSError(116, "Stale file handle")

        for broken in ({"statvfs": failing}, {}):
            spool._asked_at = -1e9
            with monkeypatch.context() as patch:
                for name, what in broken.items():
                    patch.setattr(os, name, what)
                status, writer = await server.ask(request(body, GOOD, path=f"/v1/{kind}"))
            writer.close()
            assert status == (503 if broken else 200)
        with monkeypatch.context() as patch:
            patch.setattr(spool, "put_all", lambda records: 1 // 0)
            status, writer = await server.ask(request(body, GOOD, path=f"/v1/{kind}"))
        writer.close()
        assert status == 503
        status, writer = await server.ask(request(body, GOOD, path=f"/v1/{kind}"))
        writer.close()
        assert status == 200
        await server.until_held(0)

    under_a_server(data_dir, story)


def test_what_a_client_leaves_behind_gives_its_room_back(data_dir):
    async def story(server):
        whole = request(SPANS, GOOD)
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(whole[:-10])
        await server.until_held(len(SPANS))
        writer.close()
        await server.until_held(0)
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(whole)
        writer.transport.abort()
        status, writer = await server.ask(whole)
        assert status == 200
        await server.until_held(0)
        writer.close()

    under_a_server(data_dir, story)


def test_without_room_the_answer_is_to_come_again(data_dir):
    async def story(server):
        server.intake.room.held_bytes = server.intake.room.limit_bytes
        status, writer = await server.ask(request(SPANS, GOOD))
        assert status == 503
        writer.close()
        server.intake.room.held_bytes = 0

    under_a_server(data_dir, story)


def test_a_defect_of_ours_is_a_500_and_the_connection_goes_on(data_dir):
    async def story(server):
        server.pipeline.traces.close()
        status, writer = await server.ask(request(SPANS, GOOD))
        assert status == 503  # stopping
        writer.close()
        server.intake._traces = None
        status, writer = await server.ask(request(SPANS, GOOD))
        assert status == 500
        await server.until_held(0)
        writer.close()

    under_a_server(data_dir, story)
