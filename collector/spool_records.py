"""The bytes of a spool segment: a header, then records, each with its length and a checksum. Pure.

    segment = MAGIC record*
    record  = lengths and checksum (16 bytes) · head (JSON) · body

The checksum covers head and body, so the first record that does not check ends what can be trusted.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"fleetmeter-spool-1\n"
PREFIX = struct.Struct("<4sIII")
"""Mark, length of the head, length of the body, CRC-32 of head and body."""
MARK = b"\xf1\x4d\x52\x01"


@dataclass(frozen=True, slots=True)
class Record:
    """One request body as it came, with what is needed to decode it again."""

    kind: str
    """traces, metrics, rows or scrape."""
    encoding: str
    """identity or gzip, the encoding of `body`."""
    received_us: int
    """When it was received: microseconds since 1970, UTC."""
    meta: dict[str, Any]
    """What the body alone does not say: the table of rows, the target of a scrape …"""
    body: bytes
    """The body, still encoded."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the spool."""

    segment: int
    """Number of the segment file."""
    offset_bytes: int
    """Where in it."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """One durable record, on its way to the tables."""

    record: Record | None
    """The body and how to decode it; None where memory was short and it must be read again."""
    start_bytes: int
    """Where it starts in its segment."""
    end: Position
    """Where it ends in the spool: the progress once it has landed."""
    handed: Any = None
    """What the receiver hands on beside it; None after a restart."""


def encode_record(record: Record) -> bytes:
    """Frame one record."""
    head = json.dumps([record.kind, record.encoding, record.received_us, record.meta], separators=(",", ":")).encode()
    checksum = zlib.crc32(record.body, zlib.crc32(head))
    return b"".join((PREFIX.pack(MARK, len(head), len(record.body), checksum), head, record.body))


def decode_records(segment: bytes | memoryview, start_bytes: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield each whole record with the offset where it ends; stop before the first that is torn or does not check."""
    view = memoryview(segment)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        return
    offset = max(start_bytes, len(MAGIC))
    while (found := decode_record(view, offset)) is not None:
        yield found
        offset = found[1]


def decode_record(view: memoryview, offset: int) -> tuple[Record, int] | None:
    """Return the record that starts at the offset and where it ends; None where it is torn or does not check."""
    body_start = offset + PREFIX.size
    if body_start > len(view):
        return None
    mark, head_length, body_length, checksum = PREFIX.unpack_from(view, offset)
    end = body_start + head_length + body_length
    if mark != MARK or end > len(view):
        return None
    head = bytes(view[body_start : body_start + head_length])
    body = bytes(view[body_start + head_length : end])
    if zlib.crc32(body, zlib.crc32(head)) != checksum:
        return None
    kind, encoding, received_us, meta = json.loads(head)
    return Record(kind, encoding, received_us, meta, body), end


def next_record_start(segment: bytes, start_bytes: int) -> int | None:
    """Find the next whole record at or after a place where the bytes are damaged; None where there is none."""
    view = memoryview(segment)
    offset = segment.find(MARK, start_bytes)
    while offset >= 0:
        if decode_record(view, offset) is not None:
            return offset
        offset = segment.find(MARK, offset + 1)
    return None
