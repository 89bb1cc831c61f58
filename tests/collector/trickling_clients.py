"""Many slow clients, in a process of their own: `trickling_clients.py PORT COUNT`.

Each has one connection with half a request. A line on stdin sends one byte more over each; the end of stdin ends it.
"""

import resource
import socket
import sys

HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 1000000\r\n"


def main(port: int, count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = [connected(port, number) for number in range(count)]
    print("connected", len(clients), flush=True)
    for _ in sys.stdin:
        print("sent", sum(sent(client) for client in clients), flush=True)


def connected(port: int, number: int) -> socket.socket:
    """Half of them stop in the head, half in the body."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(HEAD + (b"\r\nab" if number % 2 else b""))
    client.setblocking(False)
    return client


def sent(client: socket.socket) -> bool:
    try:
        return client.send(b"x") == 1
    except OSError:
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
