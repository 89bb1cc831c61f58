"""A statement as one HTML page: self-contained, for the screen and for paper (A4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from analytics.answers import count
from analytics.ledger import units_to_usd
from analytics.statement import Statement, unit_prices

STYLE = (Path(__file__).parent / "data" / "statement.css").read_text(encoding="utf-8")
WORDS = {
    "request": "Requests",
    "wasted": "Work that came to nothing",
    "idle_share": "Share of idle time",
    "tokens": "More or fewer tokens",
    "cost_per_token": "Cost per token",
    "begun_or_ended": "Models begun or given up",
    "separate": "Idle time stays with nobody",
    "proportional": "By what each team used",
    "owner": "By who reserved the servers",
    "peak": "By each team's busiest hour",
}


def statement_page(statement: Statement, now: datetime) -> str:
    """Write a statement as a page of HTML.

    Args:
        statement: the statement.
        now: when it is made. Naive UTC.
    """
    month = f"{statement.start_day:%B %Y}"
    title = f"{statement.team}: inference cost {month}"
    body = "\n".join(
        part
        for part in (
            head(statement, month),
            budget_bar(statement),
            chart(statement),
            section("What it is for", buckets(statement), note="Wasted: failed, aborted, or computed again."),
            section("By application and model", applications(statement)),
            section(
                f"What a million tokens cost ({statement.currency})", prices(statement), note=cache_note(statement)
            ),
            section("Compared with the month before", change(statement)),
            section("Under other rules for idle time", policies(statement)),
            foot(statement, now),
        )
        if part
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>\n{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def money(units: int) -> str:
    """Write an amount to the cent."""
    return f"{units_to_usd(units):,.2f}"


def signed(units: int) -> str:
    """Write a difference to the cent, with its sign."""
    text = f"{units_to_usd(units):+,.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "\N{MINUS SIGN}")


def share(part: int, whole: int) -> str:
    """Write a share as per cent; a dash of nothing."""
    return f"{part / whole:.1%}" if whole else "–"


def head(statement: Statement, month: str) -> str:
    """The team, the month and the amount."""
    close = statement.close
    state = f"closed (close {close['close_id']})" if close else "provisional: this month is not closed"
    fleet = share(statement.amount_units, statement.bill_units)
    return (
        f'<header><p class="kind">Statement of inference cost</p><h1>{escape(statement.team)}</h1>'
        f'<p class="month">{month} · <span class="{"closed" if close else "open"}">{escape(state)}</span></p>'
        f'<p class="amount">{money(statement.amount_units)} <small>{escape(statement.currency)}</small></p>'
        f'<p class="of">{fleet} of the fleet\'s bill of {money(statement.bill_units)}</p></header>'
    )


def budget_bar(statement: Statement) -> str:
    """How much of the budget is used."""
    if not statement.budget_units:
        return ""
    ratio = statement.amount_units / statement.budget_units
    over = " over" if ratio > 1 else ""
    return (
        f'<div class="budget"><p>Budget {money(statement.budget_units)}: {ratio:.0%} used</p>'
        f'<div class="track"><div class="used{over}" style="width:{min(max(ratio, 0), 1):.1%}"></div></div></div>'
    )


def chart(statement: Statement) -> str:
    """The amount of each day, as bars."""
    length = (statement.end_day - statement.start_day).days
    days = [statement.start_day + timedelta(days=k) for k in range(length)]
    top = max([*statement.days.values(), 1])
    step = 700 / max(length, 1)
    bars = "".join(
        f'<rect x="{k * step + 1:.1f}" y="{80 - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}">'
        f"<title>{day}: {money(units)}</title></rect>"
        for k, day in enumerate(days)
        if (height := max(units := statement.days.get(day, 0), 0) * 76 / top) > 0
    )
    labels = "".join(
        f'<text x="{k * step + step / 2:.1f}" y="96">{day.day}</text>'
        for k, day in enumerate(days)
        if day.day in (1, 5, 10, 15, 20, 25, 30)
    )
    return (
        f'<figure><svg viewBox="0 0 700 100" role="img" aria-label="Amount of each day">'
        f'<line x1="0" x2="700" y1="80" y2="80"/>{bars}{labels}</svg>'
        f"<figcaption>By day; the largest is {money(top)} {escape(statement.currency)}</figcaption></figure>"
    )


def section(title: str, rows: str, note: str = "") -> str:
    """A table under its title; nothing where it is empty."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{rows}{below}</section>" if rows else ""


def grid(headings: Sequence[str], rows: Iterable[Sequence[Any]], total: Sequence[Any] | None = None) -> str:
    """A table: the first column is text, what is not a number is too; the last row may be a total."""
    names = "".join(f'<th scope="col"{kind(k)}>{escape(name)}</th>' for k, name in enumerate(headings))
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    foot = f"<tfoot><tr>{cells(total)}</tr></tfoot>" if total else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody>{foot}</table>" if body else ""


