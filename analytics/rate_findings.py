"""What is wrong with the rate book: prices that overlap, stretches without one. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]


def scopes(rates: Iterable[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Group rates by GPU type, provider, region and purchase type, each in order of valid_from."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for rate in sorted(rates, key=lambda rate: rate["valid_from"]):
        found[rate["gpu_type"], rate["provider"], rate["region"], rate["purchase_type"]].append(rate)
    return found


def named(scope: tuple[Any, ...]) -> str:
    """Name what a rate is of."""
    gpu_type, *place = scope
    words = ", ".join(str(part) for part in place if part is not None)
    return f"{gpu_type}{f' ({words})' if words else ''}"


def stamp(moment: datetime) -> str:
    """Write a time."""
    return f"{moment:%Y-%m-%d %H:%M}"


def overlaps(rates: Iterable[Row]) -> list[str]:
    """Say where a rate with an end still holds when the next one of the same kind begins.

    A rate without an end gives way to the next one, which is no overlap.
    """
    found = []
    for scope, own in scopes(rates).items():
        for place, rate in enumerate(own):
            for later in own[place + 1 :]:
                if rate["valid_to"] is not None and rate["valid_to"] > later["valid_from"]:
                    ends = min(rate["valid_to"], later["valid_to"] or rate["valid_to"])
                    found.append(
                        f"{named(scope)}: two prices from {stamp(later['valid_from'])} to {stamp(ends)}; end the one "
                        f"that begins {stamp(rate['valid_from'])} at {stamp(later['valid_from'])}"
                    )
    return found


def gaps(rates: Iterable[Row], now: datetime) -> list[str]:
    """Say where a rate has ended and none of the same kind follows at once."""
    found = []
    for scope, own in scopes(rates).items():
        reach: datetime | None = own[0]["valid_from"]
        for rate in own:
            if reach is not None and rate["valid_from"] > reach:
                found.append(
                    f"{named(scope)}: no price from {reach:%Y-%m-%d %H:%M} to {rate['valid_from']:%Y-%m-%d %H:%M}"
                )
            reach = None if reach is None or rate["valid_to"] is None else max(reach, rate["valid_to"])
        if reach is not None and reach <= now:
            found.append(f"{named(scope)}: no price from {reach:%Y-%m-%d %H:%M} on")
    return found


def currencies(rates: Iterable[Row]) -> list[str]:
    """Say it where the book has several currencies: what they price can't be added up."""
    names = sorted({rate["currency"] for rate in rates})
    if len(names) < 2:
        return []
    return [
        f"prices are in {', '.join(names)}; a bill that needs two of them is refused, for amounts are not converted"
    ]
