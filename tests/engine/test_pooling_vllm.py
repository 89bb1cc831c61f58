"""A real vLLM server that makes vectors: embeddings, pooling, scores and ranks are rows as any others."""

import asyncio
import time
from collections import Counter

import pytest
from every_endpoint import pooling
from load import KEYS, MODEL, TEAMS, Clients
from serving import collector, vllm_server
from test_real_vllm import engine_counts, landed, step_counts

from collector.client import HttpClient
from engine_exporter.api_keys import add_key

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_every_pooling_endpoint_is_a_row_with_its_tokens_and_its_steps(tmp_path):
    keys = tmp_path / "keys.yaml"
    for team, app in TEAMS.items():
        add_key(keys, KEYS[team], team, app)
    asks = pooling()
    with collector(tmp_path) as sink:
        with vllm_server(
            tmp_path,
            otlp_endpoint=sink.otlp_endpoint,
            api_keys_file=keys,
            api_keys=list(KEYS.values()),
            arguments=("--runner", "pooling", "--convert", "embed"),
            adapters=False,
        ) as server:
            clients = Clients(server.url, sink.otlp_endpoint)
            began = time.monotonic()
            seen = asyncio.run(clients.drive(asks))
            wall = time.monotonic() - began
            clients.provider.shutdown()
            text = server.metrics()
        client = HttpClient(sink.url)
        rows = landed(client, len(asks))
        client.close()
    engine, steps = engine_counts(text), step_counts(text)
    outcomes = Counter((one.ask.path, one.outcome) for one in seen)
    print(outcomes, engine, steps)
    assert Counter((row["endpoint"], row["outcome"]) for row in rows) == outcomes
    assert {row["team"] for row in rows} == {"evals"}
    answered = {row["attributes"]["infer.request.client_id"]: row for row in rows if row["outcome"] == "ok"}
    assert len({row["endpoint"] for row in answered.values()}) >= 7
    for one in seen:
        if one.outcome == "ok":
            row = answered[one.ask.headers["x-request-id"]]
            assert row["model"] == MODEL
            assert one.input_tokens is None or row["input_tokens"] == one.input_tokens
            assert not row["output_tokens"] and row["ttft_seconds"] is None
            assert 0 < row["prefill_step_seconds"] < wall
    assert sum(row["input_tokens"] or 0 for row in rows) == engine["input"]
    shares = sum(row["prefill_step_seconds"] or 0 for row in rows)
    assert shares == pytest.approx(steps["step_seconds"], rel=0.05)
