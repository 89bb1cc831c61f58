"""How an opened figure is laid out: what it is, its parts, and their sum, which is the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from analytics import answers

if TYPE_CHECKING:
    from analytics.explaining import OpenedHour
    from analytics.figures import Figure
    from analytics.ledger import CostReport
    from collector.client import Client


@dataclass(slots=True)
class Explanation:
    """A figure and what it adds up from."""

    title: str
    """What the figure is of."""
    units: int
    """The figure. Unit: 1e-9 of the currency."""
    notes: list[str] = field(default_factory=list)
    """The close, the method, the versions."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """Its parts, each with amount_units; they add up to `sums_to`."""
    sums_to: int = 0
    """What the parts must add up to: the figure, or for a correction what was computed."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """What each request had, where the figure was opened so far."""
    sql: str | None = None
    """A query that lists the requests."""
    hint: str | None = None
    """How to open a part."""


def parts_of_figure(
    client: Client, report: CostReport, figure: Figure, as_of: datetime | None, *, frozen: bool
) -> Explanation:
    """Split a figure over entries of the ledger, or over days and replicas where its month is not frozen."""
    import polars as pl

    from analytics.statements import ask

    if frozen:
        frame = ask(client, "ledger_parts_entry", start=report.start_day, end=report.end_day, as_of=as_of)
        names = ["entry_id", "corrects", "day", "replica", "bucket", "team", "app", "method"]
        hint = "open one: fleetmeter cost explain ENTRY"
    else:
        frame, names = report.entries, ["day", "replica", "bucket", "team", "app", "method"]
        hint = "open one down to its requests: the same command with --day DAY --replica REPLICA"
    mine = frame.filter(
        pl.all_horizontal([pl.col(k).eq_missing(pl.lit(v)) for k, v in figure.match.items()] or [pl.lit(value=True)])
    )
    parts = mine.group_by(names).agg(pl.col("amount_units", "requests_count").sum())
    rows = parts.sort(-pl.col("amount_units").abs(), *names, nulls_last=True).to_dicts()
    title = f"{figure} from {report.start_day} to before {report.end_day}"
    source = "entries of the ledger" if frozen else f"computed now, by {report.method}; the month is not frozen"
    return Explanation(title, figure.units, [source], rows, figure.units, hint=hint)


def parts_of_hours(
    hours: Sequence[OpenedHour],
    *,
    match: dict[str, Any],
    entry: dict[str, Any] | None = None,
    close: dict[str, Any] | None = None,
    day: date | None = None,
    replica: str | None = None,
    known_at: datetime | None = None,
    reported: int | None = None,
) -> Explanation:
    """Lay out the hours of one replica's day; `reported` is what the report says that they come to."""
    from analytics.bill_terms import amount, rounded

    total = sum(hour.amount_units for hour in hours)
    day, replica = (entry["day"], entry["replica"]) if entry else (day, replica)
    words = ", ".join(f"{name} {value}" for name, value in match.items() if value is not None) or "the whole bill"
    found = Explanation(f"{day}, replica {replica}, {words}", total, sums_to=total)
    for hour in hours:
        if rounded(hour.terms) != hour.bill_units:
            found.notes.append(f"the terms of {hour.hour_at} do not add up to its bill: report this as a defect")
        found.parts.append(
            {
                "hour_at": hour.hour_at,
                "bill_units": hour.bill_units,
                "bill_is": " + ".join(term.says for term in hour.terms),
                "busy_ratio": hour.busy_ratio,
                "shared_units": hour.busy_units,
                "method": hour.method,
                "requests_count": len(hour.requests),
                "weight": sum(share.weight for share in hour.requests),
                "of_weight": hour.weights_sum,
                "amount_units": hour.amount_units,
            }
        )
        found.requests += [{name: getattr(share, name) for name in share.__slots__} for share in hour.requests]
    found.requests.sort(key=lambda row: (-abs(row["amount_units"]), row["trace_id"], row["hour_at"]))
    if reported is not None:
        found.units = reported
        if reported != total:
            found.notes.append(
                f"NOT REPRODUCED: the report says {amount(reported)}, and its hours come to {amount(total)}"
            )
    if close is not None:
        known_at = close["known_at"]
    if entry is not None and close is not None:
        found.title = f"entry {entry['entry_id']}: {found.title}"
        found.units = entry["amount_units"]
        found.sums_to = total
        found.notes += entry_notes(entry, close)
        if total != entry["before_units"] + entry["amount_units"]:
            found.notes.append(
                "NOT REPRODUCED: after this close the entries of this key stand at "
                f"{amount(entry['before_units'] + entry['amount_units'])}, and {amount(total)} is computed out of what "
                "was known then"
            )
        else:
            found.notes.append(
                f"{amount(entry['amount_units'])} = {amount(total)} computed out of what was known then"
                f" - {amount(entry['before_units'])} in the ledger before"
            )
    found.sql = requests_sql(day, replica, match, known_at)
    return found


