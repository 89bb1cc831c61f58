"""A real vLLM server whose collector comes late, whose queue is full and whose engine dies."""

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path

import httpx
import pytest
from load import COMPLETIONS, KEYS, MODEL, Ask, Clients
from serving import collector, free_port, vllm_server
from test_real_vllm import landed

from collector.client import HttpClient
from engine_exporter.api_keys import add_key

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_a_late_collector_a_full_queue_and_a_dying_engine(tmp_path):
    """Requests don't notice that the collector is down; what went wrong behind a status 200 is in the rows."""
    keys = tmp_path / "keys.yaml"
    add_key(keys, KEYS["search"], "search")
    port = free_port()
    with vllm_server(
        tmp_path,
        otlp_endpoint=f"http://127.0.0.1:{port}",
        api_keys_file=keys,
        api_keys=[KEYS["search"]],
        arguments=("--max-num-queued-reqs", "2", "--max-model-len", "2048"),
        native_spans=False,
    ) as server:
        outcomes = [asyncio.run(short_request(server)) for _ in range(5)]
        assert outcomes == ["ok"] * 5
        with collector(tmp_path, port) as sink:
            outcomes += asyncio.run(overload_then_kill(server, tmp_path / "answering"))
            client = HttpClient(sink.url)
            rows = landed(client, len(outcomes))
            client.close()
    print("late collector, full queue, dead engine:", Counter(outcomes))
    assert Counter(row["outcome"] for row in rows) == Counter(outcomes)
    assert {"ok", "rejected", "engine_dead"} <= set(outcomes)
    died = [row for row in rows if row["outcome"] == "engine_dead" and row["ttft_seconds"] is not None]
    assert all(row["output_tokens"] > 0 for row in died)


async def short_request(server) -> str:
    ask = Ask(0, "search", "short", COMPLETIONS, {"model": MODEL, "prompt": "x", "max_tokens": 3}, KEYS["search"])
    clients = Clients(server.url, "http://127.0.0.1:9")
    async with httpx.AsyncClient(base_url=server.url) as client:
        return (await clients.send(client, ask, {"authorization": f"Bearer {ask.key}"})).outcome


async def overload_then_kill(server, answering: Path) -> list[str]:
    body = {"model": MODEL, "max_tokens": 1900, "ignore_eos": True, "stream": True, "prompt": "tell me"}
    headers = {"authorization": f"Bearer {KEYS['search']}"}

    async def one(client) -> str:
        async with client.stream("POST", COMPLETIONS, json=body, headers=headers) as response:
            if response.status_code != 200:
                return "rejected"
            async for line in response.aiter_lines():
                if line.startswith("data: {") and not answering.exists():
                    answering.touch()
                if line.startswith('data: {"error"'):
                    return "rejected" if json.loads(line[6:])["error"]["code"] == 503 else "engine_dead"
        return "ok"

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(24)]
        # Another process kills: beside a busy engine on two cores this one may not run for seconds.
        workers = " ".join(str(pid) for pid in descendants(server.process.pid) if "Worker" in command_line(pid))
        # It waits for the first answer: on a machine that is busy elsewhere nobody may have been heard by then. And not
        # for much more: a quick one makes all 1,900 tokens in half a second.
        wait = f"while [ ! -e {answering} ]; do sleep 0.01; done; sleep 0.05"
        killer = subprocess.Popen(["sh", "-c", f"{wait}; kill -9 {workers}"])
        outcomes = list(await asyncio.gather(*tasks))
        assert killer.wait(60) == 0
        return outcomes


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    children = [int(child) for child in found]
    return children + [below for child in children for below in descendants(child)]
