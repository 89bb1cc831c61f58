"""Rows of `requests` as an import makes them: their types, their ids, and what follows from what they have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from collector.decode_traces import EARLIEST_US
from collector.importers.values import EPOCH
from engine_exporter.semconv import REQUEST_ATTRIBUTES

ARROW_TYPES = {"str": pa.string(), "strs": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}

EARLIEST = EPOCH + timedelta(microseconds=EARLIEST_US)

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
        origin: the format, and what rows are sampled from.
        row: the digest of the file's rows up to this one, so that a file to which rows were added has only those new
            and two identical rows stay two; or the number of a sampled row.

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
        try:
            done["ended_at"] = done["started_at"] + timedelta(seconds=done["e2e_seconds"])
        except OverflowError:
            raise ValueError(f"e2e_seconds: {done['e2e_seconds']} seconds lead beyond any calendar") from None
    if done.get("e2e_seconds") is None and done.get("ended_at") is not None:
        done["e2e_seconds"] = (done["ended_at"] - done["started_at"]).total_seconds()
    if (e2e := done.get("e2e_seconds")) is not None and e2e < 0:
        raise ValueError("it ended before it started")
    first, tokens = done.get("ttft_seconds"), done.get("output_tokens") or 0
    if done.get("tpot_seconds") is None and e2e is not None and first is not None and tokens > 1 and e2e >= first:
        done["tpot_seconds"] = (e2e - first) / (tokens - 1)
    return done


def check_times(row: Mapping[str, Any], latest: datetime) -> None:
    """Refuse times that can't be right, as every door does.

    Raises:
        ValueError: one is before 2000, or after `latest`.
    """
    for column in ("started_at", "ended_at"):
        time = row.get(column)
        if time is not None and not EARLIEST <= time <= latest:
            raise ValueError(f"{column}: {time} is before 2000 or more than a day ahead: check the unit and the start")


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