def cells(row: Sequence[Any]) -> str:
    """The cells of a row."""
    return "".join(f"<td{kind(k)}>{escape(str(cell))}</td>" for k, cell in enumerate(row))


def kind(place: int) -> str:
    """How a column is set."""
    return "" if place == 0 else ' class="number"'


def buckets(statement: Statement) -> str:
    """The amount by bucket."""
    import polars as pl

    sums = statement.lines.group_by("bucket").agg(pl.col("amount_units", "requests_count").sum())
    rows = [
        (
            WORDS.get(bucket, bucket),
            count(requests) if requests else "–",
            share(units, statement.amount_units),
            money(units),
        )
        for bucket, units, requests in sums.sort(-pl.col("amount_units"), "bucket").iter_rows()
    ]
    requests = int(statement.lines["requests_count"].sum())
    return grid(
        ("", "requests", "share", statement.currency), rows,
        ("Total", count(requests), "100.0%", money(statement.amount_units)),
    )  # fmt: skip


def applications(statement: Statement) -> str:
    """The amount by application and model."""
    import polars as pl

    names = ("requests_count", "input_tokens", "cached_tokens", "output_tokens", "amount_units")
    idle = pl.col("bucket") == "idle_share"
    app = pl.when(idle).then(pl.lit("idle time")).otherwise(pl.col("app").fill_null("no application"))
    lines = statement.lines.with_columns(app=app)
    sums = lines.group_by("app", "model").agg(pl.col(names).sum()).sort(-pl.col("amount_units"), "app", "model")
    rows = [
        (f"{app} · {model or 'unknown model'}", *(count(k) if k else "–" for k in counts), money(units))
        for app, model, *counts, units in sums.iter_rows()
    ]
    totals = [int(sums[name].sum()) for name in names]
    return grid(
        ("", "requests", "input tokens", "of them cached", "output tokens", statement.currency), rows,
        ("Total", *map(count, totals[:-1]), money(totals[-1])),
    )  # fmt: skip


def prices(statement: Statement) -> str:
    """What a million tokens of each kind cost."""
    kinds = ("input_price", "cached_price", "output_price")
    rows = [
        (row["model"], *("–" if row[name] is None else f"{units_to_usd(row[name]):,.4f}" for name in kinds))
        for row in unit_prices(statement.lines)
    ]
    return grid(("", "input, computed", "input, cached", "output"), rows)


def cache_note(statement: Statement) -> str:
    """What the prefix cache saved."""
    saved, cached = (int(statement.lines[name].sum()) for name in ("saved_units", "cached_tokens"))
    if not cached:
        return ""
    return (
        f"{count(cached)} prompt tokens came from the prefix cache and were charged only what they cost. Computed, "
        f"they would have cost {money(saved)} {statement.currency} more; that saving is no part of the amount."
    )


def change(statement: Statement) -> str:
    """Why it is not last month's amount."""
    if statement.before_units is None:
        return ""
    rows: list[tuple[str, str]] = [("The month before", money(statement.before_units))]
    rows += [(WORDS.get(name, name), signed(units)) for name, units in statement.change.items() if units]
    return grid(("", statement.currency), rows, ("This month", money(statement.amount_units)))


def policies(statement: Statement) -> str:
    """What the team would owe under each idle policy."""
    rows = [
        (f"{WORDS.get(name, name)}{' (holds here)' if name == statement.policy else ''}", money(units))
        for name, units in statement.policies.items()
    ]
    return grid(("", statement.currency), rows)


def foot(statement: Statement, now: datetime) -> str:
    """How it was made, and what is missing."""
    import polars as pl

    used = statement.lines.filter(pl.col("method").is_not_null()).group_by("method").agg(pl.col("amount_units").sum())
    methods = ", ".join(
        f"{name} ({share(units, int(used['amount_units'].sum()))})"
        for name, units in used.sort(-pl.col("amount_units")).iter_rows()
    )
    rows = [("Shared by", methods or "–"), ("Idle time", WORDS[statement.policy])]
    if close := statement.close:
        rows += [
            ("Closed", f"{close['closed_at']:%Y-%m-%d %H:%M} UTC, close {close['close_number']}, {close['kind']}"),
            ("Prices", str(close["rates_version"])),
            ("Code", f"fleetmeter {close['code_version']}"),
            ("Hash of the close", str(close["close_hash"])),
        ]
    rows.append(("Exactly", f"{units_to_usd(statement.amount_units):,.9f} {statement.currency}"))
    rows.append(("Made", f"{now:%Y-%m-%d %H:%M} UTC"))
    made = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in statement.notes)
    lacking = f'<div class="lacking"><h2>What the bill lacks</h2><ul>{notes}</ul></div>' if notes else ""
    return f"{lacking}<footer><dl>{made}</dl></footer>"
