"""The rate book and the budgets of a simulated fleet, in exact units of 1e-9 USD."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa

from analytics.simulator.config import FleetConfig
from analytics.simulator.incidents import Clock
from analytics.simulator.tables import STAMP, hash_text

UNITS_PER_USD = 1_000_000_000
RATES_SCHEMA = pa.schema(
    [
        ("rate_id", pa.string()), ("gpu_type", pa.string()), ("provider", pa.string()), ("region", pa.string()),
        ("purchase_type", pa.string()), ("currency", pa.string()), ("gpu_hour_units", pa.int64()),
        ("valid_from", STAMP), ("valid_to", STAMP), ("origin", pa.string()),
    ]
)  # fmt: skip
BUDGETS_SCHEMA = pa.schema(
    [
        ("budget_id", pa.string()),
        ("team", pa.string()),
        ("month", pa.date32()),
        ("currency", pa.string()),
        ("amount_units", pa.int64()),
    ]
)


def units(usd: str) -> int:
    """Units of 1e-9 USD of a decimal text with at most nine places."""
    return int(Decimal(usd) * UNITS_PER_USD)


def rate_rows(config: FleetConfig) -> pa.Table:
    """Rows of `rate_cards`."""
    rows = [
        {
            **rate.model_dump(include={"gpu_type", "provider", "region", "purchase_type", "origin"}),
            "rate_id": "sim-"
            + hash_text(rate.gpu_type, rate.provider, rate.region, rate.purchase_type, rate.valid_from),
            "currency": "USD",
            "gpu_hour_units": units(rate.usd_per_gpu_hour),
            "valid_from": midnight(rate.valid_from),
            "valid_to": midnight(rate.valid_to) if rate.valid_to else None,
        }
        for rate in config.rates
    ]
    return pa.Table.from_pylist(rows, schema=RATES_SCHEMA)


def budget_rows(config: FleetConfig, clock: Clock) -> pa.Table:
    """Rows of `budgets`: each team's for every month that the simulation touches, and the one after it."""
    rows = [
        {
            "budget_id": f"sim-{budget.team}-{month:%Y-%m}",
            "team": budget.team,
            "month": month,
            "currency": "USD",
            "amount_units": units(budget.usd_per_month),
        }
        for month in months(clock.start, clock.end)
        for budget in config.budgets
    ]
    return pa.Table.from_pylist(rows, schema=BUDGETS_SCHEMA)


def months(start: datetime, end: datetime) -> list[date]:
    """First days of the months from `start`'s to the one after `end`'s."""
    first, last = start.year * 12 + start.month - 1, end.year * 12 + end.month
    return [date(month // 12, month % 12 + 1, 1) for month in range(first, last + 1)]


def midnight(day: date) -> datetime:
    """The start of a day."""
    return datetime(day.year, day.month, day.day)
