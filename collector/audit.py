"""The audit log: who read or administered what, one JSON object a line, in the data folder's `audit/audit.jsonl`.

It is rotated by size. What can't be written (a full disk) is counted and told in the log; the read itself goes on.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from collector.tokens import Bearer

log = logging.getLogger(__name__)

FILES = 4
"""The current file and the older ones share the limit."""
HOW = os.O_CREAT | os.O_APPEND | os.O_WRONLY
TEXT_LIMIT = 4_000
"""Longer SQL is cut; its length stands beside."""
LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\x7f\x85\u2028\u2029"}
"""What JSON leaves as it is, and some readers take for the end of a line, or a terminal for more than a letter."""


class LinesFile:
    """A file of whole lines with its older ones beside it: `.1` is the newest of these.

    Not logging's own: a line is on the way of every query, and that one looks where the file ends with four calls.

    Args:
        path: the file.
        limit_bytes: one larger than this is put aside.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = self._rotate_at_bytes = limit_bytes
        self._one_at_a_time = threading.Lock()
        self._file = os.open(path, HOW, 0o644)
        self._size_bytes = os.fstat(self._file).st_size

    def write(self, line: bytes) -> None:
        """Append a line.

        Raises:
            OSError: it can't be written; no part of it is left.
        """
        with self._one_at_a_time:
            if self._file < 0:
                raise OSError(f"{self._path} is closed")
            if self._size_bytes and self._size_bytes + len(line) > self._rotate_at_bytes:
                self._rotate()
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, self._size_bytes)
                raise OSError(f"{self._path}: no space for a line of {len(line)} bytes")
            self._size_bytes += len(line)

    def close(self) -> None:
        """Close the file; a line that comes later can't be written."""
        with self._one_at_a_time:
            os.close(self._file)
            self._file = -1

    def _rotate(self) -> None:
        """Put the file aside; where no other can be made, go on with it until it has grown by as much again."""
        fresh = Path(f"{self._path}.new")
        names = [self._path, *(Path(f"{self._path}.{number}") for number in range(1, FILES))]
        file = -1
        try:
            file = os.open(fresh, HOW | os.O_TRUNC, 0o644)
            for newer, older in reversed(list(pairwise(names))):
                if newer.exists():
                    newer.replace(older)
            fresh.replace(self._path)
        except OSError:
            log.exception("audit_not_rotated", extra={"file": str(self._path)})
            self._rotate_at_bytes = self._size_bytes + self._limit_bytes
            if file >= 0:
                os.close(file)
                with suppress(OSError):
                    fresh.unlink()
            return
        os.close(self._file)
        self._file, self._size_bytes, self._rotate_at_bytes = file, 0, self._limit_bytes


class Audit:
    """The log of one collector.

    Args:
        folder: where it is kept; made where missing.
        limit_bytes: the oldest lines go beyond it.
        on_failure: told about each line that could not be written.
        clock: the time now, UTC.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        on_failure: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._on_failure = on_failure
        self._file = LinesFile(folder / "audit.jsonl", limit_bytes // FILES)

    def write(self, bearer: Bearer, action: str, remote: str | None, **told: Any) -> None:
        """Write a line: at, who, team, remote, action, and what is told of it."""
        line = {
            "at": self._clock().isoformat(timespec="milliseconds"),
            "who": bearer.name,
            "team": bearer.team,
            "remote": remote,
            "action": action,
            **told,
        }
        text = json.dumps(line, ensure_ascii=False, default=str).translate(LINE_ENDS) + "\n"
        try:
            self._file.write(text.encode("utf-8", "backslashreplace"))
        except OSError:
            self._on_failure()
            log.exception("audit_failed")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def shortened(sql: str) -> dict[str, Any]:
    """Return SQL as a line tells it."""
    cut = {"sql_length": len(sql)} if len(sql) > TEXT_LIMIT else {}
    return {"sql": sql[:TEXT_LIMIT], **cut}
