"""Opens a figure: the hours that it is the sum of, why each cost what it did, and what every request had of it.

Nothing is read from what a report or a close left behind: all of it is computed again out of what was known then, so
that a figure that can't be reproduced is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from analytics.bill_sources import read_bill_sources
from analytics.bill_terms import Term, bill_terms
from analytics.ledger import midnight, read_replica_outages, rules_of

if TYPE_CHECKING:
    from analytics.allocation.sharing import Split
    from analytics.config import TokenWeights
    from collector.client import Client

BY = ("adapter", "api_key_hash")
CELL_BUCKETS = {
    "warm_idle": "idle_units",
    "cold_start": "cold_start_units",
    "fault": "fault_units",
    "unattributed": "unweighed_units",
}
"""Buckets that no request bears, and the field of a cell that holds them."""


@dataclass(frozen=True, slots=True)
class RequestShare:
    """What one request had of one hour."""

    trace_id: str
    """Its trace."""
    span_id: str
    """Its span."""
    hour_at: datetime
    """The hour. Naive UTC."""
    bucket: str
    """request, wasted or unattributed."""
    input_tokens: int | None
    """Prompt tokens of the whole request, cached ones included. Unit: tokens."""
    cached_tokens: int | None
    """Of them, from the cache. Unit: tokens."""
    output_tokens: int | None
    """Generated tokens of the whole request. Unit: tokens."""
    weight: int
    """What it weighs in this hour under the method. Unit: the method's."""
    amount_units: int
    """What it was charged in this hour. Unit: 1e-9 of the currency."""


@dataclass(frozen=True, slots=True)
class OpenedHour:
    """One hour of one replica."""

    hour_at: datetime
    """Start. Naive UTC."""
    bill_units: int
    """Its bill. Unit: 1e-9 of the currency."""
    terms: tuple[Term, ...]
    """What the bill adds up from."""
    busy_ratio: float
    """Share of its billed time with a request in the engine."""
    busy_units: int
    """What of the bill requests share. Unit: 1e-9 of the currency."""
    method: str | None
    """How they share it."""
    weights_sum: int
    """What all requests of the hour weigh. Unit: the method's."""
    bucket_units: int
    """What of the figure no request bears. Unit: 1e-9 of the currency."""
    requests: tuple[RequestShare, ...]
    """What each request of the figure had."""

    @property
    def amount_units(self) -> int:
        """The figure's part of the hour. Unit: 1e-9 of the currency."""
        return self.bucket_units + sum(share.amount_units for share in self.requests)


def open_figure(
    client: Client,
    day: date,
    replica: str,
    match: Mapping[str, Any],
    *,
    known_at: datetime | None,
    method: str,
    weights: TokenWeights,
    until: datetime | None = None,
) -> list[OpenedHour]:
    """Compute one replica's day again, and say what of it a figure is.

    Args:
        client: where the sources are.
        day: the day. UTC.
        replica: the replica.
        match: what the figure is of: any of bucket, team, app, model, adapter, api_key_hash, method; a value of None
            is "none", a name that is left out is any.
        known_at: what was known by then counts; None is all. Naive UTC.
        method: how busy time is shared.
        weights: token weights of the method.
        until: nothing is billed from then on. Naive UTC.
    """
    from analytics.allocation.sharing import pieces_of_hour

    start, end = midnight(day), midnight(day + timedelta(days=1))
    sources = read_bill_sources(client, start, end, known_at=known_at)
    bill = sources.bill(start, min(end, until or end))
    rules = rules_of(method, weights, BY, known_at)
    outages = read_replica_outages(client, start, end, known_at)
    found = []
    for hour in bill.hours:
        if hour.replica != replica:
            continue
        split, pieces, table = pieces_of_hour(client, hour, outages, rules)
        cell = split.cells[0]
        found.append(
            OpenedHour(
                hour.hour_at,
                hour.units,
                tuple(bill_terms(sources, replica, hour.hour_at)),
                int(cell["busy_us"]) / hour.billed_microseconds if hour.billed_microseconds else 0.0,
                int(cell["busy_units"]),
                method_of(split),
                sum(int(pieces[name].sum()) for name in ("input_weight", "cached_weight", "output_weight")),
                bucket_units(split, match),
                tuple(shares(split, pieces, table, match, hour.hour_at)),
            )
        )
    return found


def method_of(split: Split) -> str | None:
    """Return the method of a split of one hour; None where no request shared it."""
    from analytics.allocation.layout import METHODS

    used = [name for index, name in enumerate(METHODS) if index < len(split.sums) and split.sums[index].any()]
    return used[0] if used else None


def bucket_units(split: Split, match: Mapping[str, Any]) -> int:
    """Return what of a figure no request bears in one hour."""
    nobody = {
        "team": None,
        "app": None,
        "adapter": None,
        "api_key_hash": None,
        "method": None,
        "model": split.models[0],
    }
    return sum(
        int(split.cells[0][field])
        for bucket, field in CELL_BUCKETS.items()
        if fits({**nobody, "bucket": bucket}, match)
    )


def shares(
    split: Split, pieces: Any, table: Any, match: Mapping[str, Any], hour_at: datetime
) -> Sequence[RequestShare]:
    """Return what each request of a figure had of one hour, largest first."""
    keys = split.keys.to_dicts()
    traces, spans = table["trace_id"].to_pylist(), table["span_id"].to_pylist()
    method = method_of(split)
    found = []
    for piece in pieces:
        key, row = keys[int(piece["key"])], int(piece["row"])
        own = {
            "model": key["model"] or split.models[0],
            "team": key["team"],
            "app": key["app"],
            "adapter": key.get("adapter"),
            "api_key_hash": key.get("api_key_hash"),
            "method": method,
        }
        bucket = "wasted" if key["failed"] else "unattributed" if key["team"] is None else "request"
        for name, weight, units in parts_of(piece, bucket):
            if fits({**own, "bucket": name}, match):
                found.append(
                    RequestShare(
                        traces[row], spans[row], hour_at, name, known(piece["prompt"]), known(piece["cached"]),
                        known(piece["made"]), weight, units,
                    )
                )  # fmt: skip
    return sorted(found, key=lambda share: (-abs(share.amount_units), share.trace_id, share.span_id))


def parts_of(piece: Any, bucket: str) -> list[tuple[str, int, int]]:
    """Return what a request had of an hour as (bucket, weight, units); prompt work done again is a part of its own.

    The weights add up to the request's, so that no figure counts it twice.
    """
    weight = sum(int(piece[name]) for name in ("input_weight", "cached_weight", "output_weight"))
    units = sum(int(piece[name]) for name in ("input_units", "cached_units", "output_units"))
    redone, times = int(piece["redone_units"]), int(piece["preemptions"])
    if not redone:
        return [(bucket, weight, units)]
    if bucket == "wasted":
        return [(bucket, weight, units + redone)]
    again = int(piece["input_weight"]) * times // (times + 1)
    return [(bucket, weight - again, units), ("wasted", again, redone)]


def known(count: Any) -> int | None:
    """Return a count; None where it is not known."""
    return None if int(count) < 0 else int(count)


def fits(own: Mapping[str, Any], match: Mapping[str, Any]) -> bool:
    """Tell whether something is part of a figure."""
    return all(own[name] == value for name, value in match.items())
