"""A file that is read again when it changes, by a thread and never by a request.

A file that breaks or goes while the engine runs leaves the last good reading in use, and says so in the log.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Generic, TypeVar

from engine_exporter.errors import ExporterError

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

Reading = TypeVar("Reading")


class WatchedFile(Generic[Reading]):
    """One file and its last good reading. A subclass says how it is read."""

    WHAT = "file"
    """What the file holds, for the log."""

    def __init__(self, path: Path | None, empty: Reading) -> None:
        """Read the file once.

        Args:
            path: the file; None: `empty` for ever.
            empty: stands in until there is a good reading.
        """
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._stopped = threading.Event()
        self.reading = empty
        self.problem: str | None = None
        """Why the file is not in use or is out of date; None where all is well."""
        self.refresh()

    def parse(self, text: str, origin: str) -> Reading:
        """Read the file's text.

        Raises:
            ExporterError: the text is not what it should be.
        """
        raise NotImplementedError

    def size(self) -> int:
        """How many entries are in use, for the log."""
        return 0

    def watch(self, interval_seconds: float = 2.0) -> None:
        """Look at the file from now on, in a thread of its own."""
        if self._path is None:
            return

        def look() -> None:
            while not self._stopped.wait(interval_seconds):
                self.refresh()

        threading.Thread(target=look, name="fleetmeter-keys", daemon=True).start()

    def stop(self) -> None:
        """End the watching."""
        self._stopped.set()

    def refresh(self) -> None:
        """Read the file if it changed since the last look. Never raises."""
        if self._path is None:
            return
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.reading = self.parse(self._path.read_text(encoding="utf-8"), str(self._path))
            self.problem = None
        except (OSError, UnicodeError, ExporterError) as error:
            problem = str(error)
            if problem != self.problem:
                log.error(
                    "fleetmeter: %s: %s; requests keep the last good map (%d keys)", self.WHAT, problem, self.size()
                )
            self.problem = problem
