"""What the ledger has yet to say: the entries as computed now, less what its entries add up to already. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

KEYS = ("day", "replica", "model", "adapter", "bucket", "team", "app", "api_key_hash", "method", "currency")
"""What tells entries apart."""
MEASURES = (
    "amount_units", "requests_count", "input_tokens", "cached_tokens", "output_tokens", "input_units", "cached_units",
    "output_units", "saved_units",
)  # fmt: skip
"""What entries hold and corrections net."""


def differences(computed: pl.DataFrame, standing: pl.DataFrame, *, currency: str, method: str) -> pl.DataFrame:
    """Return the entries that make what stands into what was computed.

    Args:
        computed: entries of a cost report; a key that it does not have is null in all of them (`method`: the given),
            a measure 0.
        standing: one row per key with the sums of the ledger's entries and `entry_id`, the first of them.
        currency: ISO 4217 code of the computed amounts.
        method: their method, where they do not say it themselves.

    Returns:
        One row per key that differs, in order of the keys: KEYS, MEASURES (the difference; may be negative) and
        `corrects` (the first entry of the key; null where the ledger has none).
    """
    import polars as pl

    defaults = {"method": pl.lit(method), "currency": pl.lit(currency)}
    columns = [
        pl.col(name) if name in computed.columns else defaults.get(name, pl.lit(None, dtype=pl.String)).alias(name)
        for name in KEYS
    ]
    measures = [pl.col(name) if name in computed.columns else pl.lit(0).alias(name) for name in MEASURES]
    now = (
        computed.select(*columns, *(measure.cast(pl.Int64) for measure in measures))
        .group_by(KEYS)
        .agg(pl.col(MEASURES).sum())
    )
    before = standing.with_columns(pl.col(MEASURES).neg())
    together = pl.concat(
        [now.with_columns(entry_id=pl.lit(None, dtype=pl.String)), before.select([*now.columns, "entry_id"])]
    )
    return (
        together.group_by(KEYS)
        .agg(pl.col(MEASURES).sum(), corrects=pl.col("entry_id").drop_nulls().first())
        .filter(pl.any_horizontal(pl.col(name) != 0 for name in MEASURES))
        .sort(KEYS, nulls_last=True)
    )
