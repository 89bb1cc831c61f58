"""Log lines: one event a line on stderr, `time level event key=value …`, for people and for machines alike."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class LineFormatter(logging.Formatter):
    """Write the event and the fields that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = [f"{key}={field_text(value)}" for key, value in vars(record).items() if key not in STANDARD]
        if record.exc_info:
            fields.append(f"traceback={json.dumps(self.formatException(record.exc_info))}")
        return " ".join((at, record.levelname.lower(), record.getMessage(), *fields))


def field_text(value: object) -> str:
    """Write a value so that the line stays one line and splits at spaces."""
    text = str(value)
    return text if text and not any(sign in text for sign in ' "\n\r=') else json.dumps(text, ensure_ascii=False)


def start_logging(level: int = logging.INFO) -> None:
    """Send the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
