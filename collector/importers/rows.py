"""Rows of `requests` as an import makes them: their types, their ids, and what follows from what they have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa

from engine_exporter.semconv import REQUEST_ATTRIBUTES

ARROW_TYPES = {"str": pa.string(), "strs": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}

SCHEMA = pa.schema(
    [
        pa.field("trace_id", pa.string()),
        pa.field("span_id", pa.string()),
        pa.field("started_at", pa.timestamp("us")),
        pa.field("ended_at", pa.timestamp("us")),
        *(pa.field(known.column, ARROW_TYPES[known.type]) for known in REQUEST_ATTRIBUTES),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
"""Every column of `requests` that an import can fill."""


def derive_ids(origin: str, row: int | str) -> tuple[str, str]:
    """Make the ids of one row from where it stands, so that importing it again lands nothing.

    Args:
        origin: the format and the digest of the file's bytes (and of the seed, where rows are sampled).
        row: the row's number in the file; two identical rows stay two.

    Returns:
        A trace id of 32 and a span id of 16 lowercase hex digits.
    """
    digest = hashlib.blake2b(f"{origin}\n{row}".encode(), digest_size=24).hexdigest()
    return digest[:32], digest[32:]


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Add what follows from the definitions: `ended_at` and `e2e_seconds` from each other, and `tpot_seconds`.

    TPOT = (E2E - TTFT) / (output tokens - 1). Undefined when there are fewer than two tokens: it stays null.
    """
    done = dict(row)
    if done.get("ended_at") is None and done.get("e2e_seconds") is not None:
        done["ended_at"] = done["started_at"] + timedelta(seconds=done["e2e_seconds"])
    if done.get("e2e_seconds") is None and done.get("ended_at") is not None:
        done["e2e_seconds"] = (done["ended_at"] - done["started_at"]).total_seconds()
    if (e2e := done.get("e2e_seconds")) is not None and e2e < 0:
        raise ValueError("it ended before it started")
    first, tokens = done.get("ttft_seconds"), done.get("output_tokens") or 0
    if done.get("tpot_seconds") is None and e2e is not None and first is not None and tokens > 1 and e2e >= first:
        done["tpot_seconds"] = (e2e - first) / (tokens - 1)
    return done


def to_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Lay rows out as an Arrow table with the columns of `SCHEMA`; what a row lacks is null."""
    listed = list(rows)
    columns = [
        pa.array(
            [list(cell.items()) if isinstance(cell := row.get(field.name), dict) else cell for row in listed],
            field.type,
        )
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
