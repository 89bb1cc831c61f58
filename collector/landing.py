"""The landing: one thread that takes durable records in order and puts their rows into the tables.

A batch is what has gathered within a moment, or enough rows. Its rows and the spool's progress are one transaction, so
a crash anywhere neither loses nor doubles. A batch that the database refuses for its content is landed record by
record, and only the bad record goes to the dead letters; one that fails for want of disk or memory is tried again until
it lands, as are dead letters that can't be written and records that can't be read again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyarrow as pa

from collector.bodies import decode_record_body, decompressed, spans_apart
from collector.dead_letters import DeadLetters
from collector.decoded import Decoded, Rejected
from collector.errors import CollectorError, PermanentError, RetryableError, StoreFailedError
from collector.landing_batches import Arrival, Handed, entries_of, held_bytes, let_go, lost, rows_in
from collector.redaction import AttributeRules
from collector.self_metrics import SelfMetrics
from collector.spool_records import Damage, DamagedRecordError, Position, Record, Spooled
from collector.store import Store
from collector.trace_decoding import TraceDecoder

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
REFUSED_LIMIT = 100
"""Of a record that the database refuses no more than so many spans are told apart."""
LINGER_SLICE_SECONDS = 0.02
"""While it lingers the landing looks so often for more: to be woken for each record costs those who bring them."""
DRAIN_SECONDS = 5.0
"""How long a stopping collector goes on with the records of the last run."""
DRAIN_RETRIES = 3
"""How often a failing batch is tried again once the collector is stopping; the spool keeps it for the next start."""


@dataclass(frozen=True, slots=True)
class LandingLimits:
    """When a batch is landed, and how much decoded data may wait in memory."""

    linger_seconds: float = 0.2
    """How long the first record of a batch waits for more."""
    rows_limit: int = 100_000
    """A batch of as many rows is landed at once."""
    memory_bytes: int = 256 * 2**20
    """Above this much, decoded rows are dropped and decoded again from the spooled body."""
    max_body_bytes: int = 64 * 2**20
    """The largest body after decompression."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints while rows come in."""


