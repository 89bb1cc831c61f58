"""Every way of ending a command runs the same clean-up."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, even where a shell has switched SIGINT off.

    The first one is the last that is heard inside: the clean-up runs to its end.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        ignore_interrupts()
        raise KeyboardInterrupt(number)

    with handled_by(interrupt):
        yield


def ignore_interrupts() -> None:
    """Let no signal break off the clean-up that follows."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def postponed_interrupts() -> Iterator[None]:
    """Let a signal that comes meanwhile wait for the end of the block."""
    came: list[int] = []
    try:
        with handled_by(lambda number, frame: came.append(number)):
            yield
    finally:
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let a function have the signals meanwhile."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """0 where a service manager asked for the end by SIGTERM, else 130."""
    return 0 if interruption.args == (signal.SIGTERM,) else 130
