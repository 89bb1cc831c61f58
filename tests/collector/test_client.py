"""The client of a running collector: proxies, connections that break off, and what it says of wrong input."""

import http.client
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from collector.client import HttpClient
from collector.client_connections import TOGETHER_BYTES, KeptConnections, PlainConnection
from collector.errors import PermanentError, RetryableError


@contextmanager
def proxy() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """An HTTP proxy; gives its address and, of each request, its target and its Proxy-Authorization."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen.append((self.path, self.headers["Proxy-Authorization"]))
            target = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with closing(http.client.HTTPConnection(target.netloc, timeout=20)) as onward:
                onward.request("POST", target.path, body, {"Accept": self.headers["Accept"]})
                answer = onward.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *given: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelt in (name, name.upper()):
            monkeypatch.delenv(spelt, raising=False)


def ask(url: str) -> list[dict[str, int]]:
    with closing(HttpClient(url, timeout_seconds=20)) as client:
        rows: list[dict[str, int]] = client.query("SELECT 1 AS one").to_pylist()
        return rows


@pytest.mark.parametrize(
    ("name", "form", "authorization"),
    [
        ("HTTP_PROXY", "{}", None),
        ("http_proxy", "http://{}", None),
        ("ALL_PROXY", "http://{}/", None),
        ("HTTP_PROXY", "http://us%40er:p%3Aw@{}", "Basic dXNAZXI6cDp3"),
        ("HTTP_PROXY", "http://us%C3%A9r:p@{}", "Basic dXPDqXI6cA=="),
    ],
)
def test_the_environments_proxy_is_asked(collector, monkeypatch, name, form, authorization):
    with proxy() as (address, seen):
        monkeypatch.setenv(name, form.format(address))
        assert ask(collector.api.replace("//", "//someone:hidden@")) == [{"one": 1}]
    assert seen == [(f"{collector.api}/api/v1/sql", authorization)]


@pytest.mark.parametrize("excepted", ["127.0.0.1", "{}", "*", "127.0.0.1,other"])
def test_a_host_that_is_excepted_is_asked_itself(collector, monkeypatch, excepted):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", excepted.format(urlsplit(collector.api).netloc))
    assert ask(collector.api) == [{"one": 1}]
    assert ask(collector.api.replace("//", "//user:password@")) == [{"one": 1}]


def test_a_proxy_that_does_not_answer_is_named_as_what_it_is(collector, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(RetryableError, match=r"no collector answers at http://\S+ over the environment's proxy \("):
        ask(collector.api)


def test_a_proxy_of_another_kind_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1080")
    with pytest.raises(PermanentError, match="no http:// address; mend it") as caught:
        HttpClient("http://127.0.0.1:1")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1]x:80",
        "http://127.0.0.1:port",
        "http://a b",
        "http://",
        f"http://{'a' * 70}.b",
        "http://me:hid#den@127.0.0.1:1",
        "http://me:hid/den@127.0.0.1:1",
        "http://127.0.0.1:1/hidden@home",
        "http://me:hidden@127.0.0.1:1/team@evil.example",
        "http://me:hidden@127.0.0.1:1?x=@evil.example:9",
        "http://me:hidden\n@127.0.0.1:1",
        "http://me:a[hidden]b@127.0.0.1:1",
        "http://me:hid\uff0fden@127.0.0.1:1",
        "http://me:hidden@ho\u2100st:1",
        "me:hidden@127.0.0.1:1",
    ],
)
def test_what_is_no_address_is_told(url):
    for token in (None, "a"):
        with (
            pytest.raises(PermanentError, match="is no address") as caught,
            closing(HttpClient(url, token=token)) as client,
        ):
            client.query("SELECT 1")
        assert "hid" not in str(caught.value)


@pytest.mark.parametrize("password", ["hidden", "hid@den", "h%2Fidden"])
def test_a_password_in_the_address_is_sent_and_never_told(password):
    with (
        closing(HttpClient(f"http://someone:{password}@127.0.0.1:1")) as client,
        pytest.raises(RetryableError, match=r"no collector answers at http://127\.0\.0\.1:1 ") as caught,
    ):
        client.query("SELECT 1")
    assert "den" not in str(caught.value)
    assert client.url == "http://127.0.0.1:1"


def test_a_token_that_no_header_carries_is_told_and_not_shown():
    with pytest.raises(PermanentError, match="FLEETMETER_TOKEN") as caught:
        HttpClient("http://127.0.0.1:1", token="secret\n")
    assert "secret" not in str(caught.value)


def message_of(stream: BinaryIO) -> bytes:
    """Read one request or one answer; nothing where the other end has closed."""
    lines = [stream.readline()]
    while lines[-1] not in (b"\r\n", b""):
        lines.append(stream.readline())
    lengths = [int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:")]
    return b"".join(lines) + stream.read(*lengths or [0])


@contextmanager
def relay(address: str, answers: list[int]) -> Iterator[str]:
    """Relay to an address; each connection carries so many questions, and is cut under the next."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, _, port = address.partition(":")

    def serve() -> None:
        for allowed in answers:
            connection, _ = listener.accept()
            with (
                connection,
                connection.makefile("rb") as asked,
                socket.create_connection((host, int(port))) as onward,
                onward.makefile("rb") as answered,
            ):
                for _ in range(allowed):
                    onward.sendall(message_of(asked))
                    connection.sendall(message_of(answered))
                message_of(asked)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(20)
        listener.close()


