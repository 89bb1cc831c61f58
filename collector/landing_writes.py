"""What puts a batch into the tables: its rows and the spool's progress in one transaction, whatever it takes.

A crash anywhere neither loses nor doubles. A batch that the database refuses for its content is landed record by
record, and only what is refused goes to the dead letters; one that fails for want of disk or memory is tried again
until it lands, as are dead letters that can't be written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import pyarrow as pa

from collector.bodies import decode_record_body, decompressed, spans_apart
from collector.dead_letters import DeadLetters
from collector.decoded import Decoded, Rejected
from collector.errors import PermanentError, RetryableError, StoreFailedError
from collector.landing_batches import Arrival, LandingLimits, Prepared, entries_of, lost
from collector.redaction import AttributeRules
from collector.self_metrics import SelfMetrics
from collector.spool_records import Position, Record
from collector.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
DRAIN_RETRIES = 3
"""How often a failing batch is tried again once the collector is stopping; the spool keeps it for the next start."""
REFUSED_LIMIT = 100
"""Of a record that the database refuses no more than so many spans are told apart."""


@dataclass(slots=True)
class BatchWriter:
    """Puts batches into the tables.

    `prepared` may be called of one batch while another is written, and `insist` by anybody; all else is for one thread
    at a time.

    Args:
        store: where the rows go.
        dead_letters: where rejects go.
        metrics: told about every batch.
        on_progress: called with the spool position after each commit.
        limits: when a batch is landed.
        rules: which attributes are kept.
        clock: seconds since 1970.
        stopping: set once the collector is to stop.
    """

    store: Store
    dead_letters: DeadLetters
    metrics: SelfMetrics
    on_progress: Callable[[Position], None]
    limits: LandingLimits = field(default_factory=LandingLimits)
    rules: AttributeRules = field(default_factory=AttributeRules)
    clock: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    _checkpointed: float = field(default_factory=time.monotonic)
    _dirty: bool = False

    def prepared(self, batch: list[Arrival]) -> Prepared:
        """Make of a batch what the store takes.

        Raises:
            PermanentError: a value is of no Arrow type.
            RetryableError: memory is short, or the database can't tell for the moment which series it knows.
        """
        with made_of_arrow():
            entries, owners = entries_of(batch, self.store.unknown_series)
            dropped: Counter[str] = Counter()
            kept = []
            for table, rows in entries:
                ruled, counts = self.rules.applied(rows)
                kept.append((table, ruled))
                dropped.update(counts)
        return Prepared(kept, owners, +dropped)

    def write(self, batch: list[Arrival], prepared: Prepared | None = None) -> None:
        """Land a batch whole, or, where its content is refused, record by record.

        Raises:
            StoreFailedError: the database can't go on in this process.
            RetryableError: it failed, and the collector stops.
        """
        try:
            whole = prepared or self.insist("landing_failed", partial(self.prepared, batch))
            self._write_in_one(batch, whole)
        except PermanentError as error:
            if len(batch) == 1:
                self._bury(batch[0], error)
            else:
                log.warning("batch_refused", extra={"records": len(batch), "error": str(error)})
                for arrival in batch:
                    self.write([arrival])

    def _write_in_one(self, batch: list[Arrival], prepared: Prepared) -> None:
        self._keep_rejected(batch)
        counts = self._insert(prepared, batch[-1].end)
        self._finish(batch)
        for arrival in batch:
            if arrival.landed is not None:
                arrival.landed.set_result(sum(counts[index] for index in prepared.owners[id(arrival)]))

    def _insert(self, prepared: Prepared, end: Position | None) -> list[int]:
        """Insert rows and the spool's progress; return how many of each entry were new."""
        started = time.monotonic()
        counts = self.insist("landing_failed", lambda: self.store.land_conformed(prepared.entries, end))
        self.metrics.observe("fleetmeter_landing_seconds", time.monotonic() - started)
        self._dirty = True
        for reason, count in prepared.dropped.items():
            self.metrics.count("fleetmeter_dropped_attributes", count, reason=reason)
        for (table, rows), count in zip(prepared.entries, counts, strict=True):
            self.metrics.count("fleetmeter_landed_rows", count, table=table)
            self.metrics.count("fleetmeter_duplicate_rows", rows.num_rows - count, table=table)
        return counts

    def _keep_rejected(self, batch: list[Arrival]) -> None:
        """Before the commit: a crash after it would lose them, and a replay writes the same files again."""
        letters = [(one.record, one.end, one.decoded.rejected) for one in batch if one.decoded.rejected]
        if letters:
            self.insist("dead_letters_failed", lambda: self.dead_letters.keep_all(letters))

    def _finish(self, batch: list[Arrival]) -> None:
        for arrival in batch:
            if count := len(arrival.decoded.rejected):
                self.metrics.count("fleetmeter_dead_letters", count, kind=arrival.record.kind)
        self.on_progress(batch[-1].end)
        now = self.clock()
        self.metrics.set("fleetmeter_freshness_seconds", now - batch[0].record.received_us / 1e6)
        for arrival in batch:
            self.metrics.observe("fleetmeter_landed_after_seconds", now - arrival.record.received_us / 1e6)

    def insist(self, event: str, attempt: Callable[[], T]) -> T:
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
                if self.stopping.is_set() and tries >= DRAIN_RETRIES:
                    raise
                self.stopping.wait(RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1])

    def _bury(self, arrival: Arrival, error: PermanentError) -> None:
        """Put what the database refuses of a record into the dead letters, land the rest, and pass over it."""
        log.error("record_refused", extra={"kind": arrival.record.kind, "error": str(error)})
        refused = self._salvage(arrival, self._parts(arrival.record), error)
        arrival.decoded = Decoded({}, 0, (*refused, *arrival.decoded.rejected))
        self._keep_rejected([arrival])
        self.insist("landing_failed", lambda: self.store.land_conformed([], arrival.end))
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
                record = replace(arrival.record, encoding="identity", body=b"".join(half))
                rows = decoded_or_lost(record, self.limits.max_body_bytes)
                alone = [replace(arrival, decoded=rows, landed=None)]
                try:
                    self._insert(self.insist("landing_failed", partial(self.prepared, alone)), None)
                except PermanentError as of_half:
                    waiting.append((half, of_half))
        return refused

    def checkpoint_if_due(self) -> None:
        """Checkpoint once it is time, where something has landed."""
        if self._dirty and time.monotonic() - self._checkpointed >= self.limits.checkpoint_seconds:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write DuckDB's log into its file; a disk that has no room for it is tried again later.

        Raises:
            StoreFailedError: the database can't go on in this process.
        """
        started = time.monotonic()
        try:
            self.store.checkpoint()
            self._dirty = False
        except StoreFailedError:
            raise
        except RetryableError as error:
            log.error("checkpoint_failed", extra={"error": str(error)})
        self.metrics.observe("fleetmeter_checkpoint_seconds", time.monotonic() - started)
        self._checkpointed = time.monotonic()


def decoded_or_lost(record: Record, max_body_bytes: int) -> Decoded:
    """Decode a record with the reference; one that can't be decoded is rejected whole."""
    try:
        return decode_record_body(record, max_body_bytes)
    except PermanentError as error:
        return lost(record, error)


@contextmanager
def made_of_arrow() -> Iterator[None]:
    """Say of what goes wrong in making Arrow whether the rows are to blame, or the machine."""
    try:
        yield
    except MemoryError as error:  # Arrow's own is one too
        raise RetryableError(f"no memory to land a batch: {error}") from error
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        raise PermanentError(f"rows that are no Arrow: {error}") from error
