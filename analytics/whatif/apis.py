"""Build or buy: what the same tokens would cost at what external APIs list. Pure, exact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from analytics.whatif.answer import WhatIf

if TYPE_CHECKING:
    from analytics.ledger import CostReport


@dataclass(frozen=True, slots=True)
class ListPrice:
    """What an API lists for a million tokens. Unit: 1e-9 of the currency per million tokens."""

    provider: str
    """Who sells."""
    model: str
    """What."""
    input_units: int
    """A million prompt tokens."""
    output_units: int
    """A million generated ones."""
    cache_read_units: int | None
    """A million cached prompt tokens; None: as prompt tokens."""

    def cost(self, prompt: int, cached: int, output: int) -> Fraction:
        """Return what tokens cost; `prompt` includes the cached ones. Unit: 1e-9 of the currency."""
        reading = self.input_units if self.cache_read_units is None else self.cache_read_units
        cached = min(cached, prompt)
        return Fraction((prompt - cached) * self.input_units + cached * reading + output * self.output_units, 10**6)


def at_list_prices(report: CostReport, prices: Iterable[ListPrice], *, model: str | None = None) -> WhatIf:
    """Price the traffic of a report at list prices.

    Args:
        report: any report.
        prices: the list prices.
        model: only traffic to this model; None is each model.

    Returns:
        One row per own model and list price, cheapest first: model, own_units (all that is billed for it, idle time
        included), provider, api_model, api_units, ratio (API over own; null where own is 0).
    """
    import polars as pl

    names = ("amount_units", "input_tokens", "cached_tokens", "output_tokens")
    own = report.entries.filter(pl.col("model").is_not_null() if model is None else pl.col("model") == model)
    sums = own.group_by("model").agg(pl.col(names).sum()).sort("model")
    rows: list[Mapping[str, Any]] = []
    for line in sums.iter_rows(named=True):
        bought = [
            (round(price.cost(line["input_tokens"], line["cached_tokens"], line["output_tokens"])), price)
            for price in prices
        ]
        for units, price in sorted(bought, key=lambda pair: (pair[0], pair[1].provider, pair[1].model)):
            rows.append({
                "model": line["model"], "own_units": line["amount_units"], "provider": price.provider,
                "api_model": price.model, "api_units": units,
                "ratio": units / line["amount_units"] if line["amount_units"] else None,
            })  # fmt: skip
    schema = {
        "model": pl.String, "own_units": pl.Int64, "provider": pl.String, "api_model": pl.String, "api_units": pl.Int64,
        "ratio": pl.Float64,
    }  # fmt: skip
    supposed = (
        "the API counts the tokens that were counted here; another tokenizer may be some tens of per cent off",
        "as much of the prompts is cached as here; writing to the cache is not charged",
        "failed and aborted requests are paid for as far as they got",
        "list prices without discounts; whether the API's model is as good is not in this table",
    )
    error = "it can't be tried on the past: the traffic never went there; own costs are the ledger's, to the unit"
    return WhatIf(pl.DataFrame(rows, schema=schema, orient="row"), supposed, error, report.currency)
