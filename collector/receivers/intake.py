"""What every door hands its bodies to: validate, make durable, hand on, and only then say yes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from collector.bodies import decode_record_body
from collector.decoded import Decoded
from collector.errors import RetryableError
from collector.landing import Handed
from collector.self_metrics import SelfMetrics
from collector.spool import Spool, uncancellable_future
from collector.spool_records import Record

INLINE_BYTES = 4096
"""Smaller bodies are decoded on the event loop: a change of thread costs more than they do."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An acknowledged body."""

    accepted_count: int
    """Spans, points or rows that become rows."""
    rejected_count: int
    """Those that do not."""
    message: str
    """Why not."""
    landed_count: int | None = None
    """New rows, where the door waited for the landing."""
    written: Mapping[str, int] = field(default_factory=dict)
    """What was accepted by kind, where a protocol answers with that."""


class Intake:
    """The way of every body.

    Args:
        spool: makes it durable.
        executor: decodes larger bodies beside the event loop.
        metrics: told what came.
        max_body_bytes: the largest body after decompression.
        in_flight_bytes: more than this much in bodies that are being read or decoded is refused.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        spool: Spool,
        executor: Executor,
        metrics: SelfMetrics,
        *,
        max_body_bytes: int,
        in_flight_bytes: int = 512 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._spool = spool
        self._executor = executor
        self._metrics = metrics
        self._room_bytes = max(in_flight_bytes, 2 * max_body_bytes)
        self._in_flight_bytes = 0
        self._clock = clock

    async def accept(
        self,
        kind: str,
        body: bytes,
        *,
        encoding: str = "identity",
        meta: Mapping[str, Any] | None = None,
        wait_for_landing: bool = False,
    ) -> Accepted:
        """Take one body; when this returns, it is durable (and landed, where asked for).

        Raises:
            PermanentError: it is not what its kind says; nothing was kept.
            RetryableError: the spool is full, the disk failed or the collector is stopping; nothing was kept.
        """
        record = Record(kind, encoding, int(self._clock() * 1e6), dict(meta or {}), body)
        self._enter(len(body))
        try:
            decoded = await self._decode(record)
            landed: Future[int] | None = uncancellable_future() if wait_for_landing and decoded.rows_count else None
            if decoded.rows_count or decoded.rejected:
                await asyncio.wrap_future(self._spool.append(record, Handed(decoded, landed)))
        finally:
            self._in_flight_bytes -= len(body)
        self._metrics.count("fleetmeter_accepted_items", decoded.accepted_count, kind=kind)
        if decoded.rejected:
            self._metrics.count("fleetmeter_rejected_items", len(decoded.rejected), kind=kind)
        landed_count: int | None = 0 if wait_for_landing else None
        if landed is not None:
            landed_count = await asyncio.wrap_future(landed)
        return Accepted(decoded.accepted_count, len(decoded.rejected), decoded.message, landed_count, decoded.written)

    async def _decode(self, record: Record) -> Decoded:
        if len(record.body) <= INLINE_BYTES:
            return decode_record_body(record, self.max_body_bytes)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, decode_record_body, record, self.max_body_bytes)

    def _enter(self, size: int) -> None:
        if self._in_flight_bytes + size > self._room_bytes:
            raise RetryableError("too many bodies at once; send again in a second")
        self._in_flight_bytes += size
