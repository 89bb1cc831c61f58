"""A real vLLM server of two data-parallel ranks: each has its own steps, and every request is one row."""

import asyncio
import re
from collections import Counter

import httpx
import pytest
from load import CHAT, KEYS, MODEL, Ask, Clients
from serving import collector, vllm_server
from test_real_vllm import engine_counts, landed

from collector.client import HttpClient
from engine_exporter.api_keys import add_key

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def asks() -> list[Ask]:
    def one(k: int) -> Ask:
        text = f"{k} " + "value index string object " * (k % 5 + 1)
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "ignore_eos": True, "stream": True}
        body |= {"max_tokens": 20 + k % 7, "stream_options": {"include_usage": True}}
        leaves = 4 if k % 10 == 9 else None
        if leaves:
            body["max_tokens"] = 400
        return Ask(0.04 * k, "agents", "chat", CHAT, body, KEYS["agents"], leave_after_chunks=leaves)

    return [one(k) for k in range(60)]


def test_both_ranks_are_measured_and_their_steps_are_shared(tmp_path):
    keys = tmp_path / "keys.yaml"
    add_key(keys, KEYS["agents"], "agents")
    with collector(tmp_path) as sink:
        with vllm_server(
            tmp_path,
            otlp_endpoint=sink.otlp_endpoint,
            api_keys_file=keys,
            api_keys=[KEYS["agents"]],
            arguments=("--data-parallel-size", "2", "--api-server-count", "1", "--shutdown-timeout", "5"),
            environment={"VLLM_CPU_OMP_THREADS_BIND": "0|1"},
            native_spans=False,
            adapters=False,
        ) as server:
            clients = Clients(server.url, sink.otlp_endpoint)
            seen = asyncio.run(clients.drive(asks()))
            clients.provider.shutdown()
            httpx.get(f"{server.url}/health").raise_for_status()
            text = server.metrics()
        client = HttpClient(sink.url)
        rows = landed(client, len(seen))
        client.close()
    engine = engine_counts(text)
    steps = dict(re.findall(r'^infer_engine_step_seconds_total\{engine="(\d)"\} (\S+)$', text, re.MULTILINE))
    shares = sum((row["prefill_step_seconds"] or 0) + (row["decode_step_seconds"] or 0) for row in rows)
    print(Counter(one.outcome for one in seen), engine, steps, f"shares {shares:.2f} s")
    assert Counter(row["outcome"] for row in rows) == Counter(one.outcome for one in seen)
    assert sum(row["output_tokens"] or 0 for row in rows) == engine["output"]
    assert sum(row["input_tokens"] or 0 for row in rows) == engine["input"]
    assert set(steps) == {"0", "1"}
    assert all(float(seconds) > 0 for seconds in steps.values())
    # Of a busy machine's steps some show no sequence, those for clients that have gone among them: nobody is charged.
    assert shares == pytest.approx(sum(map(float, steps.values())), rel=0.08)
