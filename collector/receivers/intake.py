"""What every door hands its bodies to: validate, make durable, hand on, and only then say yes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from collector.bodies import decode_record_body, packed
from collector.decoded import Decoded
from collector.errors import CollectorError, RetryableError
from collector.landing_batches import Handed
from collector.receivers.room import Hold, Room
from collector.self_metrics import SelfMetrics
from collector.spool import Spool, uncancellable_future
from collector.spool_records import Position, Record
from collector.trace_decoding import STOPPING, Job, TraceDecoding, tell_failure

POINTS = ("metrics", "remote_write", "scrape")
LARGE_BYTES = 2**20
"""Larger bodies than so much, as received, have other threads."""
INLINE_BYTES = 4096
"""Smaller bodies are read on the event loop: a change of thread costs more than they do."""
INLINE_ENCODINGS = ("identity", "snappy")
"""Those in which a small body is not a large one that is packed: gzip may pack a thousandfold."""
Made = TypeVar("Made")
Told = Callable[[Decoded | CollectorError], None]
"""Called once a body is durable, with its rows, or with why it is not."""
log = logging.getLogger(__name__)


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


class Answers:
    """Brings answers from other threads to the event loop: one wake-up for all that are there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: list[tuple[Told, Decoded | CollectorError]] = []

    def tell(self, told: Told, answer: Decoded | CollectorError) -> None:
        """Answer from any thread; `told` is called on the loop."""
        with self._lock:
            self._pending.append((told, answer))
            if len(self._pending) > 1:
                return
        self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
        for told, answer in pending:
            try:
                told(answer)
            except Exception:
                log.exception("answer_not_given")


def settle(waiting: asyncio.Future[Decoded], answer: Decoded | CollectorError) -> None:
    """End a future with an answer, unless nobody waits for it any more."""
    if waiting.done():
        return
    if isinstance(answer, CollectorError):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def is_usual(record: Record) -> bool:
    """Tell whether a body is one of points that is decoded quickly."""
    return record.kind in POINTS and len(record.body) <= LARGE_BYTES


def tell_durable(job: Job, decoded: Decoded, answer: Position | RetryableError) -> None:
    """Tell a sender that its body is durable, or is not."""
    job.told(answer if isinstance(answer, RetryableError) else decoded)


