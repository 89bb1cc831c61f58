"""Writes a cost report as FOCUS rows: one per day, replica, model, bucket, team, app and method, costs exact.

What the columns mean in a chargeback (docs/cost-focus.md):

- The origin charge is the bill of one replica on one day. Each row is a part of it, `AllocatedRatio` the part's share,
  rounded at twelve decimals so that the shares of an origin charge sum to 1 exactly.
- What a team bears has an AllocatedResourceId (team, or team/app); idle, cold starts, faults and what is unattributed
  are the unallocated part of the origin charge, without one.
- A part of a bill has no unit price of its own: it is 1 allocation at its cost. What was consumed is tokens.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from analytics.focus_export.columns import columns
from analytics.ledger import CostReport, midnight, units_to_usd
from analytics.replica_intervals import ReplicaInterval

if TYPE_CHECKING:
    import pyarrow as pa

RATIO_DIGITS = 12
PRICING = {"reserved": "Committed", "committed": "Committed", "spot": "Dynamic"}
WORDS = {
    "request": "Requests",
    "wasted": "Work that came to nothing",
    "idle_share": "Share of idle time",
    "warm_idle": "Idle time",
    "cold_start": "Loading",
    "fault": "Time out of order",
    "unattributed": "Requests of no known team",
}
CUSTOM = (
    "x_Bucket", "x_Model", "x_RequestsCount", "x_InputTokens", "x_CachedTokens", "x_OutputTokens", "x_InputCost",
    "x_CachedCost", "x_OutputCost", "x_CacheSavedCost",
)  # fmt: skip
"""Columns of our own."""
COUNTS = dict(zip(CUSTOM[2:6], ("requests_count", "input_tokens", "cached_tokens", "output_tokens"), strict=True))
COSTS = dict(zip(CUSTOM[6:], ("input_units", "cached_units", "output_units", "saved_units"), strict=True))

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chargeback:
    """What the rows say of themselves beside the costs."""

    issuer: str
    """Who charges: InvoiceIssuerName, ProviderName, PublisherName, ServiceProviderName."""
    account: str
    """BillingAccountId."""
    billing_start: date
    """First day of the billing period."""
    billing_end: date
    """Day after its last."""
    invoice_id: str | None = None
    """The close that froze it; None where it is not closed."""


def focus_rows(report: CostReport, inventory: Iterable[ReplicaInterval], about: Chargeback) -> list[Row]:
    """Write a report as rows under the names of the newest version.

    Args:
        report: any report; its rows sum to its bill exactly.
        inventory: where each replica stands and how it was bought.
        about: who charges whom for which period.

    Returns:
        One row per entry with an amount or requests. Costs are Decimal with nine decimals, times naive UTC.
    """
    import polars as pl

    names = ("day", "replica", "model", "bucket", "team", "app", "method")
    measures = [name for name in report.entries.columns if report.entries.schema[name].is_integer()]
    entries = report.entries.group_by(names, maintain_order=True).agg(pl.col(measures).sum()).sort(names)
    kept = [entry for entry in entries.to_dicts() if entry["amount_units"] or entry["requests_count"]]
    shares = shares_of(kept)
    places = places_by_day(inventory)
    known = [column.column for column in columns()]
    rows = []
    for entry, share in zip(kept, shares, strict=True):
        row = row_of(entry, share, place_on(places, entry["replica"], entry["day"]), report.currency, about)
        rows.append({name: row.get(name) for name in (*known, *CUSTOM)})
    return rows


def row_of(
    entry: Mapping[str, Any], share: Decimal | None, place: ReplicaInterval | None, currency: str, about: Chargeback
) -> Row:
    """Write one entry."""
    cost = exact(entry["amount_units"])
    charged = entry["amount_units"] >= 0
    team, app, model, bucket = entry["team"], entry["app"], entry["model"], entry["bucket"]
    start = midnight(entry["day"])
    sku = model or "unknown model"
    row: Row = {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost),
        "PricingCurrencyEffectiveCost": cost,
        **dict.fromkeys(("BillingCurrency", "PricingCurrency"), currency),
        **dict.fromkeys(("BillingAccountId", "BillingAccountName"), about.account),
        "BillingAccountType": "Chargeback",
        "BillingPeriodStart": midnight(about.billing_start),
        "BillingPeriodEnd": midnight(about.billing_end),
        "ChargePeriodStart": start,
        "ChargePeriodEnd": start + timedelta(days=1),
        "ChargeCategory": "Usage" if charged else "Adjustment",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{WORDS.get(bucket, bucket)}: {sku} on {entry['replica']}",
        "InvoiceId": about.invoice_id,
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceProviderName"), about.issuer),
        "HostProviderName": place.provider if place and place.provider else about.issuer,
        **dict.fromkeys(("RegionId", "RegionName"), place.region if place else None),
        "ResourceId": entry["replica"],
        "ResourceType": "Inference server",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "LLM inference",
        **dict.fromkeys(("SubAccountId", "SubAccountName"), team),
        "SubAccountType": "Team" if team is not None else None,
        "Tags": tags({"gpu_type": place.gpu_type if place else None, "model": model}),
        "AllocatedMethodId": entry["method"] or "time",
        "AllocatedMethodDetails": None if share is None else f'{{"Elements":[{{"AllocatedRatio":{share:f}}}]}}',
        **dict.fromkeys(("AllocatedResourceId", "AllocatedResourceName"), payer(team, app)),
        "AllocatedTags": tags({"app": app, "team": team}),
        "x_Bucket": bucket,
        "x_Model": model,
        **{name: entry[field] for name, field in COUNTS.items()},
        **{name: exact(entry[field]) for name, field in COSTS.items()},
    }
    if charged:
        row |= {
            **dict.fromkeys(("ListUnitPrice", "ContractedUnitPrice"), cost),
            **dict.fromkeys(("PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"), cost),
            "PricingCategory": PRICING.get((place.purchase_type if place else None) or "", "Standard"),
            "PricingQuantity": Decimal(1),
            "PricingUnit": "Allocations",
            "ConsumedQuantity": Decimal(entry["input_tokens"] + entry["output_tokens"]),
            "ConsumedUnit": "Tokens",
            "SkuId": sku,
            "SkuMeter": "GPU time",
            "SkuPriceId": f"{sku}:{bucket}",
        }
    return row


def exact(units: int) -> Decimal:
    """Return an amount with nine decimals."""
    return units_to_usd(units).quantize(Decimal("1e-9"))


def payer(team: str | None, app: str | None) -> str | None:
    """Name who bears a row."""
    return team if team is None or app is None else f"{team}/{app}"


def tags(named: Mapping[str, str | None]) -> str | None:
    """Write tags as FOCUS has them; None where there are none."""
    there = {name: value for name, value in named.items() if value is not None}
    return json.dumps(there, ensure_ascii=False, sort_keys=True) if there else None


def shares_of(entries: Sequence[Mapping[str, Any]]) -> list[Decimal | None]:
    """Return each entry's share of its replica's day; those of a day sum to 1 exactly, None where the day is 0.

    A share is the growth of the rounded running sum.
    """
    scale = 10**RATIO_DIGITS
    totals: dict[tuple[str, date], int] = defaultdict(int)
    for entry in entries:
        totals[entry["replica"], entry["day"]] += entry["amount_units"]
    seen: dict[tuple[str, date], int] = defaultdict(int)
    shares: list[Decimal | None] = []
    for entry in entries:
        origin = entry["replica"], entry["day"]
        if not totals[origin]:
            shares.append(None)
            continue
        before = seen[origin] * scale // totals[origin]
        seen[origin] += entry["amount_units"]
        shares.append(Decimal(seen[origin] * scale // totals[origin] - before).scaleb(-RATIO_DIGITS))
    return shares


def places_by_day(inventory: Iterable[ReplicaInterval]) -> dict[str, list[ReplicaInterval]]:
    """Return the intervals of each replica, latest first."""
    found: dict[str, list[ReplicaInterval]] = defaultdict(list)
    for interval in sorted(inventory, key=lambda interval: interval.valid_from, reverse=True):
        found[interval.replica].append(interval)
    return found


def place_on(places: Mapping[str, list[ReplicaInterval]], replica: str, day: date) -> ReplicaInterval | None:
    """Return what held of a replica last on a day."""
    start, end = midnight(day), midnight(day) + timedelta(days=1)
    for interval in places.get(replica, []):
        if interval.valid_from < end and (interval.valid_to is None or interval.valid_to > start):
            return interval
    return None


def as_version(rows: Sequence[Row], version: str) -> pa.Table:
    """Return rows as a table of a version: later columns as `x_`, deprecated ones as long as a version has them.

    Decimals are decimal128(38, 9), times timestamps in UTC, JSON is text.
    """
    import pyarrow as pa

    fields = [(column.column, column.name(version), arrow_kind(column.kind)) for column in columns()]
    fields += [(name, name, arrow_kind(custom_kind(name))) for name in CUSTOM]
    fields.sort(key=lambda field: (field[1].startswith("x_"), field[1]))
    arrays = [pa.array([row[source] for row in rows], kind) for source, _, kind in fields]
    return pa.table(arrays, names=[name for _, name, _ in fields])


def custom_kind(name: str) -> str:
    """Return the kind of one of our own columns."""
    return "decimal" if name in COSTS else "count" if name in COUNTS else "string"


def arrow_kind(kind: str) -> Any:
    """Return the Arrow type of a kind."""
    import pyarrow as pa

    kinds = {
        "decimal": pa.decimal128(38, 9),
        "price": pa.decimal128(38, 9),
        "time": pa.timestamp("us", tz="UTC"),
        "count": pa.int64(),
    }
    return kinds.get(kind, pa.string())


def csv_text(table: pa.Table) -> str:
    """Write a table as CSV: decimals in full, times as FOCUS has them (2026-11-01T00:00:00Z), nulls empty."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        writer.writerow([cell_text(cell) for cell in row])
    return out.getvalue()


def cell_text(cell: Any) -> Any:
    """Write one cell."""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%dT%H:%M:%SZ}"
    return f"{cell:f}" if isinstance(cell, Decimal) else cell
