"""Threshold rules: a measure of the fleet, of each model or of each replica stands on the wrong side of a number."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from alerts.kinds.surroundings import Surroundings
from alerts.rules import Measure, Scope, ThresholdRule
from alerts.states import Sample

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

OF_REQUESTS = frozenset(
    {Measure.ERROR_RATIO, Measure.TTFT_P95_SECONDS, Measure.TPOT_P95_SECONDS, Measure.CACHE_HIT_RATIO}
)
"""Measures that are worth nothing with fewer requests than `min_requests`."""

OF_TELEMETRY = frozenset(
    {Measure.INGEST_LAG_SECONDS, Measure.LANDING_DELAY_P95_SECONDS, Measure.UNATTRIBUTED_RATIO, Measure.ESTIMATED_RATIO}
)
"""Measures of the telemetry itself."""

SUMMARY_COLUMNS = {Measure.KV_CACHE_RATIO: "kv_cache_max_ratio", Measure.WAITING_REQUESTS: "waiting_max"}
REPLICA_COLUMNS = {Measure.KV_CACHE_RATIO: "kv_cache_usage_ratio", Measure.WAITING_REQUESTS: "waiting"}

Row = tuple[dict[str, str], Mapping[str, Any], str]
"""Labels, the row that was read, the column that holds the measure."""


def samples(rule: ThresholdRule, around: Surroundings, now: datetime) -> list[Sample]:
    """Judge the measure in each scope: one row per fleet, model or replica that has something to judge."""
    return [sample for row in rows(rule, around, now) if (sample := judge(rule, *row)) is not None]


def rows(rule: ThresholdRule, around: Surroundings, now: datetime) -> Iterator[Row]:
    """Read what the rule looks at."""
    if rule.measure in OF_TELEMETRY:
        yield from telemetry_rows(rule, around, now)
    elif rule.measure == Measure.TARGET_UP:
        yield from target_rows(around, now)
    elif rule.scope == Scope.REPLICA:
        yield from replica_rows(rule, around, now)
    else:
        yield from summary_rows(rule, around, now)


def summary_rows(rule: ThresholdRule, around: Surroundings, now: datetime) -> Iterator[Row]:
    """Sum up the window, of the fleet or of each model."""
    from analytics.latency import extent, fleet_summary

    start = now - timedelta(seconds=rule.window)
    column = SUMMARY_COLUMNS.get(rule.measure, str(rule.measure))
    if rule.scope == Scope.FLEET:
        yield {}, asdict(fleet_summary(around.client, start, now)), column
        return
    for model in rule.models or extent(around.client).models:
        yield {"model": model}, asdict(fleet_summary(around.client, start, now, model=model)), column


def replica_rows(rule: ThresholdRule, around: Surroundings, now: datetime) -> Iterator[Row]:
    """Read the window of each replica."""
    from analytics.latency import replica_table

    column = REPLICA_COLUMNS.get(rule.measure, str(rule.measure))
    for row in replica_table(around.client, now - timedelta(seconds=rule.window), now).iter_rows(named=True):
        if not rule.models or row["model"] in rule.models:
            if rule.measure == Measure.REQUESTS_PER_SECOND:
                row[column] = (row["requests_count"] or 0) / rule.window
            yield labelled(row), row, column


def target_rows(around: Surroundings, now: datetime) -> Iterator[Row]:
    """Read whether each scraped target answered last time; what is never scraped has no row."""
    from analytics.health import telemetry_health

    health = around.health or telemetry_health(around.client, now)
    for row in health.replicas.iter_rows(named=True):
        if row["up"] is not None:
            yield labelled(row), row, "up"


def telemetry_rows(rule: ThresholdRule, around: Surroundings, now: datetime) -> Iterator[Row]:
    """Read the condition of the telemetry over the window."""
    from analytics.health import telemetry_health

    health = telemetry_health(around.client, now, window_seconds=rule.window)
    yield {}, {"requests_count": health.requests_count, rule.measure: getattr(health, rule.measure)}, rule.measure


def labelled(row: Mapping[str, Any]) -> dict[str, str]:
    """Name a replica and its model."""
    return {key: str(row[key]) for key in ("model", "replica") if row[key] is not None}


def judge(rule: ThresholdRule, labels: dict[str, str], row: Mapping[str, Any], column: str) -> Sample | None:
    """Judge one row; None where there is nothing in it."""
    found = row[column]
    requests = row.get("requests_count")
    if rule.measure == Measure.LAST_XID:
        breach = found is not None and float(found) in rule.values
        return Sample(labels, breach, None if found is None else float(found), None, context(rule, requests))
    if found is None:
        return None
    value = float(found)
    few = rule.measure in OF_REQUESTS and (requests or 0) < rule.min_requests
    breach = value in rule.values if rule.op == "in" else COMPARE[rule.op](value, float(rule.threshold or 0.0))
    return Sample(labels, None if few else breach, value, rule.threshold, context(rule, requests))


def context(rule: ThresholdRule, requests: Any) -> dict[str, Any]:
    """Say over what the measure was taken."""
    return {"measure": str(rule.measure), "window_seconds": rule.window, "requests": requests}
