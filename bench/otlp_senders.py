"""Sends bodies as fast as they are taken, or at a pace: a process of its own, for other benches.

`python -m bench.otlp_senders FILE URL SENDERS PACE [HEADER …]`; a pace of 0 is as fast as they are taken.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import urlsplit

LENGTH = struct.Struct("<I")
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the bodies."""

    accepted_count: int
    refused_count: int
    """Answered with an error that is not worth a second try; a 503 or 429 is tried again."""
    retried_count: int
    started: float
    """When the first was sent, by the machine's monotonic clock; the sender's own start does not count. Unit: s."""
    ended: float
    """When the last was answered."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


def send_http(url: str, bodies: list[bytes], senders: int, *headers: str, pace: float = 0.0) -> Sent:
    """Post every body, several at a time, in a process of its own; returns once all are answered.

    Args:
        url: where to.
        bodies: what.
        senders: connections.
        headers: further lines of the head.
        pace: bodies per second; 0: as fast as they are taken.
    """
    return run_apart(url, bodies, senders, headers, pace)


def send_grpc(address: str, bodies: list[bytes], senders: int, *, gzipped: bool = False) -> Sent:
    """Export every body over gRPC, several at a time, in a process of its own, which may compress them."""
    return run_apart(f"{'grpc+gzip' if gzipped else 'grpc'}://{address}", bodies, senders, ())


def run_apart(url: str, bodies: list[bytes], senders: int, headers: tuple[str, ...], pace: float = 0.0) -> Sent:
    """Run this file on the bodies."""
    with tempfile.NamedTemporaryFile() as file:
        for body in bodies:
            file.write(LENGTH.pack(len(body)) + body)
        file.flush()
        command = [sys.executable, "-m", "bench.otlp_senders", file.name, url, str(senders), str(pace), *headers]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return Sent(*json.loads(answer.stdout))


def bodies_in(file: Path) -> list[bytes]:
    """Read the bodies back."""
    content, at, bodies = file.read_bytes(), 0, []
    while at < len(content):
        (length,) = LENGTH.unpack_from(content, at)
        bodies.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return bodies


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that posts the next body once the last is answered."""

    def __init__(
        self, head: bytes, waiting: list[bytes], counts: list[int], done: asyncio.Future[None], due: Iterator[float]
    ) -> None:
        self._head, self._waiting, self._counts, self._done, self._due = head, waiting, counts, done, due
        self._answer = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._body = self._waiting.pop()
        loop = asyncio.get_running_loop()
        if (due := next(self._due)) > loop.time():
            loop.call_at(due, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._transport.write(self._head % len(self._body) + self._body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Read an answer."""
        self._answer += data
        head, found, rest = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < length:
            return
        self._answer = rest[length:]
        status = int(head[9:12])
        if status in (429, 503):
            self._counts[2] += 1
            asyncio.get_running_loop().call_later(0.05, self._send)
            return
        self._counts[0 if status == 200 else 1] += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """End, or say what went wrong."""
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))


async def post_all(url: str, bodies: list[bytes], senders: int, pace: float, headers: list[str]) -> Sent:
    """Post all bodies, each when it is due."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/x-protobuf", *headers]
    if bodies and bodies[0][:2] == b"\x1f\x8b":
        lines.append("Content-Encoding: gzip")
    head = "\r\n".join(lines).replace("%", "%%").encode() + b"\r\nContent-Length: %d\r\n\r\n"
    counts, waiting = [0, 0, 0], bodies[::-1]
    loop = asyncio.get_running_loop()
    began, started = time.monotonic(), loop.time()
    due = (started + number / pace if pace else started for number in itertools.count())
    ends = [loop.create_future() for _ in range(senders)]
    for end in ends:
        await loop.create_connection(
            lambda end=end: Connection(head, waiting, counts, end, due), parts.hostname, parts.port
        )  # type: ignore[misc]
    await asyncio.gather(*ends)
    return Sent(*counts, began, time.monotonic())


async def export_all(address: str, bodies: list[bytes], senders: int, *, gzipped: bool) -> Sent:
    """Export all bodies over gRPC."""
    import grpc

    counts, waiting = [0, 0, 0], bodies[::-1]
    compression = grpc.Compression.Gzip if gzipped else grpc.Compression.NoCompression
    async with grpc.aio.insecure_channel(address, compression=compression) as channel:
        export = channel.unary_unary(EXPORT)
        began = time.monotonic()

        async def one() -> None:
            while waiting:
                body = waiting.pop()
                while True:
                    try:
                        await export(body)
                        counts[0] += 1
                    except grpc.aio.AioRpcError as error:
                        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                            counts[2] += 1
                            await asyncio.sleep(0.05)
                            continue
                        counts[1] += 1
                    break

        await asyncio.gather(*(one() for _ in range(senders)))
        return Sent(*counts, began, time.monotonic())


def main() -> None:
    """Send, and print what became of it."""
    file, url, senders, pace, *headers = sys.argv[1:]
    bodies = bodies_in(Path(file))
    scheme, _, address = url.partition("://")
    if scheme in ("grpc", "grpc+gzip"):
        sent = asyncio.run(export_all(address, bodies, int(senders), gzipped=scheme == "grpc+gzip"))
    else:
        import uvloop

        sent = uvloop.run(post_all(url, bodies, int(senders), float(pace), headers))
    print(json.dumps(astuple(sent)))


if __name__ == "__main__":
    main()