@dataclass(slots=True)
class Landing:
    """The landing thread and its queue.

    Args:
        store: where the rows go.
        read_again: reads a record whose body was let go for want of memory.
        traces: decodes what came without rows; nobody else may use it.
        dead_letters: where rejects go.
        metrics: told about every batch.
        on_progress: called with the spool position after each commit.
        on_failure: called when the database can't go on in this process.
        limits: when a batch is landed.
        rules: which attributes are kept.
        clock: seconds since 1970.
    """

    store: Store
    read_again: Callable[[Spooled], Record]
    traces: TraceDecoder
    dead_letters: DeadLetters
    metrics: SelfMetrics
    on_progress: Callable[[Position], None]
    on_failure: Callable[[StoreFailedError], None]
    limits: LandingLimits = field(default_factory=LandingLimits)
    rules: AttributeRules = field(default_factory=AttributeRules)
    clock: Callable[[], float] = time.time
    _queue: queue.SimpleQueue[Spooled | None] = field(default_factory=queue.SimpleQueue)
    _held_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _oldest_us: int | None = None
    _checkpointed: float = 0.0
    _dirty: bool = False
    _replay: Iterator[Spooled] | None = None
    _replaying: bool = True
    _ended: bool = False
    _give_up_at: float = 0.0

    @property
    def replaying(self) -> bool:
        """True while records of the last run are not landed yet."""
        return self._replaying

    @property
    def stopping(self) -> bool:
        """True once it was asked to stop."""
        return self._stopping.is_set()

    def start(self, replay: Iterable[Spooled] = ()) -> None:
        """Start the thread.

        Args:
            replay: the records that the last run left, which are landed before those that are put.
        """
        self._replay = iter(replay)
        self._checkpointed = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="landing", daemon=True)
        self._thread.start()

    def put(self, records: Iterable[Spooled]) -> None:
        """Queue durable records, in the order of the spool."""
        for spooled in records:
            size = held_bytes(spooled)
            with self._lock:
                if fits := self._held_bytes + size <= self.limits.memory_bytes:
                    self._held_bytes += size
            self._queue.put(spooled if fits else let_go(spooled))

    def close(self) -> None:
        """Land what is queued, checkpoint and stop; a long replay is left to the next start."""
        self._give_up_at = time.monotonic() + DRAIN_SECONDS
        self._stopping.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def oldest_age_seconds(self) -> float:
        """Return the age of the oldest record that is being landed; 0 where none waits."""
        oldest = self._oldest_us
        return max(0.0, self.clock() - oldest / 1e6) if oldest is not None else 0.0

    def _run(self) -> None:
        try:
            while (batch := self._gather()) is not None:
                if batch:
                    self.land(batch)
                self._replaying = self._replay is not None
                self._checkpoint_if_due()
            self._turn_away()
            self._checkpoint()
        except StoreFailedError as error:
            self.on_failure(error)
        except RetryableError as error:
            log.error("landing_left_to_next_start", extra={"error": str(error)})
        except BaseException as error:
            self.on_failure(StoreFailedError(f"the landing broke off: {type(error).__name__}: {error}"))
            raise

    def _turn_away(self) -> None:
        """Tell those who wait for the landing of records that the next start lands."""
        while True:
            try:
                left = self._queue.get_nowait()
            except queue.Empty:
                return
            if left is not None and left.handed is not None and left.handed.landed is not None:
                left.handed.landed.set_exception(RetryableError("the collector stops; the rows land at its next start"))

    def _gather(self) -> list[Arrival] | None:
        """Wait for a record and what follows it within the linger; None once stopped and empty."""
        first = self._next(1.0, alone=True)
        if first is None:
            return None if self._ended else []
        batch, rows = [first], rows_in(first)
        deadline = time.monotonic() + self.limits.linger_seconds
        while rows < self.limits.rows_limit:
            last = batch[-1]
            hurried = (last.handed is not None and last.handed.landed is not None) or self._stopping.is_set()
            first = self._next(0.0)
            if first is not None:
                batch.append(first)
                rows += rows_in(first)
                continue
            left = deadline - time.monotonic()
            if hurried or self._ended or left <= 0:
                break
            self._stopping.wait(min(left, LINGER_SLICE_SECONDS))
        arrivals = self._arrivals(batch)
        self._oldest_us = arrivals[0].record.received_us
        return arrivals

    def _next(self, patience_seconds: float, *, alone: bool = False) -> Spooled | None:
        """Return the next record: those of the last run first; None where none comes in time, or no more will."""
        if self._replay is not None:
            if self._stopping.is_set() and time.monotonic() > self._give_up_at:
                self._ended = True
                return None
            if (spooled := next(self._replay, None)) is not None:
                return spooled
            self._replay = None
            self._replaying = not alone
        if self._ended:
            return None
        try:
            found = self._queue.get(timeout=patience_seconds) if patience_seconds > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if found is None:
            self._ended = True
        elif found.record is not None:
            with self._lock:
                self._held_bytes -= held_bytes(found)
        return found

    def _arrivals(self, batch: list[Spooled]) -> list[Arrival]:
        """Take records off the queue; read and decode those again that came without rows, traces all together."""
        arrivals: list[Arrival] = []
        traces: list[Arrival] = []
        for spooled in batch:
            handed: Handed = spooled.handed or Handed(None)
            record = spooled.record or self._read_again(spooled)
            arrival = Arrival(record, spooled.end, handed.decoded or Decoded(), handed.landed)
            arrivals.append(arrival)
            if handed.decoded is None and record.kind == "traces":
                traces.append(arrival)
            elif handed.decoded is None:
                arrival.decoded = self._decoded(record)
        if traces:
            decoded = self.traces.decode([arrival.record for arrival in traces])
            for arrival, answer in zip(traces, decoded, strict=True):
                failed = isinstance(answer, CollectorError)
                arrival.decoded = lost(arrival.record, answer) if failed else answer  # type: ignore[assignment,arg-type]
        return arrivals

    def _decoded(self, record: Record) -> Decoded:
        try:
            return decode_record_body(record, self.limits.max_body_bytes)
        except PermanentError as error:
            return lost(record, error)

    def _read_again(self, spooled: Spooled) -> Record:
        try:
            return self._insist("spool_unreadable", lambda: self.read_again(spooled))
        except DamagedRecordError as error:
            log.error("spool_record_lost", extra={"segment": spooled.end.segment, "error": str(error)})
            return Record("damaged", "identity", int(self.clock() * 1e6), {}, error.content)

    def keep_damaged(self, damage: Damage) -> None:
        """Put bytes of the spool that are no whole record into the dead letters; called from the landing thread."""
        record = Record("damaged", "identity", int(self.clock() * 1e6), {}, damage.content)
        said = f"bytes {damage.start_bytes} to {damage.end.offset_bytes} of segment {damage.end.segment} are no record"
        letter = (record, damage.end, (Rejected(said, damage.content),))
        self._insist("dead_letters_failed", lambda: self.dead_letters.keep_all([letter]))
        self.metrics.count("fleetmeter_damaged_spool_bytes", len(damage.content))
        self.metrics.count("fleetmeter_dead_letters", kind=record.kind)

    def land(self, batch: list[Arrival]) -> None:
        """Land a batch whole, or, where its content is refused, record by record."""
        try:
            self._land_in_one(batch)
        except PermanentError as error:
            if len(batch) == 1:
                self._bury(batch[0], error)
            else:
                log.warning("batch_refused", extra={"records": len(batch), "error": str(error)})
                for arrival in batch:
                    self.land([arrival])
        self._oldest_us = None

    def _land_in_one(self, batch: list[Arrival]) -> None:
        entries, owners = entries_of(batch, self.store.unknown_series)
        self._keep_rejected(batch)
        counts = self._insert(entries, batch[-1].end)
        self._finish(batch)
        for arrival in batch:
            if arrival.landed is not None:
                arrival.landed.set_result(sum(counts[index] for index in owners[id(arrival)]))

    def _insert(self, entries: list[tuple[str, pa.Table]], end: Position | None) -> list[int]:
        """Insert rows and the spool's progress; return how many of each entry were new."""
        entries = [(table, self._ruled(rows)) for table, rows in entries]
        started = time.monotonic()
        counts = self._insist("landing_failed", lambda: self.store.land_conformed(entries, end))
        self.metrics.observe("fleetmeter_landing_seconds", time.monotonic() - started)
        self._dirty = True
        for (table, rows), count in zip(entries, counts, strict=True):
            self.metrics.count("fleetmeter_landed_rows", count, table=table)
            self.metrics.count("fleetmeter_duplicate_rows", rows.num_rows - count, table=table)
        return counts

    def _ruled(self, rows: pa.Table) -> pa.Table:
        """Drop the attributes that are not to be kept."""
        kept, counts = self.rules.applied(rows)
        for reason, count in counts.items():
            if count:
                self.metrics.count("fleetmeter_dropped_attributes", count, reason=reason)
        return kept

    def _keep_rejected(self, batch: list[Arrival]) -> None:
        """Before the commit: a crash after it would lose them, and a replay writes the same files again."""
        letters = [(one.record, one.end, one.decoded.rejected) for one in batch if one.decoded.rejected]
        if letters:
            self._insist("dead_letters_failed", lambda: self.dead_letters.keep_all(letters))

    def _finish(self, batch: list[Arrival]) -> None:
        for arrival in batch:
            if count := len(arrival.decoded.rejected):
                self.metrics.count("fleetmeter_dead_letters", count, kind=arrival.record.kind)
        self.on_progress(batch[-1].end)
        now = self.clock()
        self.metrics.set("fleetmeter_freshness_seconds", now - batch[0].record.received_us / 1e6)
        for arrival in batch:
            self.metrics.observe("fleetmeter_landed_after_seconds", now - arrival.record.received_us / 1e6)

    def _insist(self, event: str, attempt: Callable[[], T]) -> T:
        """Try again for as long as the failure may pass; a stopping collector leaves it to the next start.

        Raises:
            RetryableError: it failed, and the collector stops or the database can't go on.
            PermanentError: trying again can't help.
        """
        tries = 0
        while True:
            try:
                return attempt()
            except StoreFailedError:
                raise
            except RetryableError as error:
                tries += 1
                self.metrics.count("fleetmeter_landing_retries")
                log.error(event, extra={"error": str(error), "tries": tries})
                if self._stopping.is_set() and tries >= DRAIN_RETRIES:
                    raise
                self._stopping.wait(RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1])

    def _bury(self, arrival: Arrival, error: PermanentError) -> None:
        """Put what the database refuses of a record into the dead letters, land the rest, and pass over it."""
        log.error("record_refused", extra={"kind": arrival.record.kind, "error": str(error)})
        refused = self._salvage(arrival, self._parts(arrival.record), error)
        arrival.decoded = Decoded({}, 0, (*refused, *arrival.decoded.rejected))
        self._keep_rejected([arrival])
        self._insist("landing_failed", lambda: self.store.land_conformed([], arrival.end))
        self._finish([arrival])
        if arrival.landed is not None:
            arrival.landed.set_exception(error)

    def _parts(self, record: Record) -> list[bytes]:
        """Split a record: traces into spans, since bodies of several senders may be one record; others not at all."""
        if record.kind == "traces":
            limit = self.limits.max_body_bytes
            parts = spans_apart(decompressed(record.body, record.encoding, limit), 2 * limit)
            if len(parts) > 1:
                return parts
        return [record.body]

    def _salvage(self, arrival: Arrival, parts: list[bytes], error: PermanentError) -> list[Rejected]:
        """Land halves, and halves of those that are refused; return what is, whole once very much is.

        The spool's progress stays where it was: after a crash the whole record is landed again.
        """
        refused: list[Rejected] = []
        waiting = [(parts, error)]
        while waiting:
            bad, why = waiting.pop()
            if len(bad) == 1 or len(refused) >= REFUSED_LIMIT:
                refused.append(Rejected(f"refused by the database: {why}", b"".join(bad)))
                continue
            middle = len(bad) // 2
            for half in (bad[:middle], bad[middle:]):
                rows = self._decoded(replace(arrival.record, encoding="identity", body=b"".join(half)))
                try:
                    self._insert(entries_of([replace(arrival, decoded=rows, landed=None)])[0], None)
                except PermanentError as of_half:
                    waiting.append((half, of_half))
        return refused

    def _checkpoint_if_due(self) -> None:
        if self._dirty and time.monotonic() - self._checkpointed >= self.limits.checkpoint_seconds:
            self._checkpoint()

    def _checkpoint(self) -> None:
        started = time.monotonic()
        try:
            self.store.checkpoint()
        except StoreFailedError:
            raise
        except RetryableError as error:
            log.error("checkpoint_failed", extra={"error": str(error)})
        self.metrics.observe("fleetmeter_checkpoint_seconds", time.monotonic() - started)
        self._checkpointed = time.monotonic()
        self._dirty = False
