"""List prices of APIs: those of the store's book, else the packaged extract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analytics.book_files import read_book
from analytics.errors import AnalyticsError
from analytics.statements import ask
from analytics.whatif.apis import ListPrice

if TYPE_CHECKING:
    from collector.client import Client

PACKAGED = Path(__file__).parents[1] / "data" / "token_list_prices.csv"
FIELDS = ("provider", "model", "input_units", "output_units", "cache_read_units")


def list_prices(client: Client, currency: str, wanted: str | None = None) -> tuple[list[ListPrice], str]:
    """Return the latest price of each API's model in a currency, and where they are from.

    Raises:
        AnalyticsError: there is none, or not the one that is wanted (provider/model).
    """
    rows = ask(client, "token_prices_price", known_at=None).to_dicts()
    source = "the store's book"
    if not rows:
        rows = read_book("token_prices", PACKAGED)
        source = f"the packaged extract of {max(row['valid_from'] for row in rows):%Y-%m-%d} (analytics/data/README.md)"
    latest = {(row["provider"], row["model"]): row for row in sorted(rows, key=lambda row: row["valid_from"])}
    prices = [
        ListPrice(**{name: row[name] for name in FIELDS})
        for row in latest.values()
        if row["currency"] == currency and (wanted is None or wanted == f"{row['provider']}/{row['model']}")
    ]
    if not prices:
        there = ", ".join(f"{provider}/{model}" for provider, model in latest)
        raise AnalyticsError(f"no list price in {currency}{f' of {wanted}' if wanted else ''}; there are {there}")
    return prices, source
