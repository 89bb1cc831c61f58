"""Why a bill changed: an exact waterfall between two periods, in whole units and in units per million tokens.

The bill of a period is written as a function of nine factors, model by model:

    bill = sum over models of  price * ( requests * sum over teams of mix * work * effort  +  lost  +  idle )

- volume: requests of the fleet.
- team_mix: share of each (model, team) of them.
- prompt_length, output_length: input and output tokens per request of each (model, team).
- cache_hit: share of the input tokens that came from the prefix cache.
- batch_efficiency: busy replica-hours per work (effort), work being tokens by the configured weights.
- utilisation: billed time in which a replica could not serve: cold starts and faults.
- idle: billed time in which it could and had nothing to do (warm idle).
- price: units per billed replica-hour; another GPU type or count is another price.

A factor's part is its Shapley value: its effect, averaged over every order in which the nine could have changed, so it
does not hang on an order that somebody chose. Parts are then rounded so that they sum to the difference exactly.

When it misleads: factors that move together share what they did together (more volume on the same fleet costs more
busy time and saves as much idle time: two parts that cancel). A team's prompt length has no meaning in a period in
which it sent nothing; it is taken from the other period, so the whole effect is the mix's.

Source: Shapley, "A value for n-person games" (1953); Sun, "The complete decomposition model" (Ecol. Econ. 26, 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from fractions import Fraction
from math import factorial, fsum
from typing import TYPE_CHECKING

from analytics.bill import BillHour
from analytics.config import TokenWeights
from analytics.errors import CurrencyError
from analytics.ledger import CostReport, cost_report, midnight, read_bill
from analytics.ledger_reading import closed_bill_hours, closed_report

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from collector.client import Client

    Floats = npt.NDArray[np.float64]

FACTORS = (
    "volume",
    "team_mix",
    "prompt_length",
    "output_length",
    "cache_hit",
    "batch_efficiency",
    "utilisation",
    "idle",
    "price",
)
BUSY = ("request", "wasted", "unattributed")
LOST = ("cold_start", "fault")
IDLE = ("warm_idle",)
MICROSECONDS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What a bill was, what it is, and what each factor did; parts sum to the difference exactly."""

    currency: str
    """ISO 4217 code."""
    before_units: int
    """The bill of the earlier period. Unit: 1e-9 of the currency."""
    after_units: int
    """The bill of the later period."""
    parts_units: dict[str, int]
    """What each of FACTORS changed."""
    before_per_million: int | None
    """The earlier bill per million tokens, input and output. Unit: 1e-9; None where a period has no token."""
    after_per_million: int | None
    """The later one."""
    parts_per_million: dict[str, int] | None
    """What each of FACTORS changed of it."""
    teams: dict[str, tuple[int, int]]
    """Team, or bucket that no team bears: its amount before and after; both columns sum to the bills."""
    unpriced: list[str]
    """What the bills lack, where they do."""


@dataclass(frozen=True, slots=True)
class Side:
    """The factors of one period: `mix`, `prompt`, `output`, `hit` by (model, team), the others by model."""

    volume: float
    """Requests of the fleet."""
    mix: Floats
    """Share of each (model, team) of them."""
    prompt: Floats
    """Input tokens per request; nan where the period does not tell, as in the fields below."""
    output: Floats
    """Output tokens per request."""
    hit: Floats
    """Share of the input tokens that were cached."""
    effort: Floats
    """Busy replica-hours per work."""
    lost: Floats
    """Replica-hours in which a model could not serve."""
    idle: Floats
    """Replica-hours in which it had nothing to do."""
    price: Floats
    """Units per billed replica-hour."""


def waterfall(
    client: Client,
    before: tuple[date, date],
    after: tuple[date, date],
    *,
    weights: TokenWeights | None = None,
    now: datetime | None = None,
) -> Waterfall:
    """Explain the difference between the bills of two ranges of days.

    A range of frozen months is what the ledger says of it, corrections included; any other as known now.

    Args:
        client: where the books and the requests are.
        before: first day and day after the last of the earlier period. UTC.
        after: the later one.
        weights: what a token of each kind counts as work.
        now: nothing is billed from then on, unless it is frozen. Naive UTC.

    Raises:
        AnalyticsError: a range is empty.
        CurrencyError: the periods are billed in different currencies.
    """
    (first, first_hours), (second, second_hours) = (billed(client, days, weights, now) for days in (before, after))
    if first.currency != second.currency and first.bill_units and second.bill_units:
        raise CurrencyError(
            f"{before[0]} is billed in {first.currency} and {after[0]} in {second.currency}: "
            "their difference is no amount"
        )
    return explain(first, second, first_hours, second_hours, (weights or TokenWeights()).milli())


