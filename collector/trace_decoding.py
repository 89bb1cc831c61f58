"""Traces on their way from a receiver to the spool: one thread unpacks and decodes all bodies that wait, together.

A body is decoded once, before its answer: so what is malformed is refused, and what becomes no row is counted, without
a second walk. The walker takes what is in the usual form; the rest goes to the reference decoder, body by body. Where
numba is missing, or its compile fails, or the configuration says so, the reference decodes everything.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from collector.bodies import decode_plain, decompressed
from collector.decoded import Decoded
from collector.errors import CollectorError, RetryableError
from collector.self_metrics import SelfMetrics
from collector.spool_records import Record

log = logging.getLogger(__name__)

GROUP_BYTES = 4 * 2**20
"""Bodies, as received, that are decoded together at most."""
GROUP_PLAIN_BYTES = 24 * 2**20
"""And unpacked."""
SMALL_GROUP_BYTES, SMALL_GROUP_SECONDS = 64 * 2**10, 0.001
"""A smaller group waits a moment for more where several bodies came together last time: what a group costs whatever is
in it (calls into compiled code, a write, a sync) is most of what a small body costs."""
COUNTED = "fleetmeter_decoded_bodies"
STOPPING = "the collector is stopping; send again in a few seconds"


class Walker(Protocol):
    """A decoder of many bodies that leaves odd ones (None) to the reference."""

    def decode(self, bodies: Sequence[tuple[bytes, int]]) -> list[Decoded | None]:
        """Decode bodies, each with the time of its receipt in microseconds."""


def compiled_walker() -> Walker | None:
    """Compile the walker, or load it from the cache: seconds. None where that can't be, and why is logged."""
    try:
        from collector.trace_walker import TraceWalker

        walker = TraceWalker()
        walker.decode([(b"", 0)])
    except Exception as error:  # noqa: BLE001 - numba raises all kinds; the reference decodes then
        log.warning("walker_not_compiled", extra={"error": f"{type(error).__name__}: {error}"})
        return None
    return walker


@dataclass(slots=True)
class TraceDecoder:
    """Decodes groups of traces bodies for one thread.

    Args:
        metrics: told which decoder took how many.
        max_body_bytes: the largest body after decompression.
    """

    metrics: SelfMetrics
    max_body_bytes: int
    walker: Walker | None = None
    """None decodes with the reference."""

    def decode(self, records: Sequence[Record]) -> list[Decoded | CollectorError]:
        """Decode bodies; an error stands in the place of a body that is none."""
        answers: list[Decoded | CollectorError | None] = [None] * len(records)
        group: list[tuple[int, bytes]] = []
        size = 0
        for number, record in enumerate(records):
            try:
                plain = decompressed(record.body, record.encoding, self.max_body_bytes)
            except CollectorError as error:
                answers[number] = error
                continue
            group.append((number, plain))
            size += len(plain)
            if size > GROUP_PLAIN_BYTES:
                self._decode_group(records, group, answers)
                group, size = [], 0
        self._decode_group(records, group, answers)
        return [answer for answer in answers if answer is not None]

    def _decode_group(self, records: Sequence[Record], group: list[tuple[int, bytes]], answers: list[Any]) -> None:
        if not group:
            return
        walked: Sequence[Decoded | None] = [None] * len(group)
        if self.walker is not None:
            walked = self.walker.decode([(plain, records[number].received_us) for number, plain in group])
        odd = 0
        for (number, plain), taken in zip(group, walked, strict=True):
            answers[number] = taken
            if taken is None:
                odd += 1
                try:
                    answers[number] = decode_plain(records[number], plain)
                except CollectorError as error:
                    answers[number] = error
        if odd:
            self.metrics.count(COUNTED, odd, decoder="reference")
        if odd < len(group):
            self.metrics.count(COUNTED, len(group) - odd, decoder="walker")


@dataclass(slots=True)
class Job:
    """A record that waits to be decoded."""

    record: Record
    told: Callable[[Decoded | CollectorError], None]
    """Called from any thread with its rows, or with why there are none."""


@dataclass(slots=True)
class TraceDecoding:
    """The thread that decodes traces, with its queue.

    Args:
        decoder: decodes; nobody else may use it.
        keep: takes what has rows, group by group, from this thread, and tells each job.
    """

    decoder: TraceDecoder
    keep: Callable[[list[tuple[Job, Decoded]]], None]
    _queue: queue.SimpleQueue[list[Job] | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    _closed: bool = False
    _crowded: bool = False

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """True once nothing is taken any more."""
        return self._closed

    def put(self, jobs: list[Job]) -> None:
        """Queue bodies that came together; each is told from another thread, or at once where it is too late."""
        if not self._closed:
            self._queue.put(jobs)
            return
        for job in jobs:
            job.told(RetryableError(STOPPING))

    def close(self) -> None:
        """Decode what waits, and end the thread."""
        self._closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (group := self._gather()) is not None:
            try:
                answers: list[Any] = self.decoder.decode([job.record for job in group])
            except Exception as error:
                # No known body comes here. Whatever one does, it must not stop the door.
                log.exception("traces_not_decoded", extra={"bodies": len(group)})
                answers = [RetryableError(f"the body can't be decoded: {error!r}")] * len(group)
                self.decoder.walker = None
            with_rows = []
            for job, answer in zip(group, answers, strict=True):
                if isinstance(answer, CollectorError) or not (answer.rows_count or answer.rejected):
                    job.told(answer)
                else:
                    with_rows.append((job, answer))
            if with_rows:
                self.keep(with_rows)

    def _gather(self) -> list[Job] | None:
        """Wait for a body, and take those that wait behind it; None once closed and empty."""
        first = self._queue.get()
        if first is None:
            return None
        group = list(first)
        size = self._take_waiting(group, sum(len(job.record.body) for job in first))
        if self._crowded and size < SMALL_GROUP_BYTES:
            time.sleep(SMALL_GROUP_SECONDS)
            self._take_waiting(group, size)
        self._crowded = len(group) > 1
        return group

    def _take_waiting(self, group: list[Job], size: int) -> int:
        """Take the bodies that wait; return the bytes of the group."""
        while size < GROUP_BYTES:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)
                break
            group += following
            size += sum(len(job.record.body) for job in following)
        return size
