"""A small seeded fleet in a data file: three models, six replicas, four teams, one slow hour at the end."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from collector.client import FileClient

MODELS = {"granite-8b": 2, "llama-70b": 2, "qwen-32b": 2}
TEAMS = ("ads", "assist", "research", "search")
TIMESTAMP = pa.timestamp("us")
SLOW_MODEL = "llama-70b"
SLOW_FROM = timedelta(minutes=50)


def replicas_of(model: str) -> list[str]:
    return [f"{model}-{number}" for number in range(MODELS[model])]


def write_fleet(path: Path, end: datetime, *, hours: float = 26, per_minute: int = 6, seed: int = 7) -> None:
    """Write requests, spans, metrics, GPU samples, inventory, events, rates and budgets that end at `end`."""
    generator = np.random.default_rng(seed)
    client = FileClient(path, write=True)
    try:
        client.land("requests", requests(generator, end, hours, per_minute))
        client.land("spans", spans(end))
        series, points = metrics(generator, end, hours)
        client.land("metric_series", series)
        client.land("metric_points", points)
        client.land("gpu_samples", gpu_samples(generator, end, hours))
        client.land("replicas", inventory(end, hours))
        client.land("events", events(end))
        client.land("rate_cards", rates(end))
        client.land("budgets", budgets(end))
    finally:
        client.close()


def requests(generator, end, hours, per_minute) -> pa.Table:
    rows = []
    count = int(hours * 60 * per_minute)
    offsets = np.sort(generator.uniform(0, hours * 3600, count))
    for number, offset in enumerate(offsets):
        started = end - timedelta(hours=hours) + timedelta(seconds=float(offset))
        model = list(MODELS)[generator.integers(len(MODELS))]
        slow = model == SLOW_MODEL and started >= end - SLOW_FROM
        team = None if number % 50 == 0 else TEAMS[generator.choice(4, p=[0.1, 0.2, 0.3, 0.4])]
        prompt = int(generator.lognormal(6.5, 0.8)) + 8
        cached = int(prompt * generator.uniform(0.0, 0.1 if slow else 0.8))
        output = int(generator.lognormal(5.0, 0.7)) + 2
        queue = float(generator.exponential(1.5 if slow else 0.02))
        prefill = 0.05 + (prompt - cached) * 0.0001
        ttft = queue + prefill
        tpot = float(generator.normal(0.03, 0.004))
        outcome = generator.choice(
            ["ok", "error", "client_disconnect"], p=[0.90, 0.06, 0.04] if slow else [0.985, 0.0005, 0.0145]
        )
        e2e = ttft + tpot * (output - 1)
        ok = outcome == "ok"
        rows.append(
            {
                "trace_id": f"{number:032x}",
                "span_id": f"{number:016x}",
                "started_at": started,
                "ended_at": started + timedelta(seconds=e2e),
                "team": team,
                "app": None if team is None else f"{team}-bot",
                "model": model,
                "replica": replicas_of(model)[generator.integers(MODELS[model])],
                "engine": "vllm",
                "engine_version": "0.32.0",
                "gpu_type": "H100",
                "gpu_count": 1,
                "endpoint": "/v1/chat/completions",
                "mode": "live",
                "stream": True,
                "outcome": str(outcome),
                "finish_reason": "stop" if ok else None,
                "error_type": "500" if outcome == "error" else None,
                "input_tokens": prompt,
                "cached_tokens": cached,
                "output_tokens": output if ok else output // 2,
                "ttft_seconds": ttft if outcome != "error" else None,
                "tpot_seconds": tpot if ok else None,
                "e2e_seconds": e2e,
                "queue_seconds": queue,
                "prefill_seconds": prefill,
                "decode_seconds": e2e - ttft,
                "preemptions_count": 0,
                "source": "simulator",
                "estimated": False,
                "received_at": started + timedelta(seconds=e2e + 2),
            }
        )
    schema = {"started_at": TIMESTAMP, "ended_at": TIMESTAMP, "received_at": TIMESTAMP}
    rows = [row for row in rows if row["received_at"] <= end]
    return typed(rows, schema)


def spans(end) -> pa.Table:
    started = end - timedelta(minutes=30)
    return typed(
        [
            {
                "trace_id": "f" * 32,
                "span_id": f"{1:016x}",
                "name": "gateway chat",
                "kind": "server",
                "service": "gateway",
                "started_at": started,
                "duration_seconds": 2.4,
            },
            {
                "trace_id": "f" * 32,
                "span_id": f"{2:016x}",
                "parent_span_id": f"{1:016x}",
                "name": "retrieval",
                "kind": "client",
                "service": "gateway",
                "started_at": started + timedelta(seconds=0.1),
                "duration_seconds": 0.6,
            },
        ],
        {"started_at": TIMESTAMP},
    )


def metrics(generator, end, hours) -> tuple[pa.Table, pa.Table]:
    names = {
        "infer.engine.kv_cache_usage_ratio": 0.45,
        "infer.engine.requests_running": 12.0,
        "infer.engine.requests_waiting": 0.5,
        "up": 1.0,
    }
    series, points = [], []
    times = [end - timedelta(seconds=60 * step + 5) for step in range(int(hours * 60))]
    for model in MODELS:
        for replica in replicas_of(model):
            for name, level in names.items():
                identity = len(series) + 1
                named = {"name": name, "model": model, "replica": replica, "labels": [("replica", replica)]}
                series.append({"series_id": identity, "kind": "gauge", **named})
                for moment in times:
                    slow = model == SLOW_MODEL and moment >= end - SLOW_FROM
                    factor = {"infer.engine.requests_waiting": 60.0, "up": 1.0}.get(name, 1.9) if slow else 1.0
                    noise = 1.0 if name == "up" else float(generator.normal(1, 0.05))
                    points.append({"series_id": identity, "observed_at": moment, "value": level * factor * noise})
    labels = {"labels": pa.map_(pa.string(), pa.string())}
    return typed(series, labels), typed(points, {"observed_at": TIMESTAMP})


def gpu_samples(generator, end, hours) -> pa.Table:
    rows = []
    for model in MODELS:
        for replica in replicas_of(model):
            for step in range(int(hours * 60)):
                moment = end - timedelta(seconds=60 * step + 5)
                slow = model == SLOW_MODEL and moment >= end - SLOW_FROM
                rows.append(
                    {
                        "gpu_uuid": f"GPU-{replica}",
                        "sampled_at": moment,
                        "gpu_type": "H100",
                        "replica": replica,
                        "power_watts": float(generator.normal(560 if slow else 380, 12)),
                        "sm_active_ratio": float(np.clip(generator.normal(0.86 if slow else 0.5, 0.03), 0, 1)),
                    }
                )
    return typed(rows, {"sampled_at": TIMESTAMP})


def inventory(end, hours) -> pa.Table:
    since = end - timedelta(hours=hours)
    rows = [
        {
            "replica": replica,
            "valid_from": since,
            "model": model,
            "deployment": model,
            "engine": "vllm",
            "gpu_type": "H100",
            "gpu_count": 1,
        }
        for model in MODELS
        for replica in replicas_of(model)
    ]
    return typed(rows, {"valid_from": TIMESTAMP})


def events(end) -> pa.Table:
    return typed(
        [
            {
                "event_id": "deploy-1",
                "occurred_at": end - SLOW_FROM,
                "kind": "deploy",
                "model": SLOW_MODEL,
                "title": f"deploy {SLOW_MODEL} 0.32.1",
            }
        ],
        {"occurred_at": TIMESTAMP},
    )


def rates(end) -> pa.Table:
    return typed(
        [
            {
                "rate_id": "h100",
                "gpu_type": "H100",
                "currency": "USD",
                "gpu_hour_units": 2_500_000_000,
                "valid_from": end - timedelta(days=400),
                "origin": "test",
            }
        ],
        {"valid_from": TIMESTAMP},
    )


def budgets(end) -> pa.Table:
    month = date(end.year, end.month, 1)
    return pa.Table.from_pylist(
        [
            {
                "budget_id": f"{team}-{month}",
                "team": team,
                "month": month,
                "currency": "USD",
                "amount_units": 150_000_000_000,
            }
            for team in TEAMS
        ]
    )


def typed(rows: list[dict], types: dict[str, pa.DataType]) -> pa.Table:
    """Rows as a table; columns are the union of the rows' keys, times in microseconds."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows], type=types.get(name)) for name in names})
