"""The audit log: who read or administered what, one JSON object a line, in the data folder's `audit/audit.jsonl`.

It is rotated by size. What can't be written (a full disk) is counted and told in the log; the read itself goes on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from collector.tokens import Bearer

log = logging.getLogger(__name__)

FILES = 4
"""The current file and the older ones share the limit."""
TEXT_LIMIT = 4_000
"""Longer SQL is cut; its length stands beside."""


class Handler(RotatingFileHandler):
    """Rotates; tells what could not be written instead of printing a traceback."""

    def __init__(self, file: Path, limit_bytes: int, on_failure: Callable[[], None]) -> None:
        super().__init__(file, maxBytes=max(1, limit_bytes // FILES), backupCount=FILES - 1, encoding="utf-8")
        self._on_failure = on_failure

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the loss."""
        self._on_failure()
        log.exception("audit_failed")


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
        self._handler = Handler(folder / "audit.jsonl", limit_bytes, on_failure)

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
        text = json.dumps(line, ensure_ascii=False, default=str)
        self._handler.handle(logging.LogRecord("audit", logging.INFO, "", 0, text, (), None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


def shortened(sql: str) -> dict[str, Any]:
    """Return SQL as a line tells it."""
    cut = {"sql_length": len(sql)} if len(sql) > TEXT_LIMIT else {}
    return {"sql": sql[:TEXT_LIMIT], **cut}
