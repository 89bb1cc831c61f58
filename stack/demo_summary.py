"""What `fleetmeter demo --once` prints: what was landed, how the SLOs stand, what fires, what yesterday cost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from collector.client import Client
from stack.demo_plan import DemoConfig

TABLES = ("requests", "spans", "metric_points", "metric_histograms", "gpu_samples", "replicas", "events")


def summarise(client: Client, config: DemoConfig, now: datetime) -> dict[str, Any]:
    """Ask what a newcomer would ask first."""
    return {
        "as_of": now.isoformat(timespec="seconds"),
        "rows": {table: count(client, table) for table in TABLES},
        "requests_by_source": dict(
            pairs(client, "SELECT source, count(*) AS n FROM requests GROUP BY source ORDER BY source")
        ),
        "slo": slo_lines(client, now),
        "cost": cost_lines(client, now),
        "alerts": alert_lines(config),
    }


def count(client: Client, table: str) -> int:
    """How many rows a table has."""
    return int(client.query(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py())


def pairs(client: Client, sql: str) -> list[tuple[str, int]]:
    """The rows of a query of two columns."""
    return [(str(name), int(number)) for name, number in (row.values() for row in client.query(sql).to_pylist())]


def slo_lines(client: Client, now: datetime) -> list[dict[str, Any]]:
    """The five SLOs with the least budget left."""
    from analytics.slo import load_definitions, slo_statuses

    statuses = [status for status in slo_statuses(client, now, load_definitions(None)) if not status.no_data]
    statuses.sort(key=lambda status: status.budget_left_ratio if status.budget_left_ratio is not None else 1.0)
    return [
        {
            "slo": status.slo.name,
            "model": status.model,
            "budget_left_ratio": status.budget_left_ratio,
            "burn_rate_1h": status.burn_rates["1h"],
            "exhausted_in_seconds": status.exhausted_in_seconds,
        }
        for status in statuses[:5]
    ]


def cost_lines(client: Client, now: datetime) -> dict[str, Any]:
    """Yesterday's bill and its parts, in USD, and whether they sum to it."""
    from analytics.cost import cost_report, team_costs, units_to_usd

    today = now.date()
    report = cost_report(client, today - timedelta(days=1), today, now=now)
    parts = team_costs(report).to_dicts()
    return {
        "day": str(today - timedelta(days=1)),
        "bill_usd": str(units_to_usd(report.bill_units)),
        "parts_usd": {
            str(part["team"] or part["bucket"]): str(units_to_usd(int(part["amount_units"]))) for part in parts
        },
        "parts_sum_to_the_bill": sum(part["amount_units"] for part in parts) == report.bill_units,
        "unpriced": list(report.unpriced),
    }


def alert_lines(config: DemoConfig) -> list[dict[str, Any]]:
    """What fires or is about to, and who was told."""
    from alerts.read_model import active_alerts

    return [
        {
            "title": alert.title,
            "severity": alert.severity,
            "state": alert.state,
            "labels": dict(alert.labels),
            "summary": alert.summary,
            "deliveries": {delivery.receiver: delivery.status for delivery in alert.deliveries},
        }
        for alert in active_alerts(config.alerts_state)
    ]