def billed(
    client: Client, days: tuple[date, date], weights: TokenWeights | None, now: datetime | None
) -> tuple[CostReport, dict[str | None, float]]:
    """Return the report of a range of days, and the replica-hours by model that its bill is of."""
    start, end = (midnight(day) for day in days)
    report = closed_report(client, *days)
    if report is not None:
        hours: Sequence[BillHour] = closed_bill_hours(client, *days)
    else:
        report = cost_report(client, *days, weights=weights, now=now)
        hours = read_bill(client, start, end if now is None else max(start, min(end, now))).hours
    found: dict[str | None, float] = {}
    for hour in hours:
        found[hour.model] = found.get(hour.model, 0.0) + hour.billed_microseconds / MICROSECONDS_PER_HOUR
    return report, found


def explain(
    before: CostReport,
    after: CostReport,
    before_hours: dict[str | None, float],
    after_hours: dict[str | None, float],
    milli: tuple[int, int, int],
) -> Waterfall:
    """Explain the difference between two reports. Pure.

    Args:
        before: the earlier report.
        after: the later one.
        before_hours: billed replica-hours by model.
        after_hours: likewise.
        milli: work of a computed input token, a cached one and an output token, in thousandths.
    """
    reports = (before, after)
    cells, models = cells_of(*reports)
    places = {model: place for place, model in enumerate(models)}
    model_of = [places[model] for model, _ in cells]
    told = [
        side_of(report, hours, cells, models, milli)
        for report, hours in zip(reports, (before_hours, after_hours), strict=True)
    ]
    sides = completed(told[0], told[1]), completed(told[1], told[0])
    bills, tokens = every_mixture(sides, model_of, milli)
    per_million = [per_million_of(report) for report in reports]
    unit_parts = None
    if per_million[0] is not None and per_million[1] is not None and tokens.all():
        unit_parts = exactly(shapley(bills * 1e6 / tokens), per_million[1] - per_million[0])
    return Waterfall(
        currency=after.currency if after.bill_units else before.currency,
        before_units=before.bill_units,
        after_units=after.bill_units,
        parts_units=exactly(shapley(bills), after.bill_units - before.bill_units),
        before_per_million=per_million[0],
        after_per_million=per_million[1],
        parts_per_million=unit_parts,
        teams=teams_of(before, after),
        unpriced=list(dict.fromkeys([*before.unpriced, *after.unpriced])),
    )


Cell = tuple[str | None, str | None]


def cells_of(before: CostReport, after: CostReport) -> tuple[list[Cell], list[str | None]]:
    """Return every (model, team) and every model of either period, in order."""
    pairs: set[Cell] = set()
    for report in (before, after):
        pairs.update((model, team) for model, team in report.entries.select("model", "team").iter_rows())
    ordered = sorted(pairs, key=lambda pair: tuple((name is None, name or "") for name in pair))
    return ordered, list(dict.fromkeys(model for model, _ in ordered))


def side_of(
    report: CostReport,
    hours: dict[str | None, float],
    cells: list[Cell],
    models: list[str | None],
    milli: tuple[int, int, int],
) -> Side:
    """Turn one report into factors; nan where it does not tell one."""
    import numpy as np
    import polars as pl

    measures = ("requests_count", "input_tokens", "cached_tokens", "output_tokens")
    sums = report.entries.group_by("model", "team").agg(pl.col(measures).sum())
    counted = {(row[0], row[1]): row[2:] for row in sums.iter_rows()}
    requests, prompts, cached, outputs = (
        np.array([counted.get(cell, (0, 0, 0, 0)) for cell in cells], np.float64).reshape(-1, 4).T
    )
    paid = report.entries.group_by("model", "bucket").agg(pl.col("amount_units").sum())
    amounts = {(model, bucket): float(units) for model, bucket, units in paid.iter_rows()}
    by_kind = [
        np.array([sum(amounts.get((model, bucket), 0.0) for bucket in kind) for model in models])
        for kind in (BUSY, LOST, IDLE)
    ]
    whole = by_kind[0] + by_kind[1] + by_kind[2]
    billed = np.array([hours.get(model, 0.0) for model in models])
    billed = np.where((billed > 0) | (whole == 0), billed, 1.0)  # a credit without billed time: as one hour's
    price = over(whole, billed)
    busy, lost, idle = (np.nan_to_num(over(part, price)) for part in by_kind)
    prompt, output, hit = over(prompts, requests), over(outputs, requests), over(cached, prompts)
    place = {model: number for number, model in enumerate(models)}
    work = np.zeros(len(models))
    per_request = work_of(np.nan_to_num(prompt), np.nan_to_num(output), np.nan_to_num(hit), milli)
    np.add.at(work, [place[model] for model, _ in cells], requests * per_request)
    volume = float(requests.sum())
    return Side(
        volume,
        requests / volume if volume else np.full(len(cells), np.nan),
        prompt,
        output,
        hit,
        over(busy, work),
        lost + np.where(work > 0, 0.0, busy),  # busy with requests of which no token is known: nobody's work
        idle,
        np.where(price != 0, price, np.nan),
    )


