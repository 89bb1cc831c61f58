"""What a what-if answers: a table, what it supposes, and how far it was off where that can be tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One answer. Amounts are units of 1e-9 of the currency."""

    rows: pl.DataFrame
    """The table."""
    assumptions: tuple[str, ...]
    """What it supposes, a sentence each."""
    error: str
    """What a back-test found, or why there can be none."""
    currency: str = "USD"
    """ISO 4217 code."""
