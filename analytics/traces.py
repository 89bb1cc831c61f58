"""One trace as the rows of a waterfall: its spans, its requests, and the phases within each request."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from analytics.statements import ask

if TYPE_CHECKING:
    import polars as pl

    from collector.client import Client

PHASES = ("queue", "prefill", "decode")
SHOWN = (
    "model", "adapter", "replica", "team", "app", "endpoint", "finish_reason", "error_type",
    "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
    "ttft_seconds", "tpot_seconds", "max_gap_seconds", "preemptions_count",
    "engine", "engine_version", "gpu_type", "source", "estimated",
)  # fmt: skip
RANKS = ("ttft_below_count", "ttft_peers_count", "e2e_below_count", "e2e_peers_count")
UNRANKED = dict.fromkeys(RANKS)


def trace(client: Client, trace_id: str) -> pl.DataFrame:
    """Tell one trace for a waterfall.

    A request is expanded into its queue, prefill and decode phases from its columns, marked synthetic, unless the
    trace has child spans of it that are named so.

    Returns:
        One row per span ordered by (started_at, span_id): span_id, parent_span_id (null at a root), name, started_at,
        duration_seconds, kind, synthetic (true for phases made from columns), outcome (of requests; null for spans),
        attributes (JSON text). Of the first request also how it stands among its peers (`trace_requests_request`):
        ttft_below_count of ttft_peers_count took less to the first token, e2e_below_count of e2e_peers_count in all;
        null elsewhere. No rows where the trace is unknown.
    """
    import polars as pl

    requests = ask(client, "trace_requests_request", trace_id=trace_id)
    spans = ask(client, "trace_spans_span", trace_id=trace_id)
    rows = [
        {**{key: span[key] for key in span if key != "status"}, "synthetic": False, "outcome": None, **UNRANKED}
        for span in spans.iter_rows(named=True)
    ]
    measured = {row["parent_span_id"] for row in rows if any(phase in row["name"].lower() for phase in PHASES)}
    for request in requests.iter_rows(named=True):
        rows.append(request_row(request))
        if request["span_id"] not in measured:
            rows.extend(phase_rows(request))
    schema = {
        "span_id": pl.String,
        "parent_span_id": pl.String,
        "name": pl.String,
        "started_at": pl.Datetime("us"),
        "duration_seconds": pl.Float64,
        "kind": pl.String,
        "synthetic": pl.Boolean,
        "outcome": pl.String,
        "attributes": pl.String,
        **dict.fromkeys(RANKS, pl.Int64),
    }
    return pl.DataFrame(rows, schema=schema).sort("started_at", "span_id", maintain_order=True)


def request_row(request: dict[str, Any]) -> dict[str, Any]:
    """Make the waterfall row of a request."""
    extra = mapping(request["attributes"])
    shown = {key: request[key] for key in SHOWN if request[key] is not None}
    return {
        "span_id": request["span_id"],
        "parent_span_id": extra.get("parent_span_id"),
        "name": f"request {request['model'] or 'unknown'}",
        "started_at": request["started_at"],
        "duration_seconds": length_seconds(request),
        "kind": "server",
        "synthetic": False,
        "outcome": request["outcome"],
        "attributes": json.dumps({**extra, **shown}),
        **{name: request[name] for name in RANKS},
    }


def mapping(attributes: dict[str, str] | list[dict[str, str]] | None) -> dict[str, str]:
    """Return a MAP column's value as a dict; polars before 2.1 hands it over as a list of key and value."""
    if isinstance(attributes, list):
        return {entry["key"]: entry["value"] for entry in attributes}
    return attributes or {}


def length_seconds(request: dict[str, Any]) -> float | None:
    """Return how long a request took: the measured time, else by its ends; None where neither is known."""
    if request["e2e_seconds"] is not None:
        return float(request["e2e_seconds"])
    if request["ended_at"] is not None:
        return float((request["ended_at"] - request["started_at"]).total_seconds())
    return None


def phase_rows(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of the phases that were measured, one after the other from the start of the request."""
    rows = []
    begins: datetime = request["started_at"]
    for phase in PHASES:
        seconds = request[f"{phase}_seconds"]
        if seconds is None:
            continue
        rows.append(
            {
                "span_id": f"{request['span_id']}.{phase}",
                "parent_span_id": request["span_id"],
                "name": phase,
                "started_at": begins,
                "duration_seconds": seconds,
                "kind": "internal",
                "synthetic": True,
                "outcome": None,
                "attributes": "{}",
                **UNRANKED,
            }
        )
        begins += timedelta(seconds=seconds)
    return rows
