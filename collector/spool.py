"""The durable queue between an answer and the tables: what is acknowledged is on disk first.

One thread writes: it takes every record that waits, appends them with one write, syncs once, and only then tells their
senders (group commit). Records reach the landing in the order of the file. Segments are deleted once landed. Landing
keeps its own progress in the database, so this file never guesses what was landed.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.errors import RetryableError
from collector.spool_records import (
    MAGIC,
    Damage,
    DamagedRecordError,
    Position,
    Record,
    Spooled,
    decode_record,
    encode_record,
    walk_segment,
)

log = logging.getLogger(__name__)

SEGMENT_NAME = "segment-{:012d}.spool"
SEGMENT = re.compile(r"segment-([0-9]{12,})\.spool")
GROUP_BYTES = 32 * 2**20
BUSY_SECONDS, BUSY_SLEEP_SECONDS = 0.001, 0.0005
"""While records come within the first, the writer sleeps for the second rather than be woken for each: to wake a thread
costs the waker, under Python's lock, as much as a small body."""
FREE_SECONDS = 0.05
sync_content = getattr(os, "fdatasync", os.fsync)
"""macOS has no fdatasync."""


def uncancellable_future() -> Future[Any]:
    """Return a future whose waiter may go away: a cancelled one would raise in the thread that ends it."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


Told = Callable[[Position | RetryableError], None]
"""Called from the spool's thread once a record is durable, or can't be."""


@dataclass(slots=True)
class Waiting:
    """A record that is not durable yet."""

    record: Record
    framed: bytes
    handed: Any
    told: Told


class Spool:
    """Segment files in a folder, written by one thread.

    Args:
        folder: where the segments are; made if missing.
        landed: how far the database reaches; everything after it is handed on again by `replay`.
        limit_bytes: above this much unlanded data, records are refused.
        min_free_bytes: below this much free disk, records are refused.
        segment_bytes: a segment is closed once it is longer.
        hand_on: called in order with each group of records once they are durable.
        on_failure: called from the spool's thread when it can't go on: nothing more would be acknowledged.
        on_damage: called by `replay` with bytes that are no whole record, before what follows is yielded.
        sync: makes a file's content durable; tests give slow and failing disks.
    """

    def __init__(
        self,
        folder: Path,
        *,
        landed: Position,
        limit_bytes: int,
        hand_on: Callable[[list[Spooled]], None],
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_damage: Callable[[Damage], None] = lambda damage: None,
        sync: Callable[[int], None] = sync_content,
        min_free_bytes: int = 0,
        segment_bytes: int = 64 * 2**20,
    ) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._min_free_bytes = min_free_bytes
        self._segment_bytes = segment_bytes
        self._hand_on = hand_on
        self._on_failure = on_failure
        self._on_damage = on_damage
        self._sync = sync
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[list[Waiting] | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._closed = False
        self._free_bytes, self._asked_at = 0, -FREE_SECONDS
        folder.mkdir(parents=True, exist_ok=True)
        self._replayable = self._segments()
        self._sizes = {number: path.stat().st_size for number, path in self._replayable.items()}
        self._landed = landed
        self._number = max([landed.segment, *self._sizes], default=0)
        self._file = -1
        self._offset = 0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Start writing; call it after `replay` was drained."""
        self._thread.start()

    def replay(self) -> Iterator[Spooled]:
        """Yield every durable record after the database's progress, in order; tell of damage and cut torn tails."""
        for number, path in sorted(self._replayable.items()):
            if number < self._landed.segment:
                continue
            start = self._landed.offset_bytes if number == self._landed.segment else 0
            yield from self._replay_segment(number, path, start)

    def _replay_segment(self, number: int, path: Path, start_bytes: int) -> Iterator[Spooled]:
        content = path.read_bytes()
        for record, start, end in walk_segment(content, start_bytes):
            if record is not None:
                yield Spooled(record, start, Position(number, end))
                continue
            said = {"segment": path.name, "from_bytes": start, "to_bytes": end}
            self._on_damage(Damage(start, Position(number, end), content[start:end]))
            if end < len(content):
                log.error("spool_damaged", extra=said)
                continue
            log.warning("spool_tail_cut", extra=said)
            os.truncate(path, start)
            self._sizes[number] = start

    def append(self, record: Record, handed: Any = None) -> Future[Position]:
        """Queue a record; the future ends when it is durable.

        Raises:
            RetryableError: the spool or the disk is full, or the collector is stopping.
        """
        durable: Future[Position] = uncancellable_future()

        def tell(answer: Position | RetryableError) -> None:
            if isinstance(answer, RetryableError):
                durable.set_exception(answer)
            else:
                durable.set_result(answer)

        self.put(record, handed, tell)
        return durable

    def put(self, record: Record, handed: Any, told: Told) -> None:
        """Queue a record; `told` is called when it is durable or has failed.

        Raises:
            RetryableError: the spool or the disk is full, or the collector is stopping.
        """
        self._queue_up([Waiting(record, encode_record(record), handed, told)])

    def put_all(self, records: Iterable[tuple[Record, Any, Told]]) -> None:
        """Queue records that are made durable together; where there is no room for all, each is told that."""
        group = [Waiting(record, encode_record(record), handed, told) for record, handed, told in records]
        try:
            self._queue_up(group)
        except RetryableError as error:
            for waiting in group:
                waiting.told(error)

    def _queue_up(self, group: list[Waiting]) -> None:
        size = sum(len(waiting.framed) for waiting in group)
        with self._lock:
            if self._closed:
                raise RetryableError("the collector is stopping; send again in a few seconds")
            self._refuse_when_full(size)
            self._waiting_bytes += size
        self._queue.put(group)

    def read(self, spooled: Spooled) -> Record:
        """Read a durable record again.

        Raises:
            DamagedRecordError: its bytes are no longer whole, or its file is gone.
            RetryableError: it can't be read now: too many open files, a disk that fails.
        """
        try:
            with self._path(spooled.end.segment).open("rb") as file:
                file.seek(spooled.start_bytes)
                framed = file.read(spooled.end.offset_bytes - spooled.start_bytes)
        except FileNotFoundError as error:
            raise DamagedRecordError(spooled.end, b"") from error
        except OSError as error:
            raise RetryableError(f"the spool in {self.folder} can't be read ({error})") from error
        if (found := decode_record(memoryview(framed), 0)) is None:
            raise DamagedRecordError(spooled.end, framed)
        return found[0]

    def landed(self, position: Position) -> None:
        """Delete the segments that the database has taken whole."""
        with self._lock:
            self._landed = max(self._landed, position)
            done = [number for number in self._sizes if number < position.segment]
        for number in done:
            self._path(number).unlink(missing_ok=True)
            with self._lock:
                self._sizes.pop(number, None)

    @property
    def unlanded_bytes(self) -> int:
        """Bytes that are durable or about to be, and not in the tables yet."""
        with self._lock:
            return self._unlanded()

    def close(self) -> None:
        """Refuse new records, write those that wait, and close the segment."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _unlanded(self) -> int:
        after = sum(size for number, size in self._sizes.items() if number > self._landed.segment)
        current = max(0, self._sizes.get(self._landed.segment, 0) - self._landed.offset_bytes)
        return after + current + self._waiting_bytes

    def _refuse_when_full(self, more_bytes: int) -> None:
        held = self._unlanded()
        if held + more_bytes > self._limit_bytes:
            raise RetryableError(
                f"the spool holds {held} bytes that are not landed yet, of {self._limit_bytes} allowed; "
                "send again later, or raise collector.spool_limit_bytes"
            )
        if self._min_free_bytes:
            free = self._disk_free_bytes()
            if free - self._waiting_bytes - more_bytes < self._min_free_bytes:
                raise RetryableError(
                    f"the disk of {self.folder} has {free} bytes free, and {self._min_free_bytes} are kept for the "
                    "database; free some space, then send again"
                )

    def _disk_free_bytes(self) -> int:
        """Ask the disk, at most every FREE_SECONDS: between two answers no more than a fraction of the reserve fits."""
        now = time.monotonic()
        if now - self._asked_at >= FREE_SECONDS:
            try:
                disk = os.statvfs(self.folder)
            except OSError as error:
                raise RetryableError(
                    f"the spool's folder {self.folder} does not answer ({error}); mend the disk, then send again"
                ) from error
            self._free_bytes, self._asked_at = disk.f_bavail * disk.f_frsize, now
        return self._free_bytes

    def _run(self) -> None:
        try:
            self._write_groups()
        except BaseException as error:
            log.exception("spool_broke_off", extra={"folder": str(self.folder)})
            self._on_failure(error)

    def _write_groups(self) -> None:
        stopping = busy = False
        while not stopping:
            if busy and self._queue.empty():
                time.sleep(BUSY_SLEEP_SECONDS)
            began = time.monotonic()
            first = self._queue.get()
            busy = time.monotonic() - began < BUSY_SECONDS
            if first is None:
                break
            group, size = list(first), sum(len(waiting.framed) for waiting in first)
            while size < GROUP_BYTES:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stopping = True
                    break
                group += following
                size += sum(len(waiting.framed) for waiting in following)
            self._commit(group, size)
        self._close_segment()

    def _commit(self, group: list[Waiting], size: int) -> None:
        try:
            offset = self._write([waiting.framed for waiting in group])
        except OSError as error:
            log.error("spool_write_failed", extra={"folder": str(self.folder), "error": str(error)})
            self._abandon_segment()
            failure = RetryableError(
                f"the spool in {self.folder} can't be written ({error}); free or mend the disk, then send again"
            )
            with self._lock:
                self._waiting_bytes -= size
            for waiting in group:
                waiting.told(failure)
            return
        durable = []
        for waiting in group:
            start, offset = offset, offset + len(waiting.framed)
            durable.append(Spooled(waiting.record, start, Position(self._number, offset), waiting.handed))
        with self._lock:
            self._sizes[self._number] = offset
            self._waiting_bytes -= size
        self._offset = offset
        self._hand_on(durable)
        for waiting, spooled in zip(group, durable, strict=True):
            waiting.told(spooled.end)
        if self._offset > self._segment_bytes:
            self._close_segment()

    def _write(self, frames: list[bytes]) -> int:
        """Append and sync; return the offset where the frames start."""
        if self._file < 0:
            self._open_segment()
        write_all(self._file, b"".join(frames))
        self._sync(self._file)
        return self._offset

    def _open_segment(self) -> None:
        number = self._number + 1
        path = self._path(number)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        with self._lock:
            self._number = number
            self._sizes[number] = 0
        self._offset = 0  # where a failed write is cut off
        write_all(self._file, MAGIC)
        self._offset = len(MAGIC)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _close_segment(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _abandon_segment(self) -> None:
        """After a failed write: cut what may be half written, and begin a new segment with the next record."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._offset)
        except OSError as error:
            log.error("spool_truncate_failed", extra={"segment": self._number, "error": str(error)})
        self._close_segment()

    def _segments(self) -> dict[int, Path]:
        return segments_in(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / SEGMENT_NAME.format(number)


def segments_in(folder: Path) -> dict[int, Path]:
    """Return the segments of a spool by number, in order; files with other names are none."""
    found = ((SEGMENT.fullmatch(path.name), path) for path in sorted(folder.glob("segment-*.spool")))
    return {int(name[1]): path for name, path in found if name}


def write_all(file: int, content: bytes) -> None:
    """Write every byte; one call of the system may take only a part."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]
