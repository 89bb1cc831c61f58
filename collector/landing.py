"""The landing: takes durable records in order and puts their rows into the tables, a batch at a time.

A batch is what has gathered within a moment, or enough rows. One thread gathers a batch and makes Arrow of it while
another writes the batch before (`collector/landing_writes.py`); they are written in the order of the spool.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from collector.decoded import Decoded, Rejected
from collector.errors import CollectorError, PermanentError, RetryableError, StoreFailedError
from collector.handover import Handover
from collector.landing_batches import Arrival, Batch, Handed, LandingLimits, Prepared, held_bytes, let_go, lost, rows_in
from collector.landing_writes import BatchWriter, decoded_or_lost
from collector.spool_records import Damage, DamagedRecordError, Record, Spooled
from collector.trace_decoding import TraceDecoder

log = logging.getLogger(__name__)

LINGER_SLICE_SECONDS = 0.02
"""While it lingers the landing looks so often for more: to be woken for each record costs those who bring them."""
CHECKPOINT_LOOK_SECONDS = 1.0
"""So often a checkpoint is thought of where nothing lands."""
DRAIN_SECONDS = 5.0
"""How long a stopping collector goes on with the records of the last run."""
STOPS = "the collector stops; the rows land at its next start"
DAMAGED = "damaged"
"""The kind of what stands for bytes of the spool that are no record."""


@dataclass(slots=True)
class Landing:
    """The landing's two threads and their queue.

    Args:
        writer: puts batches into the tables.
        read_again: reads a record whose body was let go for want of memory.
        traces: decodes what came without rows; nobody else may use it.
        on_failure: called, from either thread, when the landing can't go on in this process.
    """

    writer: BatchWriter
    read_again: Callable[[Spooled], Record]
    traces: TraceDecoder
    on_failure: Callable[[StoreFailedError], None]
    _queue: queue.SimpleQueue[Spooled | None] = field(default_factory=queue.SimpleQueue)
    _held_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: tuple[threading.Thread, ...] = ()
    _handover: Handover[Batch] = field(default_factory=Handover)
    """Where the next batch is handed to the thread that writes."""
    _gathered_us: int | None = None
    _writing_us: int | None = None
    """When the first record of the batch that is gathered, and of the one that is written, came in."""
    _replay: Iterator[Spooled] | None = None
    _replaying: bool = True
    _ended: bool = False
    _give_up_at: float = 0.0

    @property
    def limits(self) -> LandingLimits:
        """When a batch is landed, and how much may wait in memory."""
        return self.writer.limits

    @property
    def replaying(self) -> bool:
        """True while records of the last run are not landed yet."""
        return self._replaying

    @property
    def stopping(self) -> bool:
        """True once it was asked to stop."""
        return self.writer.stopping.is_set()

    def start(self, replay: Iterable[Spooled] = ()) -> None:
        """Start the threads.

        Args:
            replay: the records that the last run left, which are landed before those that are put.
        """
        self._replay = iter(replay)
        self._threads = tuple(
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("landing", self._gather_all), ("landing-writes", self._write_all))
        )
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self._handover.end()
            raise

    def put(self, records: Iterable[Spooled]) -> None:
        """Queue durable records, in the order of the spool."""
        for spooled in records:
            size = held_bytes(spooled)
            with self._lock:
                if fits := self._held_bytes + size <= self.limits.memory_bytes:
                    self._held_bytes += size
            self._queue.put(spooled if fits else let_go(spooled))
        if self._handover.over:
            self._turn_away()

    def close(self) -> None:
        """Land what is queued, checkpoint and stop; a long replay is left to the next start."""
        self._give_up_at = time.monotonic() + DRAIN_SECONDS
        self.writer.stopping.set()
        self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def oldest_age_seconds(self) -> float:
        """Return the age of the oldest record that is being landed; 0 where none waits."""
        oldest = self._writing_us or self._gathered_us
        return max(0.0, self.writer.clock() - oldest / 1e6) if oldest is not None else 0.0

    def _gather_all(self) -> None:
        """Make batches, each while the one before is written."""
        try:
            while not self._handover.over and (arrivals := self._gather()) is not None:
                if arrivals:
                    self._hand_over(arrivals)
        except BaseException as error:  # noqa: BLE001 - told
            self._failed(error)
        finally:
            self._handover.close()

    def _hand_over(self, arrivals: list[Arrival]) -> None:
        """Hand a batch to the thread that writes, once that is free."""
        if not self._handover.put(Batch(arrivals, self._prepared(arrivals))):
            turn_away(arrival.landed for arrival in arrivals)
        self._gathered_us = None
        # What is damaged of the spool is kept by this thread while it replays: beside no other batch, and in order.
        if self._replaying and self._handover.wait():
            self._replaying = self._replay is not None

    def _prepared(self, arrivals: list[Arrival]) -> Prepared | None:
        """Make Arrow of a batch while the one before is written; what can't be is told apart when its turn comes."""
        try:
            return self.writer.prepared(arrivals)
        except Exception:  # noqa: BLE001 - the thread that writes meets it again, and tells
            return None

    def _write_all(self) -> None:
        """Write batches, and look after the database's log."""
        try:
            while not self._handover.finished:
                batch = self._handover.take(CHECKPOINT_LOOK_SECONDS)
                if taken := batch is not None:
                    self._write(batch)
                batch = None  # it may be large, and this thread may wait long
                self.writer.checkpoint_if_due()
                if taken:
                    self._handover.done()
            self.writer.checkpoint()
        except BaseException as error:  # noqa: BLE001 - told
            self._failed(error)
        finally:
            if (left := self._handover.end()) is not None:
                turn_away(arrival.landed for arrival in left.arrivals)
            self._turn_away()

    def _write(self, batch: Batch) -> None:
        """Write a batch; whoever waits for it is told something in any case."""
        self._writing_us = batch.arrivals[0].record.received_us
        try:
            self.writer.write(batch.arrivals, batch.prepared)
        finally:
            turn_away(arrival.landed for arrival in batch.arrivals)
            self._writing_us = None

    def _failed(self, error: BaseException) -> None:
        """Say that a thread has ended by an error: what is not landed lies in the spool for the next start."""
        if isinstance(error, StoreFailedError):
            self.on_failure(error)
        elif isinstance(error, RetryableError) and self.stopping:
            log.error("landing_left_to_next_start", extra={"error": str(error)})
        else:
            log.error("landing_broke_off", exc_info=error)
            self.on_failure(StoreFailedError(f"the landing broke off: {type(error).__name__}: {error}"))

    def _turn_away(self) -> None:
        """Tell those who wait for the landing of records that the next start lands."""
        with contextlib.suppress(queue.Empty):
            while True:
                if (left := self._queue.get_nowait()) is not None and left.handed is not None:
                    turn_away([left.handed.landed])

    def _gather(self) -> list[Arrival] | None:
        """Wait for a record and what follows it within the linger; [] where none comes, None once there are no more."""
        first = self._next(1.0, alone=True)
        if first is None:
            return None if self._ended else []
        self._gathered_us = first.record.received_us if first.record else int(self.writer.clock() * 1e6)
        batch, rows = [first], rows_in(first)
        deadline = time.monotonic() + self.limits.linger_seconds
        while rows < self.limits.rows_limit:
            last = batch[-1]
            hurried = (last.handed is not None and last.handed.landed is not None) or self.stopping
            first = self._next(0.0)
            if first is not None:
                batch.append(first)
                rows += rows_in(first)
                continue
            left = deadline - time.monotonic()
            if hurried or self._ended or left <= 0:
                break
            self.writer.stopping.wait(min(left, LINGER_SLICE_SECONDS))
        try:
            return self._arrivals(batch)
        except BaseException:
            turn_away(spooled.handed.landed for spooled in batch if spooled.handed is not None)
            raise

    def _next(self, patience_seconds: float, *, alone: bool = False) -> Spooled | None:
        """Return the next record: those of the last run first; None where none comes in time, or no more will."""
        if self._replay is not None:
            if self.stopping and time.monotonic() > self._give_up_at:
                self._ended = True
                return None
            if (spooled := next(self._replay, None)) is not None:
                return spooled
            self._replay = None
            if alone:
                self._replaying = False
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
            if record.kind == DAMAGED:
                turn_away([handed.landed], "its record in the spool is damaged; send the rows again")
                handed = Handed(lost(record, PermanentError("a record of the spool that is damaged")))
            arrival = Arrival(record, spooled.end, handed.decoded or Decoded(), handed.landed)
            arrivals.append(arrival)
            if handed.decoded is None and record.kind == "traces":
                traces.append(arrival)
            elif handed.decoded is None:
                arrival.decoded = decoded_or_lost(record, self.limits.max_body_bytes)
        if traces:
            decoded = self.traces.decode([arrival.record for arrival in traces])
            for arrival, answer in zip(traces, decoded, strict=True):
                failed = isinstance(answer, CollectorError)
                arrival.decoded = lost(arrival.record, answer) if failed else answer  # type: ignore[assignment,arg-type]
        return arrivals

    def _read_again(self, spooled: Spooled) -> Record:
        try:
            return self.writer.insist("spool_unreadable", lambda: self.read_again(spooled))
        except DamagedRecordError as error:
            log.error("spool_record_lost", extra={"segment": spooled.end.segment, "error": str(error)})
            return Record(DAMAGED, "identity", int(self.writer.clock() * 1e6), {}, error.content)

    def keep_damaged(self, damage: Damage) -> None:
        """Put bytes of the spool that are no whole record into the dead letters; called by the thread that gathers."""
        record = Record(DAMAGED, "identity", int(self.writer.clock() * 1e6), {}, damage.content)
        said = f"bytes {damage.start_bytes} to {damage.end.offset_bytes} of segment {damage.end.segment} are no record"
        letter = (record, damage.end, (Rejected(said, damage.content),))
        self.writer.insist("dead_letters_failed", lambda: self.writer.dead_letters.keep_all([letter]))
        self.writer.metrics.count("fleetmeter_damaged_spool_bytes", len(damage.content))
        self.writer.metrics.count("fleetmeter_dead_letters", kind=record.kind)


def turn_away(waiting: Iterable[Future[int] | None], reason: str = STOPS) -> None:
    """Tell those who wait for the landing that it does not come; who was told already is told nothing else."""
    for landed in waiting:
        if landed is not None and not landed.done():
            landed.set_exception(RetryableError(reason))