def over(upper: Floats, lower: Floats) -> Floats:
    """Divide; nan where there is nothing to divide by."""
    import numpy as np

    return np.divide(upper, lower, out=np.full_like(upper, np.nan), where=lower != 0)


def work_of(prompt: Floats, output: Floats, hit: Floats, milli: tuple[int, int, int]) -> Floats:
    """Return the work of a request in weighted tokens."""
    computed, cached, generated = (weight / 1000 for weight in milli)
    return prompt * ((1 - hit) * computed + hit * cached) + output * generated


def completed(side: Side, other: Side) -> Side:
    """Take what a period does not tell from the other; what neither tells is 0."""
    import numpy as np

    arrays = (
        np.nan_to_num(np.where(np.isnan(own := getattr(side, name)), getattr(other, name), own))
        for name in ("mix", "prompt", "output", "hit", "effort", "lost", "idle", "price")
    )
    return Side(side.volume, *arrays)


def every_mixture(sides: tuple[Side, Side], model_of: list[int], milli: tuple[int, int, int]) -> tuple[Floats, Floats]:
    """Return bill and tokens for each of the 2^9 ways to take every factor from one period or the other.

    Bit i of the place says that factor i of FACTORS is the later period's.
    """
    import numpy as np

    bills, tokens = np.zeros(1 << len(FACTORS)), np.zeros(1 << len(FACTORS))
    names = tuple(field.name for field in fields(Side))
    for mixture in range(1 << len(FACTORS)):
        volume, mix, prompt, output, hit, effort, lost, idle, price = (
            getattr(sides[mixture >> bit & 1], name) for bit, name in enumerate(names)
        )
        busy = lost + idle
        busy = busy + np.bincount(
            model_of, volume * mix * work_of(prompt, output, hit, milli) * effort[model_of], minlength=busy.size
        )
        bills[mixture] = float(price @ busy)
        tokens[mixture] = float(volume * (mix @ (prompt + output)))
    return bills, tokens


def shapley(values: Floats) -> list[float]:
    """Return each factor's mean effect over all orders in which the factors may change."""
    count = len(FACTORS)
    weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    effects = []
    for bit in range(count):
        without = [mixture for mixture in range(1 << count) if not mixture >> bit & 1]
        effects.append(
            fsum(
                weights[mixture.bit_count()] * float(values[mixture | 1 << bit] - values[mixture])
                for mixture in without
            )
        )
    return effects


def exactly(effects: list[float], difference: int) -> dict[str, int]:
    """Round effects so that they sum to a difference; what rounding leaves goes to the largest."""
    rounded = [round(effect) for effect in effects]
    largest = max(range(len(rounded)), key=lambda place: abs(rounded[place]))
    rounded[largest] += difference - sum(rounded)
    return dict(zip(FACTORS, rounded, strict=True))


def per_million_of(report: CostReport) -> int | None:
    """Return a bill over its million tokens, rounded half to even; None without a token."""
    tokens = int(report.entries["input_tokens"].sum()) + int(report.entries["output_tokens"].sum())
    return round(Fraction(report.bill_units * 1_000_000, tokens)) if tokens else None


def teams_of(before: CostReport, after: CostReport) -> dict[str, tuple[int, int]]:
    """Return what each team, and each bucket that no team bears, cost before and after; largest change first."""
    import polars as pl

    sums: dict[str, list[int]] = {}
    for number, report in enumerate((before, after)):
        amounts = report.entries.group_by(pl.coalesce("team", "bucket").alias("name")).agg(pl.col("amount_units").sum())
        for name, units in amounts.iter_rows():
            sums.setdefault(name, [0, 0])[number] = int(units)
    order = sorted(sums, key=lambda name: (-abs(sums[name][1] - sums[name][0]), name))
    return {name: (sums[name][0], sums[name][1]) for name in order}
