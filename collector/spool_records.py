"""The bytes of a spool segment: a header, then records, each with its length and a checksum. Pure.

    segment = MAGIC record*
    record  = lengths and checksum (16 bytes) · head (JSON) · body

The checksum covers head and body, so a record that checks is whole wherever it stands: damage, of the header too, costs
the records that it hits and no other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from collector.content_encodings import igzip
from collector.errors import PermanentError

MAGIC = b"fleetmeter-spool-1\n"
PREFIX = struct.Struct("<4sIII")
"""Mark, length of the head, length of the body, CRC-32 of head and body."""
crc32 = igzip().crc32
"""The CRC-32 of zlib and gzip, at four times the pace where igzip is there."""
MARK = b"\xf1\x4d\x52\x01"


@dataclass(frozen=True, slots=True)
class Record:
    """One request body, with what is needed to decode it again."""

    kind: str
    """traces, metrics, rows or scrape."""
    encoding: str
    """Of `body`: identity, snappy, or what it came with."""
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


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no whole record: a last write that a crash broke off, or what the disk spoiled."""

    start_bytes: int
    """Where they start in the segment."""
    end: Position
    """Where they end."""
    content: bytes
    """The bytes."""


class DamagedRecordError(PermanentError):
    """A record that was whole when it was written and is not any more."""

    def __init__(self, end: Position, content: bytes) -> None:
        super().__init__(f"the spooled record that ends at {end} is damaged or gone")
        self.content = content
        """What is left of its bytes."""


def encode_record(record: Record) -> bytes:
    """Frame one record."""
    meta = json.dumps(record.meta, separators=(",", ":")) if record.meta else "{}"  # most have none
    head = f'["{record.kind}","{record.encoding}",{record.received_us},{meta}]'.encode()
    checksum = crc32(record.body, crc32(head))
    return b"".join((PREFIX.pack(MARK, len(head), len(record.body), checksum), head, record.body))


def first_record_start(segment: bytes | memoryview) -> int:
    """Return where records begin: after the header, or at once where that is damaged or was written in part."""
    return len(MAGIC) if bytes(segment[: len(MAGIC)]) == MAGIC else 0


def decode_records(segment: bytes | memoryview, start_bytes: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield each whole record with the offset where it ends; stop before the first that is torn or does not check."""
    view = memoryview(segment)
    offset = start_bytes or first_record_start(segment)
    while (found := decode_record(view, offset)) is not None:
        yield found
        offset = found[1]


def walk_segment(segment: bytes, start_bytes: int = 0) -> Iterator[tuple[Record | None, int, int]]:
    """Yield (record, start, end) for each whole record, and (None, start, end) for bytes between that are none."""
    if MAGIC.startswith(segment):
        return
    view = memoryview(segment)
    offset = start_bytes or first_record_start(segment)
    while offset < len(segment):
        if (found := decode_record(view, offset)) is not None:
            yield found[0], offset, found[1]
            offset = found[1]
        else:
            resume = next_record_start(segment, offset + 1)
            end = len(segment) if resume is None else resume
            yield None, offset, end
            offset = end


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
    if crc32(body, crc32(head)) != checksum:
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
