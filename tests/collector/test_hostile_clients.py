"""Slow, huge and absurd clients: each meets a defined answer, others are served meanwhile, nothing taken is lost."""

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf import json_format

from collector.content_encodings import zstd
from collector.receivers.otlp_grpc import READERS
from collector.receivers.otlp_messages import SIGNALS
from collector.testing import running_collector, span_message, traces_body

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
MIB = 2**20
TRICKLING = Path(__file__).with_name("trickling_clients.py")


def resident_bytes(collector):
    """What the collector has in memory now."""
    fields = Path(f"/proc/{collector.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """One collector that has to stand all of it."""
    with running_collector(tmp_path_factory.mktemp("attacked")) as collector:
        collector.wait_ready()
        yield collector
        assert collector.process.poll() is None


@contextlib.contextmanager
def at_most_more(collector, size):
    """Hold that its memory never grows by more than so many bytes."""
    Path(f"/proc/{collector.process.pid}/clear_refs").write_text("5")  # begins a new VmHWM
    before = resident_bytes(collector)
    yield
    assert most_resident_bytes(collector) - before < size


def most_resident_bytes(collector):
    """The most that it had since that was last reset."""
    for line in Path(f"/proc/{collector.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def send(collector, *numbers, **headers):
    body = traces_body(*map(span_message, numbers))
    return httpx.post(collector.otlp_http + "/v1/traces", content=body, headers={**PROTOBUF, **headers}, timeout=60)


def landed(collector, *numbers):
    ids = ", ".join(f"'{number:032x}'" for number in numbers)
    collector.wait_until(f"SELECT count(*) FROM spans WHERE trace_id IN ({ids})", len(numbers), seconds=120)


@pytest.mark.slow
def test_ten_thousand_clients_that_trickle_leave_room_for_one_that_does_not(attacked):
    port = attacked.otlp_http.rsplit(":", 1)[1]
    command = [sys.executable, str(TRICKLING), port, "10000"]
    with (
        at_most_more(attacked, 512 * MIB),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients,
    ):
        assert clients.stdin is not None and clients.stdout is not None
        assert clients.stdout.readline() == "connected 10000\n"
        for number in range(100, 110):
            assert send(attacked, number).status_code == 200
            clients.stdin.write("trickle\n")
            clients.stdin.flush()
            assert clients.stdout.readline().startswith("sent")
        clients.stdin.close()
    landed(attacked, *range(100, 110))


def test_a_body_of_a_gibibyte_is_refused_before_it_is_read(attacked):
    host, port = attacked.otlp_http.removeprefix("http://").split(":")
    with at_most_more(attacked, 512 * MIB):
        with socket.create_connection((host, int(port)), timeout=60) as client:
            head = f"POST /v1/traces HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-protobuf\r\n"
            client.sendall(f"{head}content-length: {2**30}\r\n\r\n".encode())
            assert client.recv(64).startswith(b"HTTP/1.1 413")
        with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError, RefusedEarly)):
            content = (bytes(MIB) for _ in range(1024))
            answer = httpx.post(attacked.otlp_http + "/v1/traces", content=content, headers=PROTOBUF, timeout=60)
            assert answer.status_code == 413
            raise RefusedEarly
    assert send(attacked, 120).status_code == 200
    landed(attacked, 120)


class RefusedEarly(Exception):
    """The whole of it was answered 413."""


BOMBS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda content: zstd().compress(content),
}


def test_bombs_are_refused_over_http_and_grpc_and_unpack_into_little(attacked):
    with at_most_more(attacked, 480 * MIB):  # one that is unpacked is 512; what came before may still be landing
        for encoding, pack in BOMBS.items():
            bomb = pack(bytes(512 * MIB))
            assert len(bomb) < MIB
            for content_type in ("application/x-protobuf", "application/json"):
                headers = {"Content-Type": content_type, "Content-Encoding": encoding}
                answer = httpx.post(attacked.otlp_http + "/v1/traces", content=bomb, headers=headers, timeout=60)
                assert answer.status_code == 413
        with grpc.insecure_channel(attacked.otlp_grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
            call = channel.unary_unary(EXPORT)
            with pytest.raises(grpc.RpcError) as caught:
                call(bytes(512 * MIB), compression=grpc.Compression.Gzip, timeout=60)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            call(traces_body(span_message(130)), timeout=60)
    landed(attacked, 130)


@pytest.mark.slow
def test_grpc_clients_that_never_send_their_message_are_let_go_and_others_are_served(attacked):
    with grpc.insecure_channel(attacked.otlp_grpc) as channel:
        waiting = [channel.stream_unary(EXPORT).future(yield_nothing(), timeout=60) for _ in range(READERS + 4)]
        body = traces_body(span_message(920_001))
        channel.unary_unary(EXPORT)(body, timeout=60)
        assert waiting[0].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for one in waiting:
            one.cancel()
    landed(attacked, 920_001)


def yield_nothing():
    """Messages of a call whose client says nothing for a long time."""
    time.sleep(30)
    yield b""


def json_of(*numbers):
    request = SIGNALS["traces"].request.FromString(traces_body(*map(span_message, numbers)))
    tree = json_format.MessageToDict(request)
    for span in tree["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        number = int(span["startTimeUnixNano"]) // 1_000_000 - 1_790_000_000_000
        span.update(traceId=f"{number:032x}", spanId=f"{number:016x}")
    return tree


def test_others_are_served_while_a_large_json_body_is_read(attacked):
    numbers = range(930_000, 935_000)
    tree = json_of(*numbers)
    tree["resource_spans"] = tree.pop("resourceSpans")  # so that the slow decoder has to take it
    body = gzip.compress(json.dumps(tree).encode(), 1)
    host, port = attacked.otlp_http.removeprefix("http://").split(":")
    head = f"POST /v1/traces HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
    with socket.create_connection((host, int(port)), timeout=120) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        client.setblocking(False)
        served = 0
        with httpx.Client(timeout=60) as other:
            while (answer := peeked(client)) is None:
                assert other.get(attacked.api + "/healthz").status_code == 200
                served += 1
    assert answer.startswith(b"HTTP/1.1 200")
    assert served > 3, "one request at most would have been answered, at the end"
    where = f"trace_id BETWEEN '{numbers[0]:032x}' AND '{numbers[-1]:032x}'"
    attacked.wait_until(f"SELECT count(*) FROM spans WHERE {where}", len(numbers), seconds=60)


def peeked(client):
    try:
        return client.recv(64)
    except BlockingIOError:
        return None


@pytest.mark.slow
def test_a_million_attribute_keys_land_in_bounded_memory(attacked):
    with at_most_more(attacked, 512 * MIB):
        for first in range(1000, 11_000, 100):
            body = traces_body(*(many_keys(number, 100) for number in range(first, first + 100)))
            answer = httpx.post(attacked.otlp_http + "/v1/traces", content=body, headers=PROTOBUF, timeout=60)
            assert answer.status_code == 200
        attacked.wait_until("SELECT count(*) FROM spans WHERE name = 'many keys'", 10_000, seconds=120)
        keys = "SELECT sum(cardinality(attributes))::BIGINT FROM spans WHERE name = 'many keys'"
        assert attacked.value(keys) == 1_000_000


def many_keys(number, count):
    return span_message(number, {f"key.{number}.{one}": "v" for one in range(count)}, name="many keys")


@pytest.mark.slow
def test_a_million_label_values_land_in_bounded_memory(attacked):
    with at_most_more(attacked, 1024 * MIB):
        for first in range(0, 10**6, 50_000):
            lines = (f'requests_seen{{user="u{one}"}} 1\n' for one in range(first, first + 50_000))
            answer = httpx.post(
                attacked.api + "/api/v1/scrapes",
                params={"target": "t", "observed_at": "2026-01-01T00:00:00Z"},
                content=("# TYPE requests_seen gauge\n" + "".join(lines)).encode(),
                timeout=120,
            )
            assert (answer.status_code, answer.json()["rejected"]) == (200, 0)
        points = "FROM metric_points JOIN metric_series USING (series_id) WHERE name = 'requests_seen'"
        attacked.wait_until(f"SELECT count(*) {points}", 10**6, seconds=120)
