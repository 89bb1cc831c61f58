"""Connections of a client to one address, straight or over the environment's proxy, kept from question to question.

By the standard library: for a short answer urllib3 takes 0.3 ms more and httpx 0.8 ms, and a board asks dozens.
"""

from __future__ import annotations

import http.client
import os
import selectors
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from collector.addresses import bracketed
from collector.client_tls import client_context
from collector.errors import PermanentError

KEPT_CONNECTIONS = 64
"""So many are kept for the next question; more are opened where more ask at once."""
TOGETHER_BYTES = 64 * 1024
"""A body up to this goes out with its head: the other end wakes once."""
PATH_CHARACTERS = "/%:@!$&'()*+,;=~"
"""What a path may have beside letters and digits."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class PlainConnection(http.client.HTTPConnection):
    """One connection; what is sent may be held to go out at once."""

    held: list[bytes] | None = None
    _tunnel_host: str | None

    def send(self, data: Any) -> None:
        """Send, or hold."""
        if self.held is None:
            super().send(data)
        else:
            self.held.append(data)

    def ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post, and wait for the whole answer.

        Raises:
            OSError: the other end can't be reached, or not in time, or is not trusted.
            http.client.HTTPException: what came back is no answer of HTTP, or breaks off.
        """
        if self.sock is None:
            self.connect()  # what a proxy says before it has connected through is no answer
        self.held = []
        try:
            self.putrequest("POST", path)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.putheader(name, value)
            self.endheaders()
            parts = [*self.held, body]
        finally:
            self.held = None
        unsent: OSError | None = None
        try:
            for part in [b"".join(parts)] if len(body) <= TOGETHER_BYTES else parts:
                self.send(part)
        except (BrokenPipeError, ConnectionResetError) as error:
            unsent = error  # it may have answered before it had read all
        try:
            answer = self.getresponse()
            if answer.status < 200:
                raise http.client.HTTPException(f"an answer of status {answer.status} comes before another")
            reply = Reply(answer.status, answer.read())
        except (ValueError, OverflowError) as error:  # lengths that are none
            raise http.client.HTTPException(str(error)) from error
        except (http.client.HTTPException, OSError) as error:
            raise unsent or error from error
        if unsent is not None:
            self.close()
        return reply

    def is_dropped(self) -> bool:
        """Say whether the other end has closed, or sent what nobody asked for."""
        if self.sock is None or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self.sock, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _tunnel(self) -> None:
        """Ask a proxy to connect through; Python 3.11 names an IPv6 address to it without brackets."""
        host = self._tunnel_host
        self._tunnel_host = bracketed(str(host))
        try:
            super()._tunnel()  # type: ignore[misc]
        finally:
            self._tunnel_host = host


class TlsConnection(PlainConnection, http.client.HTTPSConnection):
    """The same over TLS."""


