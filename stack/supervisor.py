"""Starts the parts as processes of their own, restarts one that dies, and ends all of them in order.

Each part is `fleetmeter <command>`: what runs here is what runs alone. A part that ends with a usage error (exit
code 2) is not restarted: trying again can't help. Parts live in sessions of their own, so Ctrl-C reaches the
supervisor only, which then ends them last started, first ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from collector.client_tls import client_context
from stack.errors import ConfigurationError, StackError
from stack.interrupts import postponed_interrupts

BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STOP_SECONDS = 15.0
STEADY_SECONDS = 60.0
"""A part that has lived so long works: its next death is the first in a row. Unit: s."""


@dataclass(frozen=True)
class Part:
    """One process of the stack."""

    name: str
    """How it is called in messages and in its log's name."""
    arguments: tuple[str, ...]
    """What follows `fleetmeter`."""
    ready_url: str | None = None
    """Answers 200 once the part works; None where there is nothing to ask."""
    visible: bool = False
    """True where what it prints belongs on the user's terminal rather than in its log."""


class Supervisor:
    """Runs parts. Not thread-safe but for `stop`, which a signal handler may ask for by `request_stop`."""

    def __init__(
        self,
        log_folder: Path,
        tell: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log_folder = log_folder
        self.tell = tell
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.clock = clock
        self.visible_descriptor: int | None = None
        """Where visible parts print; None is stdout."""
        self.stopping = False
        self._running: dict[str, tuple[Part, subprocess.Popen[bytes]]] = {}
        self._started_at: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._restart_at: dict[str, float] = {}

    def start(self, part: Part) -> None:
        """Start a part; what it prints goes to `<log folder>/<name>.log` unless it is visible."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        # Interrupted in between, nobody would end what has just been started.
        with self.log_path(part).open("ab") as log, postponed_interrupts():
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fleetmeter", *part.arguments],
                stdin=subprocess.DEVNULL,
                stdout=self.visible_descriptor if part.visible else log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
            self._running[part.name] = (part, process)
            self._started_at[part.name] = self.clock()

    def log_path(self, part: Part) -> Path:
        """Where the part's log lies."""
        return self.log_folder / f"{part.name}.log"

    def wait_ready(self, part: Part, timeout_seconds: float = 180.0) -> None:
        """Wait until the part answers.

        Raises:
            ConfigurationError: it ended with exit code 2.
            StackError: it ended otherwise, or does not answer in time.
        """
        deadline = self.clock() + timeout_seconds
        while self.clock() < deadline:
            process = self._running[part.name][1]
            if (code := process.poll()) is not None:
                raise self.death(part, code)
            if part.ready_url is None or answers(part.ready_url):
                return
            time.sleep(0.1)
        raise StackError(
            f"{part.name} does not answer at {part.ready_url} after {timeout_seconds:.0f} s; {self.log_tail(part)}"
        )

    def tend(self) -> None:
        """Look after all parts once: restart what died, after a pause that grows with every death in a row.

        Raises:
            ConfigurationError: a part ended with exit code 2.
        """
        for part, process in list(self._running.values()):
            code = process.poll()
            if code is None:
                continue
            if code == 2:
                raise self.death(part, code)
            now = self.clock()
            if part.name not in self._restart_at:
                if now - self._started_at[part.name] >= STEADY_SECONDS:
                    self._deaths[part.name] = 0
                deaths = self._deaths[part.name] = self._deaths.get(part.name, 0) + 1
                pause = BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS)) - 1]
                self._restart_at[part.name] = now + pause
                self.tell(
                    f"{part.name} ended ({describe(code)}); starting it again in {pause:.1f} s, "
                    f"its log: {self.log_path(part)}"
                )
            if now >= self._restart_at[part.name]:
                del self._restart_at[part.name]
                self.start(part)

    def pid(self, name: str) -> int:
        """The process id of a part."""
        return self._running[name][1].pid

    def death(self, part: Part, code: int) -> StackError:
        """The error that says how a part ended."""
        kind = ConfigurationError if code == 2 else StackError
        return kind(f"{part.name} ended ({describe(code)}); {self.log_tail(part)}")

    def log_tail(self, part: Part, lines: int = 5) -> str:
        """The last lines of the part's log, for a message."""
        with suppress(OSError):
            text = self.log_path(part).read_text(errors="replace").strip().splitlines()[-lines:]
            return "it said:\n  " + "\n  ".join(text) if text else "it said nothing"
        return "it said nothing"

    def stop(self) -> None:
        """End all parts, the last started first: SIGTERM, and SIGKILL for one that has not ended in time."""
        self.stopping = True
        for part, process in reversed(list(self._running.values())):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self.tell(f"{part.name} does not end; killing it")
                    process.kill()
                    process.wait()
        self._running.clear()


def describe(code: int) -> str:
    """Say how a process ended."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def answers(url: str) -> bool:
    """Whether an address answers 2xx within a second."""
    try:
        context = client_context() if url.startswith("https://") else None
        with urlopen(url, timeout=1.0, context=context) as response:
            return bool(200 <= response.status < 300)
    except (URLError, OSError, ValueError):
        return False
