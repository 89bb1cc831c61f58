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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from collector.bodies import decode_plain, decompressed, packed
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
in it (calls into compiled code, a write, a sync) is most of what a small body costs. Nor has anybody to wake a thread
that sleeps so, which costs the waker, under Python's lock, as much as a small body again."""
TOGETHER_BODY_BYTES, TOGETHER_BYTES = 8 * 2**10, 2**18
"""Bodies up to so much, unpacked, become one record of the spool, up to so much: what a body costs whatever is in it,
from here to the tables, is then paid once. Messages of protobuf that stand behind each other are one message."""
COUNTED = "fleetmeter_decoded_bodies"
STOPPING = "the collector is stopping; send again in a few seconds"


class Walker(Protocol):
    """A decoder of many bodies that leaves odd ones (None) to the reference."""

    def decode(self, bodies: Sequence[tuple[bytes, int]]) -> list[Decoded | None]:
        """Decode bodies, each with the time of its receipt in microseconds."""

    def decode_together(self, bodies: Sequence[tuple[bytes, int]]) -> tuple[Decoded, list[int]]:
        """Decode bodies as one; of each, how many spans became rows, or -1 for an odd one."""


@cache
def accepted(spans_count: int) -> Decoded:
    """Return what is told of a body whose rows are kept with others'."""
    return Decoded(accepted_count=spans_count)


Answer = Decoded | CollectorError