class KeptConnections:
    """Connections to one address; any number of threads may ask, and of processes behind a fork.

    Args:
        url: the address, http:// or https://, without user and password.
        timeout_seconds: of each wait for the other end.

    Raises:
        ValueError: it is no address.
        PermanentError: the environment's proxy can't be used, or its certificates.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self._host = host_of(parts)
        self._port = parts.port or default_port(parts)
        self._timeout_seconds = timeout_seconds
        self._kept: deque[PlainConnection] = deque()
        self._process = os.getpid()
        self._closed = False
        self._context = client_context() if parts.scheme == "https" else None
        if self._context is not None:
            self._context.set_alpn_protocols(["http/1.1"])
        self._proxy = proxy_of(parts)
        self._prefix = quote(parts.path, safe=PATH_CHARACTERS)
        self._headers = {"User-Agent": "fleetmeter"}
        if self._proxy is not None and self._context is None:  # a proxy is told the whole address
            port = f":{parts.port}" if parts.port else ""
            self._prefix = f"http://{bracketed(self._host)}{port}{self._prefix}"
            self._headers |= self._to_proxy()

    @property
    def over_proxy(self) -> bool:
        """True where the environment's proxy is asked."""
        return self._proxy is not None

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post, and return the whole answer; see `PlainConnection.ask`."""
        connection = self._take()
        try:
            reply = connection.ask(self._prefix + path, body, {**self._headers, **headers})
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None and len(self._kept) < KEPT_CONNECTIONS:
            self._kept.append(connection)
        else:
            connection.close()
        if self._closed:  # meanwhile
            self.close()
        return reply

    def close(self) -> None:
        """Close those that are kept, and those in use once they have their answer."""
        self._closed = True
        self._close_kept()

    def _close_kept(self) -> None:
        while self._kept:
            try:
                self._kept.pop().close()
            except IndexError:  # another thread took it
                return

    def _take(self) -> PlainConnection:
        if self._process != os.getpid():  # a fork: the parent reads from those that are kept
            self._process = os.getpid()
            self._close_kept()
        while True:
            try:
                connection = self._kept.pop()  # the one used last
            except IndexError:
                return self._new()
            if not connection.is_dropped():
                return connection
            connection.close()

    def _new(self) -> PlainConnection:
        if self._proxy is None:
            return self._connection(self._host, self._port)
        connection = self._connection(host_of(self._proxy), self._proxy.port or default_port(self._proxy))
        if self._context is not None:
            named = f"{bracketed(self._host)}:{self._port}"
            connection.set_tunnel(self._host, self._port, {"Host": named, **self._to_proxy()})
        return connection

    def _connection(self, host: str, port: int) -> PlainConnection:
        if self._context is not None:
            return TlsConnection(host, port, timeout=self._timeout_seconds, context=self._context)
        return PlainConnection(host, port, timeout=self._timeout_seconds)

    def _to_proxy(self) -> dict[str, str]:
        authorization = None if self._proxy is None else basic_auth_of(self._proxy)
        return {"Proxy-Authorization": authorization} if authorization else {}


def split_address(url: str) -> SplitResult:
    """Split an address; a message tells nothing of a user and password.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(url)
        if not url.isprintable() or " " in url:
            raise ValueError
    except ValueError:
        raise ValueError("it has characters or brackets that no address has") from None
    if "@" in parts.path or parts.query or parts.fragment:
        raise ValueError("it ends with a path; in a user and password / ? # are %2F %3F %23, in a path @ is %40")
    return parts


def without_user(url: str) -> str:
    """Return an address, or what was meant to be one, without user and password."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def host_of(parts: SplitResult) -> str:
    """Return the host of an address as the net knows it: without brackets, and with an international name encoded.

    Raises:
        ValueError: it names none.
    """
    if not parts.hostname:
        raise ValueError("it names no host")
    behind = parts.netloc.rpartition("@")[2].rpartition("]")[2]
    if "]" in parts.netloc and behind and not behind.startswith(":"):
        raise ValueError(f"{behind} stands behind an IPv6 address")
    return parts.hostname.encode("idna").decode()


def proxy_of(parts: SplitResult) -> SplitResult | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name, unless NO_PROXY names the address.

    Raises:
        PermanentError: it is not one that is spoken to in plain HTTP.
    """
    host = parts.hostname or ""
    names = [host, bracketed(host)] if ":" in host else [f"{host}:{parts.port}" if parts.port else host]
    if any(map(proxy_bypass, names)):
        return None
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy:
        return None
    try:
        split = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if split.scheme == "http" and host_of(split) and (split.port is None or split.port > 0):
            return split
    except ValueError:
        pass
    raise PermanentError(
        f"the environment's proxy for {parts.scheme}://{parts.netloc} is no http:// address; "
        "mend it, or name the collector's host in NO_PROXY"
    )


def default_port(parts: SplitResult) -> int:
    """Return the port of an address that names none."""
    return 443 if parts.scheme == "https" else 80


def basic_auth_of(parts: SplitResult) -> str | None:
    """Return how a header says the user and password that stand in an address; None where none do."""
    user = parts.netloc.rpartition("@")[0]
    return f"Basic {b64encode(unquote(user).encode()).decode()}" if user else None
