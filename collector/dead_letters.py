"""The folder of what was acknowledged and can't become rows: one JSON-lines file a spool record, bounded.

A line is `{"kind", "received_at", "reason", "item_base64"}`. The file is named by the record's place in the spool, so a
replay after a crash writes the same file again instead of a second one. A letter is durable before the landing passes
its record: a disk that can't take it makes the landing wait.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from collector.archive_places import sync
from collector.decoded import Rejected
from collector.errors import RetryableError
from collector.spool_records import Position, Record

log = logging.getLogger(__name__)


FILES_LIMIT = 10_000


class DeadLetters:
    """Dead letters of one collector.

    Args:
        folder: where they are; made when the first comes.
        limit_bytes: above it the oldest files go.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        # By name, which is the order of the spool: the oldest first.
        self._sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.jsonl"))}
        self.size_bytes = sum(self._sizes.values())
        """Size of the folder."""

    def keep(self, record: Record, end: Position, rejected: Iterable[Rejected]) -> None:
        """Write one record's rejects durably.

        Raises:
            RetryableError: the disk can't take them.
        """
        self.keep_all([(record, end, rejected)])

    def keep_all(self, letters: Iterable[tuple[Record, Position, Iterable[Rejected]]]) -> None:
        """Write the rejects of several records durably, all before the first sync: it carries the others along.

        Raises:
            RetryableError: the disk can't take them; trying again writes the same files.
        """
        written: list[Path] = []
        try:
            for record, end, rejected in letters:
                name = f"{end.segment:012d}-{end.offset_bytes:012d}-{record.kind}.jsonl"
                content = "".join(line_of(record, item) for item in rejected).encode()
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)
                written.append(self.folder / name)
                self.size_bytes += len(content) - self._sizes.pop(name, 0)
                self._sizes[name] = len(content)
            for path in written:
                sync(path)
            if written:
                sync(self.folder)
        except OSError as error:
            raise RetryableError(
                f"dead letters can't be kept in {self.folder} ({error}); free or mend the disk"
            ) from error
        self._trim()

    def _trim(self) -> None:
        """Delete the oldest files while there are too many; the newest stays however large it is."""
        while len(self._sizes) > 1 and (self.size_bytes > self._limit_bytes or len(self._sizes) > FILES_LIMIT):
            name = next(iter(self._sizes))
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
            self.size_bytes -= self._sizes.pop(name)
            log.warning("dead_letter_dropped", extra={"file": name, "limit_bytes": self._limit_bytes})


def line_of(record: Record, item: Rejected) -> str:
    """Write one reject as a line of JSON."""
    received_at = datetime.fromtimestamp(record.received_us / 1e6, UTC).isoformat()
    line = {
        "kind": record.kind,
        "received_at": received_at,
        "reason": item.reason,
        "item_base64": base64.b64encode(item.item).decode(),
    }
    return json.dumps(line, ensure_ascii=False) + "\n"
