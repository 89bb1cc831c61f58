"""The GPU bill, one exact whole number of units per replica and hour: inventory × dated rates, or imported invoices.

1 unit is 1e-9 of the currency. Pure: rows in, rows out, all arithmetic in Python integers (microseconds × units). An
hour is cut wherever the inventory or the price changes; within it the parts are added exactly and rounded once,
half up.

An invoice line beats rates: where any line covers a replica, no rate is applied. A line is spread over the hours of
its period in which its replica (no replica: each of the fleet) was in the inventory, by GPU-time, exactly; an hour that
is running counts whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from analytics.errors import CurrencyError
from analytics.replica_intervals import (
    EPOCH,
    HOUR,
    MICROSECOND,
    ReplicaInterval,
    clipped,
    covered,
    disjoint,
    hours_of,
    microseconds,
)


@dataclass(frozen=True, slots=True)
class Rate:
    """One price of one GPU type while it held; None in provider, region or purchase_type fits any."""

    rate_id: str
    """Stable id."""
    gpu_type: str
    """The GPU model."""
    provider: str | None
    """Who bills."""
    region: str | None
    """Where."""
    purchase_type: str | None
    """on_demand, reserved …"""
    currency: str
    """ISO 4217 code."""
    gpu_hour_units: int
    """One GPU for one hour. Unit: 1e-9 of the currency."""
    valid_from: datetime
    """From when. Naive UTC."""
    valid_to: datetime | None
    """Until when, exclusive; None is open. Naive UTC."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line of a bill that somebody sent."""

    invoice_id: str
    """Stable id."""
    period_from: datetime
    """Start of the charge. Naive UTC."""
    period_to: datetime
    """End of the charge, exclusive. Naive UTC."""
    replica: str | None
    """The replica; None is the whole fleet."""
    currency: str
    """ISO 4217 code."""
    amount_units: int
    """The amount; a credit is negative. Unit: 1e-9 of the currency."""
    covers: bool = True
    """Whether it stands in for the rates of its period; taxes, credits and adjustments don't."""


class BillHour(NamedTuple):  # a month of a large fleet has 150,000: frozen dataclasses take five times as long to make
    """What one replica cost in one hour."""

    replica: str
    """The replica."""
    hour_at: datetime
    """Start of the hour. Naive UTC."""
    model: str | None
    """The model that it served."""
    units: int
    """The cost. Unit: 1e-9 of the currency."""
    billed_microseconds: int
    """How much of the hour is billed. Unit: µs."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """GPU time that no rate and no invoice prices: it is missing from the bill, not free."""

    interval: ReplicaInterval
    """The replica, cut to the time that has no price."""
    gpu_hours: float | None
    """How much is missing; None where gpu_count is unknown. Unit: GPU-hours."""

    def __str__(self) -> str:
        """Tell what is missing in a line."""
        span = self.interval
        place = ", ".join(part for part in (span.provider, span.region, span.purchase_type) if part)
        what = "no rate"
        if self.gpu_hours is None:
            what = (
                "gpu_type or gpu_count is not in the inventory"
                if span.gpu_type is None or span.gpu_count is None
                else f"gpu_count is {span.gpu_count}"
            )
        amount = "" if self.gpu_hours is None else f" ({self.gpu_hours:,.1f} GPU-hours)"
        return (
            f"{span.gpu_type or 'unknown GPU'} of replica {span.replica}{f' ({place})' if place else ''}: {what} "
            f"from {span.valid_from:%Y-%m-%d %H:%M} to {span.valid_to:%Y-%m-%d %H:%M}{amount}"
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill of one range of time."""

    currency: str
    """ISO 4217 code; USD where the bill is empty."""
    hours: tuple[BillHour, ...]
    """One per replica and billed hour, in the order (hour_at, replica)."""
    unpriced: tuple[Unpriced, ...]
    """What no rate and no invoice prices."""

    @property
    def units(self) -> int:
        """The whole bill. Unit: 1e-9 of the currency."""
        return sum(hour.units for hour in self.hours)


