"""The client of a running collector: proxies, connections that break off, and what it says of wrong input."""

import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from collector.client import HttpClient
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
    ["http://[::1", "http://127.0.0.1:port", "http://a b", "http://", f"http://{'a' * 70}.b", "http://127.0.0.1:1/ü"],
)
def test_what_is_no_address_is_told(url):
    with pytest.raises(PermanentError, match="is no address"):
        ask(url)


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
