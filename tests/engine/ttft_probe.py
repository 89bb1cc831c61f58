"""One streamed chat after the other over a connection that is open already; prints the time to the first chunk of each.

    python ttft_probe.py HOST PORT KEY MODEL COUNT OUTPUT_TOKENS PROMPT_WORDS NAME

Another process than the load, of nothing but a socket, and ahead of it in the kernel's queue: what it sees is when the
bytes came, not when a busy client found time to look. Prints JSON: client_id, ttft_seconds of each request.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress


def main() -> None:
    host, port, key, model, count, output, words, name = sys.argv[1:]
    precedence = False
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
        precedence = True
    seen = []
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for k in range(int(count)):
            text = " ".join(f"{name} {k} word" for _ in range(int(words)))
            body = {
                "model": model, "messages": [{"role": "user", "content": text}], "stream": True,
                "max_tokens": int(output), "ignore_eos": True,
            }  # fmt: skip
            content = json.dumps(body).encode()
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
                f"x-request-id: {name}-{k}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
            )
            began = time.monotonic()
            connection.sendall(head.encode() + content)
            received, first = b"", None
            while b"data: [DONE]" not in received or not received.endswith(b"0\r\n\r\n"):
                part = connection.recv(65536)
                if not part:
                    raise SystemExit(f"the server closed the connection after {received[-300:]!r}")
                received += part
                if first is None and b"data: " in received:
                    first = time.monotonic() - began
            seen.append({"client_id": f"{name}-{k}", "ttft_seconds": first})
    print(json.dumps({"precedence": precedence, "seen": seen}))


if __name__ == "__main__":
    main()