class Intake:
    """The way of every body.

    Args:
        spool: makes it durable.
        points: one thread that decodes points: what is known of series is behind one lock, and two would wait for it.
        executor: threads for large bodies and other kinds, so that nobody else waits for them.
        traces: decodes traces, many bodies at once.
        metrics: told what came.
        max_body_bytes: the largest body after decompression.
        in_flight_bytes: more than this much in bodies that are being read, decoded or made durable is refused.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        spool: Spool,
        points: Executor,
        executor: Executor,
        traces: TraceDecoding,
        metrics: SelfMetrics,
        *,
        max_body_bytes: int,
        in_flight_bytes: int = 512 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._spool = spool
        self._points = points
        self._executor = executor
        self._traces = traces
        self._answers: Answers | None = None
        self._jobs: list[Job] = []
        """What came in this turn of the event loop."""
        self._metrics = metrics
        self._accepted: dict[str, Any] = {}
        self.room = Room(max(in_flight_bytes, 2 * max_body_bytes))
        self._clock = clock

    async def accept(
        self,
        kind: str,
        body: bytes,
        *,
        encoding: str = "identity",
        meta: Mapping[str, Any] | None = None,
        wait_for_landing: bool = False,
        held: bool = False,
    ) -> Accepted:
        """Take one body; when this returns, it is durable (and landed, where asked for).

        Args:
            kind: traces, metrics, logs, rows, scrape or remote_write.
            body: as it came.
            encoding: how it is compressed.
            meta: what else is to be known of it.
            wait_for_landing: whether to come back with the count of new rows.
            held: whether the caller holds the room for it.

        Raises:
            PermanentError: it is not what its kind says; nothing was kept.
            RetryableError: the spool is full, the disk failed or the collector is stopping; nothing was kept.
        """
        record = self._record(kind, encoding, body, meta)
        landed: Future[int] | None = uncancellable_future() if wait_for_landing else None
        with Hold(self.room) as hold:
            if not held:
                hold.take(len(body))
            waiting: asyncio.Future[Decoded] = asyncio.get_running_loop().create_future()
            self._put(record, partial(settle, waiting), landed)
            decoded = await waiting
        self._count(kind, decoded)
        landed_count: int | None = None
        if landed is not None:
            landed_count = await asyncio.wrap_future(landed) if decoded.rows_count else 0
        return Accepted(decoded.accepted_count, len(decoded.rejected), decoded.message, landed_count, decoded.written)

    def _record(self, kind: str, encoding: str, body: bytes, meta: Mapping[str, Any] | None = None) -> Record:
        return Record(kind, encoding, int(self._clock() * 1e6), dict(meta) if meta else {}, body)

    def _count(self, kind: str, decoded: Decoded) -> None:
        if (accepted := self._accepted.get(kind)) is None:
            accepted = self._accepted[kind] = self._metrics.child("fleetmeter_accepted_items", kind=kind)
        accepted.inc(decoded.accepted_count)
        if decoded.rejected:
            self._metrics.count("fleetmeter_rejected_items", len(decoded.rejected), kind=kind)

    def put(self, kind: str, body: bytes, encoding: str, meta: Mapping[str, Any], told: Told) -> None:
        """Take one body from the event loop; `told` is called there once it is durable, or is refused.

        Raises:
            RetryableError: the collector is stopping; `told` is not called.
        """

        def counted(answer: Decoded | CollectorError) -> None:
            if isinstance(answer, Decoded):
                self._count(kind, answer)
            told(answer)

        self._put(self._record(kind, encoding, body, meta), counted)

    def _put(self, record: Record, told: Told, landed: Future[int] | None = None) -> None:
        """Decode a body and make it durable: from thread to thread, without coming back here in between."""
        if self._traces.closed:
            raise RetryableError(STOPPING)
        if self._answers is None:
            self._answers = Answers(asyncio.get_running_loop())
        if not self._jobs:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._jobs.append(Job(record, partial(self._answers.tell, told), landed))

    def _hand_over(self) -> None:
        """Hand on what came in one turn of the loop together: each change of thread costs as much as a small body."""
        jobs, self._jobs = self._jobs, []
        if traces := [job for job in jobs if job.record.kind == "traces"]:
            self._traces.put(traces)
        if points := [job for job in jobs if is_usual(job.record)]:
            self._points.submit(self._keep, points)
        for job in jobs:
            if job.record.kind != "traces" and not is_usual(job.record):
                self._executor.submit(self._keep, [job])

    def _keep(self, jobs: list[Job]) -> None:
        """Decode bodies and make them durable together, beside the event loop."""
        try:
            kept = []
            for job in jobs:
                try:
                    decoded = decode_record_body(job.record, self.max_body_bytes)
                except CollectorError as error:
                    job.told(error)
                    continue
                if decoded.rows_count or decoded.rejected:
                    kept.append((packed(job.record), Handed(decoded, job.landed), partial(tell_durable, job, decoded)))
                else:
                    job.told(decoded)
            if kept:
                self._spool.put_all(kept)
        except BaseException as error:  # noqa: BLE001 - told and logged; each sender gets an answer
            tell_failure(jobs, error)

    async def beside_the_loop(self, body: bytes, encoding: str, work: Callable[[bytes], Made]) -> Made:
        """Work on a body: in a thread where it may be large, so that nobody else waits for it."""
        if len(body) <= INLINE_BYTES and encoding in INLINE_ENCODINGS:
            return work(body)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, body)