def test_a_question_on_a_connection_that_was_closed_is_put_again(collector):
    with (
        relay(urlsplit(collector.api).netloc, [1, 2]) as url,
        closing(HttpClient(url, timeout_seconds=20)) as client,
    ):
        for _ in range(3):
            assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_collector_that_breaks_off_each_time_is_worth_another_try(collector):
    with relay(urlsplit(collector.api).netloc, [0, 0]) as url, pytest.raises(RetryableError, match="broke off"):
        ask(url)


def test_many_threads_ask_one_client_at_once(collector):
    with closing(HttpClient(collector.api, timeout_seconds=20)) as client, ThreadPoolExecutor(16) as threads:
        asked = range(400)
        told = threads.map(lambda number: client.query("SELECT $n::BIGINT AS n", {"n": number}).to_pylist(), asked)
        assert list(told) == [[{"n": number}] for number in asked]


@contextmanager
def answering(*replies: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers one message on each connection and closes; gives its address and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for reply in replies:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as stream:
                    asked.append(message_of(stream))
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(20)


def arrow(rows: pa.Table) -> bytes:
    """Write rows as the collector does."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


CUT = arrow(pa.table({"a": range(1000)}))[:-500]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (OK % (6, b"<html>"), "is no collector"),
        (OK % (0, b""), "is no collector"),
        (b"HTTP/1.1 200 OK\r\nContent-", "is no collector"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\n<b>\x1b[31m</b>", "answered 502: <b>"),
        (OK % (len(CUT), CUT), "is no collector"),
        (OK % (10, b"<html>"), "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "broke off"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK % (6, b"<html>"), "broke off"),
        (b"\x00\x1b[31m\r\n", "broke off"),
        (b"", "broke off"),
    ],
)
def test_what_is_no_answer_of_a_collector_is_told_as_such(reply, says):
    with (
        answering(reply, reply) as (url, asked),
        closing(HttpClient(url, timeout_seconds=20)) as client,
        pytest.raises((PermanentError, RetryableError), match=says) as caught,
    ):
        try:
            client.query("SELECT 1")
        finally:
            while len(asked) < 2:  # it is asked once more where the connection broke off
                socket.create_connection(urlsplit(url).netloc.split(":")).close()
    assert "\x1b" not in str(caught.value)
    assert b"Accept-Encoding: identity\r\n" in asked[0]


def test_rows_that_something_else_takes_are_not_landed():
    rows = pa.table({"event_id": ["a"]})
    with (
        answering(OK % (7, b'{"x":1}')) as (url, _),
        closing(HttpClient(url, timeout_seconds=20)) as client,
        pytest.raises(PermanentError, match="is no collector"),
    ):
        client.land("events", rows)


def test_a_table_of_an_odd_name_is_told_by_the_collector(collector):
    with closing(HttpClient(collector.api, timeout_seconds=20)) as client:
        for name in ("a b", "für"):
            with pytest.raises(PermanentError, match=f"no table '{name}' takes rows"):
                client.land(name, pa.table({"a": [1]}))


def test_an_answer_that_comes_before_all_was_sent_is_read():
    """As a gateway does that takes no such body: it answers after the head, reads nothing more and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                while stream.readline() != b"\r\n":
                    pass
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nlong")
                connection.shutdown(socket.SHUT_WR)
                sent.wait(20)

        sent = threading.Event()
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        asked = PlainConnection(*listener.getsockname(), timeout=20)

        def breaking(data: bytes, send=asked.send) -> None:
            if asked.held is None and len(data) > TOGETHER_BYTES:
                raise ConnectionResetError("as the machine says once the other end has closed")
            send(data)

        asked.send = breaking
        assert asked.ask("/", b"a" * 2 * TOGETHER_BYTES, {}) == (413, b"long")
        sent.set()
        thread.join(20)
        asked.close()


def test_a_proxy_that_answers_in_the_collectors_place_is_no_collector(monkeypatch):
    """It answers before it has connected through: what it says was never under the collector's certificate."""
    lie = arrow(pa.table({"lie": [1]}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tries = 40

        def lying() -> None:
            for _ in range(tries):
                connection, _ = listener.accept()
                connection.sendall(OK % (len(lie), lie))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        thread = threading.Thread(target=lying, daemon=True)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        late = http.client.HTTPConnection.connect

        def connect_late(self, connect=late):
            given, self._tunnel_host = self._tunnel_host, None
            connect(self)
            self._tunnel_host = given
            time.sleep(0.02)
            self._tunnel()

        monkeypatch.setattr(http.client.HTTPConnection, "connect", connect_late)
        for _ in range(tries // 2):  # each is asked twice where the connection broke off
            with pytest.raises(RetryableError):
                ask("https://collector.example:8320")


def test_an_international_name_goes_to_a_proxy_as_the_net_knows_it(monkeypatch):
    with answering(OK % (6, b"<html>")) as (address, asked):
        monkeypatch.setenv("HTTP_PROXY", address)
        with pytest.raises(PermanentError, match="is no collector"):
            ask("http://bücher.example:8320/für%20alle")
    assert asked[0].startswith(b"POST http://xn--bcher-kva.example:8320/f%C3%BCr%20alle/api/v1/sql HTTP/1.1\r\n")
    assert b"Host: xn--bcher-kva.example:8320\r\n" in asked[0]


def test_an_ipv6_address_goes_to_a_proxy_in_brackets(monkeypatch):
    with answering(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n") as (address, asked):
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(RetryableError, match="over the environment's proxy"):
            ask("https://[::1]:8320")
    assert asked[0].startswith(b"CONNECT [::1]:8320 HTTP/1.")


def test_a_connection_in_use_is_closed_once_it_has_its_answer(collector):
    kept = KeptConnections(collector.api, 20)
    connection = kept._take()
    monkey = connection.ask

    def closed_meanwhile(*given):
        reply = monkey(*given)
        kept.close()
        return reply

    connection.ask = closed_meanwhile
    kept._kept.append(connection)
    connection.connect()
    assert kept.post("/api/v1/sql", b'{"sql": "SELECT 1"}', {"Content-Type": "application/json"}).status == 200
    assert connection.sock is None


def test_a_child_by_fork_leaves_the_parents_connections_alone(collector):
    kept = KeptConnections(collector.api, 20)
    with closing(kept):
        body, headers = b'{"sql": "SELECT 1"}', {"Content-Type": "application/json"}
        assert kept.post("/api/v1/sql", body, headers).status == 200
        (of_parent,) = kept._kept
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                reply = kept.post("/api/v1/sql", body, headers)
                os._exit(0 if reply.status == 200 and of_parent not in kept._kept and of_parent.sock is None else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert kept.post("/api/v1/sql", body, headers).status == 200
        assert list(kept._kept) == [of_parent]
