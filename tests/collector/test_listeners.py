"""Sockets: a short answer leaves at once."""

import asyncio
import socket

from collector.listeners import listening


def test_a_connection_that_the_collector_takes_does_not_hold_short_answers_back():
    async def nodelay_of_a_taken_connection(listener):
        taken = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda reader, writer: taken.set_result(writer), sock=listener)
        _, client = await asyncio.open_connection(*listener.getsockname())
        writer = await taken
        found = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for one in (writer, client):
            one.close()
            await one.wait_closed()
        server.close()
        return found

    with listening("127.0.0.1", 0, "api_port") as listener:
        assert asyncio.run(nodelay_of_a_taken_connection(listener))