def entry_notes(entry: dict[str, Any], close: dict[str, Any]) -> list[str]:
    """Say which close wrote an entry, under which versions."""
    notes = [
        f"close {close['close_number']} ({close['kind']} {close['start_day']} to before {close['end_day']}) of "
        f"{close['closed_at']:%Y-%m-%d %H:%M:%S} UTC, out of what was known at {close['known_at']:%Y-%m-%d %H:%M:%S}",
        f"method {close['parameters']}, fleetmeter {close['code_version']}, rates {close['rates_version'][:16]}",
        f"hash {entry['entry_hash']}",
    ]
    if entry["corrects"]:
        notes.append(f"corrects entry {entry['corrects']}")
    return notes


def requests_sql(day: date | None, replica: str | None, match: dict[str, Any], known_at: datetime | None) -> str:
    """Write a query that lists the requests that a figure can be of."""
    conditions = [
        f"replica = {quoted(replica)}",
        f"started_at < DATE '{day}' + 1",
        f"coalesce(ended_at, started_at) >= DATE '{day}'",
    ]
    for name in ("team", "app", "model", "adapter", "api_key_hash"):
        if name in match and match.get("bucket", "request") in ("request", "wasted"):
            value = match[name]
            if name != "model":
                conditions.append(f"{name} IS NULL" if value is None else f"{name} = {quoted(value)}")
    if known_at is not None:
        conditions.append(f"coalesce(received_at <= TIMESTAMP '{known_at}', true)")
    return f"SELECT * FROM requests WHERE {' AND '.join(conditions)} ORDER BY started_at"


def quoted(value: Any) -> str:
    """Write text as SQL has it."""
    return "'" + str(value).replace("'", "''") + "'"


def write_parts(found: Explanation, most: int, output: str) -> int:
    """Write an explanation to stdout; return the exit code: 1 where it does not add up."""
    broken = any(note.startswith(("NOT REPRODUCED", "the terms of")) for note in found.notes)
    if sum(part["amount_units"] for part in found.parts) != found.sums_to:
        found.notes.append("NOT REPRODUCED: the parts do not add up to the figure")
        broken = True
    if output == "json":
        body = {
            "figure": found.title, "amount_units": found.units, "sums_to_units": found.sums_to, "notes": found.notes,
            "parts": found.parts, "requests": found.requests, "sql": found.sql,
        }  # fmt: skip
        click.echo(json.dumps(body, default=answers.plain, ensure_ascii=False, indent=2))
        return int(broken)
    from analytics.bill_terms import amount

    click.echo(f"{amount(found.units)}  {found.title}")
    for note in found.notes:
        click.echo(f"  {note}")
    click.echo(f"\n{laid_out(found.parts, most if not found.requests else max(most, 24), found.sums_to, 'parts')}")
    if found.requests:
        total = sum(row["amount_units"] for row in found.requests)
        click.echo(f"\n{laid_out(found.requests, most, total, 'requests')}")
    if found.sql:
        click.echo(f"\n{found.sql}")
    if found.hint:
        click.echo(found.hint, err=True)
    return int(broken)


def laid_out(rows: list[dict[str, Any]], most: int, total: int, what: str) -> str:
    """Lay the largest rows out with the rest as one line and the sum below a rule."""
    import polars as pl

    if not rows:
        return f"no {what}"
    shown, rest = rows[:most] if most else rows, rows[most:] if most else []
    label = next(iter(rows[0]))
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    lines = [{name: text(name, row[name]) for name in columns} for row in shown]
    empty = dict.fromkeys(columns, "")
    if rest:
        others = sum(row["amount_units"] for row in rest)
        lines.append({**empty, label: f"{len(rest):,} more", "amount_units": text("amount_units", others)})
    lines.append({**empty, label: "total", "amount_units": text("amount_units", total)})
    for name in columns:
        if name.endswith(("_units", "_count", "_tokens", "_ratio", "weight")):
            width = max(len(name), *(len(line[name]) for line in lines))
            lines = [{**line, name: line[name].rjust(width)} for line in lines]
    frame = pl.DataFrame(lines, schema=dict.fromkeys(columns, pl.String))
    rendered = answers.table(frame, {}).splitlines()
    return "\n".join([*rendered[:-1], "-" * max(map(len, rendered)), rendered[-1]])


def text(name: str, value: Any) -> str:
    """Write a value; amounts exactly."""
    from analytics.bill_terms import amount

    if value is None:
        return "-"
    if name.endswith("_units"):
        return amount(value)
    if name.endswith("_ratio"):
        return answers.percent(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else str(value)
