"""A real vLLM server whose VLLM_PLUGINS leaves our plugin out: the middleware alone still counts every request."""

import asyncio

import httpx
import pytest
from load import CHAT, KEYS, MODEL, Ask, Clients
from serving import collector, vllm_server
from test_real_vllm import engine_counts, landed

from collector.client import HttpClient
from engine_exporter.api_keys import add_key

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def asks() -> list[Ask]:
    base = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}], "ignore_eos": True}
    streamed = {**base, "stream": True, "stream_options": {"include_usage": True}}
    return [
        Ask(0.1, "agents", "whole", CHAT, {**base, "max_tokens": 7}, KEYS["agents"]),
        Ask(0.4, "agents", "streamed", CHAT, {**streamed, "max_tokens": 9}, KEYS["agents"]),
        Ask(0.7, "agents", "untold", CHAT, {**base, "stream": True, "max_tokens": 11}, KEYS["agents"]),
        Ask(1.0, "agents", "leaver", CHAT, {**streamed, "max_tokens": 800}, KEYS["agents"], leave_after_chunks=5),
    ]


def test_without_the_plugin_rows_have_tokens_and_no_invented_times(tmp_path):
    keys = tmp_path / "keys.yaml"
    add_key(keys, KEYS["agents"], "agents")
    with collector(tmp_path) as sink:
        with vllm_server(
            tmp_path,
            otlp_endpoint=sink.otlp_endpoint,
            api_keys_file=keys,
            api_keys=[KEYS["agents"]],
            environment={"VLLM_PLUGINS": "lora_filesystem_resolver"},
            native_spans=False,
            adapters=False,
        ) as server:
            clients = Clients(server.url, sink.otlp_endpoint)
            seen = asyncio.run(clients.drive(asks()))
            clients.provider.shutdown()
            httpx.get(f"{server.url}/health").raise_for_status()
            engine = engine_counts(server.metrics())
        client = HttpClient(sink.url)
        rows = landed(client, len(seen))
        client.close()
    assert [row["outcome"] for row in rows] == ["ok", "ok", "ok", "client_disconnect"]
    assert [row["output_tokens"] for row in rows[:3]] == [7, 9, 11]
    assert rows[3]["output_tokens"] >= 4, "the first of its five chunks says a role"
    assert sum(row["output_tokens"] for row in rows) == engine["output"]
    assert all(row["prefill_step_seconds"] is None and row["decode_step_seconds"] is None for row in rows)
    assert all(row["ttft_seconds"] > 0 for row in rows if row["stream"])
