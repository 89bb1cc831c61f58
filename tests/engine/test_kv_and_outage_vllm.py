"""A real vLLM server whose KV cache is watched and whose collector is gone: footprints of teams, memory, speed."""

import asyncio
import re
import time
from pathlib import Path

import httpx
import pytest
from load import CHAT, KEYS, MODEL, Ask, Clients
from serving import free_port, vllm_server

from engine_exporter.api_keys import add_key
from engine_exporter.kv_events import KvListener

pytestmark = [pytest.mark.engine, pytest.mark.slow]

QUEUE_SPANS = 200
BURST_REQUESTS = 60
BURSTS = 8


def resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found.group(1)) * 1024


def cpu_seconds(pid: int) -> float:
    """Time on a CPU of all threads; a busy machine changes it little, and requests per second by a factor."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def chat(team: str, text: str, tokens: int) -> Ask:
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True}
    return Ask(0, team, "chat", CHAT, body, KEYS[team])


async def burst(server, asks, at_once: int = 8) -> float:
    """Requests per second of a closed loop."""
    clients, waiting = Clients(server.url, "http://127.0.0.1:9"), iter(asks)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def one() -> None:
            for ask in waiting:
                seen = await clients.send(client, ask, {"authorization": f"Bearer {ask.key}"})
                assert seen.outcome == "ok"

        began = time.monotonic()
        await asyncio.gather(*(one() for _ in range(at_once)))
        return len(asks) / (time.monotonic() - began)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """No collector anywhere: more spans than the queue holds, several times over; KV-cache events are heard."""
    folder = tmp_path_factory.mktemp("outage")
    keys = folder / "keys.yaml"
    for team in ("search", "agents"):
        add_key(keys, KEYS[team], team)
    kv = KvListener(("tcp://127.0.0.1:*",), "kv")
    with vllm_server(
        folder,
        otlp_endpoint=f"http://127.0.0.1:{free_port()}",
        api_keys_file=keys,
        api_keys=[KEYS["search"], KEYS["agents"]],
        arguments=(
            "--kv-events-config",
            f'{{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "{kv.addresses[0]}", "topic": "kv"}}',
            "--max-num-seqs",
            "16",
        ),
        environment={
            "FLEETMETER__ENGINE_EXPORTER__QUEUE_LIMIT_SPANS": str(QUEUE_SPANS),
            "FLEETMETER__ENGINE_EXPORTER__EXPORT_PATIENCE_SECONDS": "3600",
            "FLEETMETER__ENGINE_EXPORTER__KV_TEAM_SESSION": "true",
        },
        native_spans=False,
        adapters=False,
    ) as server:
        speeds, sizes, costs = [], [], []
        for k in range(BURSTS):
            asks = [
                chat(("search", "agents")[i % 2], f"{k} {i} " + "value index string object " * 20, 8)
                for i in range(BURST_REQUESTS)
            ]
            before = cpu_seconds(server.process.pid)
            speeds.append(asyncio.run(burst(server, asks)))
            costs.append(1e3 * (cpu_seconds(server.process.pid) - before) / BURST_REQUESTS)
            sizes.append(resident_bytes(server.process.pid))
        time.sleep(0.5)
        points = list(kv.events.points())
        metrics = server.metrics()
        log = server.log.read_text()
    kv.close()
    return {"speeds": speeds, "costs": costs, "sizes": sizes, "points": points, "metrics": metrics, "log": log}


def test_without_a_collector_memory_and_throughput_stay_as_they_were(run):
    speeds, costs, sizes = run["speeds"], run["costs"], run["sizes"]
    print("requests/s", [f"{speed:.1f}" for speed in speeds], "MB", [f"{size / 1e6:.1f}" for size in sizes], end=" ")
    print("API process, ms CPU a request", [f"{cost:.2f}" for cost in costs])
    dropped = sum(map(float, re.findall(r"^infer_exporter_dropped_total\{.*\} (\S+)$", run["metrics"], re.MULTILINE)))
    assert dropped == pytest.approx(BURSTS * BURST_REQUESTS - QUEUE_SPANS, abs=1), "the queue has been full for long"
    # The queue is full after the fourth burst; what is dropped after that must cost nothing.
    assert sizes[-1] - sizes[4] < 8e6
    assert min(costs[4:]) < 1.25 * min(costs[1:4])
    assert "spans dropped so far" in run["log"]


def test_kv_events_say_what_the_cache_holds_and_for_which_team(run):
    values = {(point.name, point.labels.get("team")): point.value for point in run["points"]}
    print(values)
    usage = float(re.search(r"^vllm:kv_cache_usage_perc\{.*\} (\S+)$", run["metrics"], re.MULTILINE).group(1))
    assert values["infer.kv.batches_lost", None] == 0
    assert values["infer.kv.events_unreadable", None] == 0
    stored, removed = values["infer.kv.blocks_stored", None], values["infer.kv.blocks_removed", None]
    assert stored > BURSTS * BURST_REQUESTS
    assert removed > 0, "the cache is smaller than the load"
    assert values["infer.kv.resident_blocks", None] == stored - removed
    assert 0 < values["infer.kv.resident_blocks", None] <= 120
    assert usage <= 1
    teams = {team for name, team in values if name == "infer.kv.team_tokens"}
    assert teams == {"search", "agents"}
    assert sum(values["infer.kv.team_tokens", team] for team in teams) == values["infer.kv.resident_tokens", None]
    seconds = [values["infer.kv.team_token_seconds", team] for team in sorted(teams)]
    assert min(seconds) > 0.5 * max(seconds), "both teams ask for the same"