@dataclass(frozen=True, slots=True)
class Kept:
    """One record for the spool."""

    record: Record
    """A body as it came, or several small ones behind each other."""
    rows: Decoded
    """Its rows, and what could not become one."""
    answers: tuple[tuple[int, Decoded], ...]
    """The bodies in it by number, each with what its sender is told."""


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

    def decode(self, records: Sequence[Record]) -> list[Answer]:
        """Decode bodies; an error stands in the place of a body that is none."""
        answers: list[Any] = [None] * len(records)
        self._decode_groups(records, self._unpacked(records, answers), answers)
        return answers

    def decode_for_spool(self, records: Sequence[Record]) -> tuple[list[Kept], list[tuple[int, Answer]]]:
        """Decode bodies, small ones together.

        Returns:
            What is to be kept, and by number the bodies of which nothing is, with what their senders are told.
        """
        answers: list[Any] = [None] * len(records)
        kept: list[Kept] = []
        self._decode_groups(records, self._all_but_small(records, answers, kept), answers)
        in_kept = {number for one in kept for number, _ in one.answers}
        rest: list[tuple[int, Answer]] = []
        for number, answer in enumerate(answers):
            if number in in_kept:
                continue
            if isinstance(answer, CollectorError) or not (answer.rows_count or answer.rejected):
                rest.append((number, answer))
            else:
                kept.append(Kept(packed(records[number]), answer, ((number, answer),)))
        return kept, rest

    def _unpacked(self, records: Sequence[Record], answers: list[Any]) -> Iterator[tuple[int, bytes]]:
        """Yield each body by number without its encoding; of those that are not in it the answer is the error."""
        for number, record in enumerate(records):
            try:
                yield number, decompressed(record.body, record.encoding, self.max_body_bytes)
            except CollectorError as error:
                answers[number] = error

    def _all_but_small(
        self, records: Sequence[Record], answers: list[Any], kept: list[Kept]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the larger bodies by number, unpacked, and decode the small ones beside."""
        small: list[tuple[int, bytes]] = []
        size = 0
        for number, plain in self._unpacked(records, answers):
            if len(plain) > TOGETHER_BODY_BYTES or records[number].meta:
                yield number, plain
                continue
            if size + len(plain) > min(TOGETHER_BYTES, self.max_body_bytes):
                self._decode_together(records, small, answers, kept)
                small, size = [], 0
            small.append((number, plain))
            size += len(plain)
        self._decode_together(records, small, answers, kept)

    def _decode_together(
        self, records: Sequence[Record], small: list[tuple[int, bytes]], answers: list[Any], kept: list[Kept]
    ) -> None:
        """Decode small bodies into one record; those that are odd or have no rows get their own answers."""
        if len(small) < 2 or self.walker is None:
            self._decode_group(records, small, answers)
            return
        received_us = records[small[0][0]].received_us  # of all of them, as of the record that is read again
        rows, counts = self.walker.decode_together([(plain, received_us) for _, plain in small])
        taken: list[tuple[int, Decoded]] = []
        bodies: list[bytes] = []
        odd: list[tuple[int, bytes]] = []
        for (number, plain), count in zip(small, counts, strict=True):
            if count > 0:
                taken.append((number, accepted(count)))
                bodies.append(plain)
            elif count == 0:
                answers[number] = accepted(0)
            else:
                odd.append((number, plain))
        if taken:
            record = Record("traces", "identity", received_us, {}, b"".join(bodies))
            kept.append(Kept(packed(record), rows, tuple(taken)))
        self._by_reference(records, odd, answers)
        self.metrics.count(COUNTED, len(small) - len(odd), decoder="walker")

    def _decode_groups(
        self, records: Sequence[Record], bodies: Iterable[tuple[int, bytes]], answers: list[Any]
    ) -> None:
        """Decode bodies, at a time no more of them than memory should hold unpacked."""
        group: list[tuple[int, bytes]] = []
        size = 0
        for number, plain in bodies:
            group.append((number, plain))
            size += len(plain)
            if size > GROUP_PLAIN_BYTES:
                self._decode_group(records, group, answers)
                group, size = [], 0
        self._decode_group(records, group, answers)

    def _decode_group(self, records: Sequence[Record], group: list[tuple[int, bytes]], answers: list[Any]) -> None:
        if not group:
            return
        walked: Sequence[Decoded | None] = [None] * len(group)
        if self.walker is not None:
            walked = self.walker.decode([(plain, records[number].received_us) for number, plain in group])
        for (number, _), taken in zip(group, walked, strict=True):
            answers[number] = taken
        odd = [one for one, taken in zip(group, walked, strict=True) if taken is None]
        self._by_reference(records, odd, answers)
        if len(odd) < len(group):
            self.metrics.count(COUNTED, len(group) - len(odd), decoder="walker")

    def _by_reference(self, records: Sequence[Record], odd: list[tuple[int, bytes]], answers: list[Any]) -> None:
        for number, plain in odd:
            try:
                answers[number] = decode_plain(records[number], plain)
            except CollectorError as error:
                answers[number] = error
        if odd:
            self.metrics.count(COUNTED, len(odd), decoder="reference")


@dataclass(slots=True)
class Job:
    """A record that waits to be decoded."""

    record: Record
    told: Callable[[Answer], None]
    """Called from any thread with its rows, or with why there are none."""
    landed: Future[int] | None = None
    """Told how many rows were new, where somebody waits for that; not with traces."""


def tell_failure(jobs: Sequence[Job], error: BaseException) -> None:
    """Answer those whose bodies a failure of ours has met; who has an answer takes no second one."""
    log.exception("bodies_not_taken", extra={"bodies": len(jobs)})
    for job in jobs:
        job.told(RetryableError(f"the body can't be taken now: {error!r}"))


@dataclass(slots=True)
class TraceDecoding:
    """The thread that decodes traces, with its queue.

    Args:
        decoder: decodes; nobody else may use it.
        keep: takes the jobs of a group and what of them is to be made durable, from this thread, and tells each job.
    """

    decoder: TraceDecoder
    keep: Callable[[list[Job], list[Kept]], None]
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
                kept, rest = self.decoder.decode_for_spool([job.record for job in group])
            except Exception as error:  # noqa: BLE001 - no known body comes here; whatever one does, the door goes on
                tell_failure(group, error)
                self.decoder.walker = None
                continue
            try:
                for number, answer in rest:
                    group[number].told(answer)
                if kept:
                    self.keep(group, kept)
            except Exception as error:  # noqa: BLE001 - told and logged
                tell_failure(group, error)

    def _gather(self) -> list[Job] | None:
        """Wait for a body, and take those that wait behind it; None once closed and empty."""
        group: list[Job] = []
        if self._crowded:
            size = self._take_waiting(group, 0)
            if size < SMALL_GROUP_BYTES:
                time.sleep(SMALL_GROUP_SECONDS)
                self._take_waiting(group, size)
        if not group:
            if (first := self._queue.get()) is None:
                return None
            group += first
            self._take_waiting(group, sum(len(job.record.body) for job in first))
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