def bill_of(
    intervals: Iterable[ReplicaInterval],
    rates: Sequence[Rate],
    invoices: Sequence[InvoiceLine],
    start: datetime,
    end: datetime,
) -> Bill:
    """Price the fleet of one range of time.

    Args:
        intervals: the inventory; where rows of one replica overlap, the later valid_from holds. It must reach over
            the whole period of each invoice line, not over the range alone.
        rates: the rate cards, any order.
        invoices: the lines whose period touches the range.
        start: start of the range. Naive UTC.
        end: end of the range, exclusive; "now" for the hour that is running. Naive UTC.

    Raises:
        CurrencyError: what applies is in several currencies.
    """
    inventory = disjoint(intervals)
    numerators: dict[tuple[int, str], int] = defaultdict(int)
    billed: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    model_at: dict[tuple[int, str], str | None] = {}
    currencies = {line.currency for line in invoices}
    unpriced: list[Unpriced] = []
    for interval in clipped(inventory, start, end):
        for piece in uncovered(interval, invoices):
            for priced, rate in by_rate(piece, rates):
                if rate is None or priced.gpu_count is None or priced.gpu_count < 0:
                    unpriced.append(unpriced_of(priced))
                    continue
                currencies.add(rate.currency)
                for hour, begins, ends in hours_of(priced):
                    numerators[hour, priced.replica] += (ends - begins) * priced.gpu_count * rate.gpu_hour_units
                    billed[hour, priced.replica].append((begins, ends))
                    model_at[hour, priced.replica] = priced.model
    units = {cell: (2 * numerator + HOUR) // (2 * HOUR) for cell, numerator in numerators.items()}
    first, last = microseconds(start), microseconds(end)
    for line in invoices:
        for hour, replica, model, begins, ends, amount in spread(line, inventory):
            if first <= hour < last:
                units[hour, replica] = units.get((hour, replica), 0) + amount
                billed[hour, replica].append((begins, ends))
                model_at.setdefault((hour, replica), model)
    currency = the_one_of(currencies)
    moments = {hour: EPOCH + hour * MICROSECOND for hour in {hour for hour, _ in units}}
    hours = tuple(
        BillHour(
            replica,
            moments[hour],
            model_at[hour, replica],
            units[hour, replica],
            covered(billed[hour, replica]),
        )
        for hour, replica in sorted(units)
    )
    return Bill(currency, hours, merged(unpriced))


def joined(earlier: Bill, later: Bill) -> Bill:
    """Return the bill of two ranges out of the same sources, of which one begins, at a full hour, where the other ends.

    Raises:
        CurrencyError: what applies in them is in several currencies.
    """
    billed = {bill.currency for bill in (earlier, later) if bill.hours}
    return Bill(
        the_one_of(billed or {earlier.currency}),
        earlier.hours + later.hours,
        merged(earlier.unpriced + later.unpriced),
    )


def the_one_of(currencies: Collection[str]) -> str:
    """Return the currency of a bill; USD where it has none.

    Raises:
        CurrencyError: there are several.
    """
    if len(currencies) > 1:
        raise CurrencyError(
            f"the bill mixes {', '.join(sorted(currencies))}; amounts are not converted: "
            "give rates and invoices of one currency"
        )
    return next(iter(currencies), "USD")


def uncovered(interval: ReplicaInterval, invoices: Sequence[InvoiceLine]) -> Iterable[ReplicaInterval]:
    """Return the parts of a closed interval that no invoice line covers."""
    lines = sorted(
        (line for line in invoices if line.covers and line.replica in (None, interval.replica)),
        key=lambda line: line.period_from,
    )
    begins = interval.valid_from
    assert interval.valid_to is not None
    for line in lines:
        if begins < line.period_from:
            yield from clipped([interval], begins, min(line.period_from, interval.valid_to))
        begins = max(begins, line.period_to)
    yield from clipped([interval], begins, interval.valid_to)


def by_rate(interval: ReplicaInterval, rates: Sequence[Rate]) -> Iterable[tuple[ReplicaInterval, Rate | None]]:
    """Cut a closed interval where its price changes, and give each part its rate (None: there is none).

    Of several rates that fit, the one that names more of provider, region and purchase_type holds, then the one that
    began later, then the greater id.
    """
    assert interval.valid_to is not None
    fitting = [rate for rate in rates if fits(rate, interval)]
    edges = {interval.valid_from, interval.valid_to}
    for rate in fitting:
        edges.update(
            edge
            for edge in (rate.valid_from, rate.valid_to)
            if edge is not None and interval.valid_from < edge < interval.valid_to
        )
    cuts = sorted(edges)
    for begins, ends in pairwise(cuts):
        holding = [
            rate for rate in fitting if rate.valid_from <= begins and (rate.valid_to is None or rate.valid_to >= ends)
        ]
        best = max(holding, key=lambda rate: (specificity(rate), rate.valid_from, rate.rate_id), default=None)
        yield replace(interval, valid_from=begins, valid_to=ends), best


def fits(rate: Rate, interval: ReplicaInterval) -> bool:
    """Tell whether a rate is for this kind of GPU from this provider, region and purchase."""
    return rate.gpu_type == interval.gpu_type and all(
        wanted is None or wanted == given
        for wanted, given in (
            (rate.provider, interval.provider),
            (rate.region, interval.region),
            (rate.purchase_type, interval.purchase_type),
        )
    )


def specificity(rate: Rate) -> int:
    """Count what a rate names beside the GPU type."""
    return sum(part is not None for part in (rate.provider, rate.region, rate.purchase_type))


def spread(
    line: InvoiceLine, inventory: Sequence[ReplicaInterval]
) -> Iterable[tuple[int, str, str | None, int, int, int]]:
    """Spread one invoice line over replicas and hours by GPU-time; the amounts add up to the line exactly.

    The share of a cell is the growth of the rounded-down running total, in the order (hour, replica), so that it does
    not depend on the range that is asked for. A replica that the inventory does not know in the period bears the line
    evenly over the period; a line for the whole fleet is then borne by a replica named "unknown".

    Returns:
        (start of the hour, replica, model, begin and end of the part of the hour, units) per cell. Unit of time: µs.
    """
    mine = [part for part in inventory if line.replica in (None, part.replica)]
    parts = list(clipped(mine, line.period_from, line.period_to))
    if not parts:
        name = line.replica or "unknown"
        parts = [ReplicaInterval(name, line.period_from, line.period_to, None, None, None, None, None, 1)]
    cells = sorted(
        (hour, part.replica, begins, ends, part.model or "", (ends - begins) * max(part.gpu_count or 1, 1))
        for part in parts
        for hour, begins, ends in hours_of(part)
    )
    total = sum(weight for *_, weight in cells)
    seen = given = 0
    for hour, replica, begins, ends, model, weight in cells:
        seen += weight
        upto = line.amount_units * seen // total
        yield hour, replica, model or None, begins, ends, upto - given
        given = upto


def unpriced_of(interval: ReplicaInterval) -> Unpriced:
    """Say how much GPU time of a closed interval has no price."""
    assert interval.valid_to is not None
    hours = (interval.valid_to - interval.valid_from) / timedelta(hours=1)
    known = interval.gpu_type is not None and interval.gpu_count is not None and interval.gpu_count >= 0
    return Unpriced(interval, hours * interval.gpu_count if known and interval.gpu_count is not None else None)


def merged(unpriced: Iterable[Unpriced]) -> tuple[Unpriced, ...]:
    """Join neighbouring parts of one replica that lack a price for the same reason."""
    result: list[Unpriced] = []
    for part in sorted(unpriced, key=lambda part: (part.interval.replica, part.interval.valid_from)):
        before = result[-1] if result else None
        same = (
            before is not None
            and replace(before.interval, valid_from=part.interval.valid_from, valid_to=part.interval.valid_to)
            == part.interval
        )
        if before is not None and same and before.interval.valid_to == part.interval.valid_from:
            result[-1] = unpriced_of(replace(before.interval, valid_to=part.interval.valid_to))
        else:
            result.append(part)
    return tuple(result)
