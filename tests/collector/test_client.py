"""The client of a running collector: proxies, connections that break off, and what it says of wrong input."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
            with closing(http.client.HTTPConnection(target.netloc.rpartition("@")[2], timeout=20)) as onward:
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
    ],
)
def test_the_environments_proxy_is_asked(collector, monkeypatch, name, form, authorization):
    with proxy() as (address, seen):
        monkeypatch.setenv(name, form.format(address))
        assert ask(collector.api) == [{"one": 1}]
    assert seen == [(f"{collector.api}/api/v1/sql", authorization)]


@pytest.mark.parametrize("excepted", ["127.0.0.1", "{}", "*", "127.0.0.1,other"])
def test_a_host_that_is_excepted_is_asked_itself(collector, monkeypatch, excepted):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", excepted.format(urlsplit(collector.api).netloc))
    assert ask(collector.api) == [{"one": 1}]
    assert ask(collector.api.replace("//", "//user:password@")) == [{"one": 1}]


def test_a_proxy_of_another_kind_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1080")
    with pytest.raises(PermanentError, match="no http:// or https:// address; mend it") as caught:
        HttpClient("http://127.0.0.1:1")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1", "http://127.0.0.1:port", "http://a b", "http://"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(PermanentError, match="is no address"):
        ask(url)


def test_a_token_that_no_header_carries_is_told_and_not_shown():
    with pytest.raises(PermanentError, match="FLEETMETER_TOKEN") as caught:
        HttpClient("http://127.0.0.1:1", token="secret\n")
    assert "secret" not in str(caught.value)


@contextmanager
def relay(address: str, answers: Iterator[int]) -> Iterator[str]:
    """Relay to an address; each connection carries so many questions, and is cut under the next."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, _, port = address.partition(":")

    def serve() -> None:
        for allowed in answers:
            connection, _ = listener.accept()
            with connection, socket.create_connection((host, int(port))) as onward:
                for _ in range(allowed):
                    onward.sendall(connection.recv(65_536))
                    connection.settimeout(0.2)
                    while True:
                        try:  # the head and the body may come apart
                            onward.sendall(connection.recv(65_536))
                        except TimeoutError:
                            break
                    connection.settimeout(None)
                    connection.sendall(onward.recv(65_536))
                connection.recv(65_536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(20)
        listener.close()


def test_a_question_on_a_connection_that_was_closed_is_put_again(collector):
    with (
        relay(urlsplit(collector.api).netloc, iter([1, 2])) as url,
        closing(HttpClient(url, timeout_seconds=20)) as client,
    ):
        for _ in range(3):
            assert client.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_collector_that_breaks_off_each_time_is_worth_another_try(collector):
    with relay(urlsplit(collector.api).netloc, iter([0, 0])) as url, pytest.raises(RetryableError, match="broke off"):
        ask(url)
