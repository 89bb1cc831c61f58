"""Connections that don't get to the point are closed, and only those."""

import asyncio
import contextlib

import pytest

from collector import connections, listeners
from collector.connections import BODY_BYTES_PER_SECOND, BODY_GRACE_SECONDS, BODY_SECONDS, HEAD_BYTES, HEAD_SECONDS
from collector.errors import RetryableError, TooLargeError
from collector.listeners import http_server, listening
from collector.receivers.http_messages import read_body, send_answer
from collector.receivers.room import Hold, Room

MOST = 4 * 2**20
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Serving:
    """A server that answers with the length of a body, and clients of it."""

    def __init__(self, address, server, clock, room):
        self.address, self.server, self.clock, self.room = address, server, clock, room
        self.writers = []

    async def connect(self, content=b""):
        reader, writer = await asyncio.open_connection(*self.address)
        self.writers.append(writer)
        writer.write(content)
        return reader, writer

    async def leave(self):
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.005)

    async def has(self, count):
        """Wait until so many connections are there, and what they sent has been seen."""
        await self.until(lambda: len(self.server.connections.waiting_longest) == count)
        await asyncio.sleep(0.05)

    def pass_time(self, seconds):
        self.clock.seconds += seconds
        return self.server.connections.cut_slow()


@contextlib.asynccontextmanager
async def serving():
    clock, room = Clock(), Room(MOST)

    async def tell_length(scope, receive, send):
        with Hold(room) as hold:
            body = await read_body(scope, receive, MOST, hold)
        await send_answer(send, 200, b"%d" % len(body), b"text/plain")

    with listening("127.0.0.1", 0, "api_port") as listener:
        address = listener.getsockname()
        server = http_server(quiet(tell_length), clock=clock)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        serving = Serving(address, server, clock, room)
        try:
            yield serving
        finally:
            await serving.leave()
            server.should_exit = True
            await running


def quiet(app):
    async def run(scope, receive, send):
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    return run


def under_a_server(story):
    async def run():
        async with asyncio.timeout(60), serving() as server:
            await story(server)

    asyncio.run(run())


async def answer_of(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def test_a_client_that_says_nothing_is_let_go():
    async def story(server):
        reader, _ = await server.connect()
        await server.has(1)
        assert server.pass_time(HEAD_SECONDS - 1) == 0
        assert server.pass_time(2) == 1
        assert await reader.read() == b""

    under_a_server(story)


def test_a_head_that_trickles_is_cut_and_told_why():
    async def story(server):
        reader, writer = await server.connect(b"POST / HT")
        await server.has(1)
        server.pass_time(HEAD_SECONDS - 1)
        writer.write(b"TP/1.1\r\nhost: x\r\n")
        await asyncio.sleep(0.05)
        assert server.pass_time(2) == 1, "what trickles in does not prolong it"
        status, text = await answer_of(reader)
        assert (status, b"too slowly" in text) == (408, True)

    under_a_server(story)


def test_a_head_without_end_is_cut():
    async def story(server):
        reader, writer = await server.connect(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                writer.write(b"x: " + b"y" * (HEAD_BYTES // 16) + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.002)
        with contextlib.suppress(ConnectionError):
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
        await server.has(0)

    under_a_server(story)


def test_a_body_that_trickles_is_cut_and_the_room_for_it_is_free_again():
    async def story(server):
        reader, writer = await server.connect(HEAD % 100_000 + b"a" * 1000)
        await server.until(lambda: server.room.held_bytes == 1000)
        assert server.pass_time(BODY_GRACE_SECONDS) == 0
        writer.write(b"b" * 10)
        await server.until(lambda: server.room.held_bytes == 1010)
        assert server.pass_time(2) == 1
        assert (await answer_of(reader))[0] == 408
        await server.until(lambda: server.room.held_bytes == 0)

    under_a_server(story)


def test_a_body_that_comes_at_a_fair_rate_may_take_its_time_but_not_for_ever():
    async def story(server):
        reader, writer = await server.connect(HEAD % MOST)
        for second in range(int(BODY_SECONDS)):
            writer.write(b"a" * BODY_BYTES_PER_SECOND)
            came = (second + 1) * BODY_BYTES_PER_SECOND
            await server.until(lambda came=came: server.room.held_bytes == came)
            assert server.pass_time(1) == 0
        assert server.pass_time(1) == 1
        assert (await answer_of(reader))[0] == 408

    under_a_server(story)


def test_a_connection_that_is_kept_between_requests_is_no_slow_one():
    async def story(server):
        reader, writer = await server.connect(HEAD % 3 + b"abc")
        assert await answer_of(reader) == (200, b"3")
        assert server.pass_time(10 * HEAD_SECONDS) == 0
        writer.write(HEAD % 2 + b"de")
        assert await answer_of(reader) == (200, b"2")
        writer.write(b"POST")
        await asyncio.sleep(0.05)
        assert server.pass_time(HEAD_SECONDS + 1) == 1, "once it has begun another request, it has to go on"

    under_a_server(story)


def test_where_there_is_no_place_the_one_that_waits_longest_makes_way(monkeypatch):
    monkeypatch.setattr(listeners, "connections_limit", lambda: 3)

    async def story(server):
        slow, _ = await server.connect(b"POST")
        await server.has(1)
        kept, kept_writer = await server.connect(HEAD % 1 + b"a")
        assert await answer_of(kept) == (200, b"1")
        await server.connect()
        await server.has(3)
        fourth, _ = await server.connect(HEAD % 1 + b"a")
        assert await answer_of(fourth) == (200, b"1")
        assert await slow.read() != b"" or slow.at_eof()
        kept_writer.write(HEAD % 1 + b"a")
        assert await answer_of(kept) == (200, b"1")

    under_a_server(story)


def test_the_limit_follows_from_the_files_that_may_be_open(monkeypatch):
    limits = {}
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, both: limits.update(soft=both[0]))
    for soft, hard, expected in ((1024, 1024, 170), (1024, 20_000, 6496), (64, 64, 64), (1024, 2**40, 16_384)):
        limits.update(soft=soft, hard=hard)
        connections.allow_open_files()
        assert connections.connections_limit() == expected


def parts(*messages):
    pending = [{"type": "http.request", "body": body, "more_body": more} for body, more in messages]

    async def receive():
        return pending.pop(0)

    return receive, pending


def test_bodies_share_one_room_while_they_are_read():
    room = Room(100)
    scope = {"headers": []}
    with Hold(room) as first:
        receive, _ = parts((b"a" * 60, True), (b"", False))
        assert asyncio.run(read_body(scope, receive, 1000, first)) == b"a" * 60
        assert room.held_bytes == 60
        receive, left = parts((b"b" * 30, True), (b"b" * 30, True), (b"c", True), (b"", False))
        with Hold(room) as second, pytest.raises(RetryableError, match="too many bodies"):
            asyncio.run(read_body(scope, receive, 1000, second))
        assert left == [], "the rest is read, so that the sender sees the answer, and none of it is kept"
        assert room.held_bytes == 60
        receive, _ = parts((b"d" * 11, True), (b"", False))
        with Hold(room) as third, pytest.raises(TooLargeError):
            asyncio.run(read_body(scope, receive, 10, third))
    assert room.held_bytes == 0
