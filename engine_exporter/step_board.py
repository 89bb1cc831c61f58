"""What the API processes of one server tell each other about the step: a few numbers each, in memory that they share.

vLLM tells each process of its own requests alone. How many sequences of the others are in a step decides what one's own
are charged, so each process writes its count and context down and reads the others'.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

SLOTS = 64
"""API processes of a server at most; vLLM's own limit is lower."""
FRESH_SECONDS = 2.0
"""What is older was written by a process whose requests have gone."""
_SLOT = struct.Struct("ddd")


def board_path(engine_index: int) -> Path:
    """The file of this server's processes: they are children of one process."""
    return Path(tempfile.gettempdir()) / f"fleetmeter-{os.getuid()}-{os.getppid()}-{engine_index}.steps"


class StepBoard:
    """One process's view: it writes its own slot and reads all others."""

    def __init__(self, path: Path, rank: int) -> None:
        """Open the board, or make it.

        Args:
            path: its file, of this user alone.
            rank: this process's slot.

        Raises:
            OSError: the file can't be made, or is not this user's.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        file = os.open(path, flags, 0o600)
        try:
            found = os.fstat(file)
            if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path} is not a file of this user")
            # Not a hole: where the file system is full, writing into one would end the process by a signal.
            os.posix_fallocate(file, 0, SLOTS * _SLOT.size)
            self._memory = mmap.mmap(file, SLOTS * _SLOT.size)
        finally:
            os.close(file)
        self._path = path
        self._rank = rank
        self._highest = SLOTS

    def limit(self, processes: int) -> None:
        """Read no more slots than there are processes."""
        self._highest = min(processes, SLOTS)

    def tell(self, at: float, decoding: int, context_tokens: float) -> None:
        """Write what this process will have in the next step.

        Args:
            at: seconds of the machine's monotonic clock.
            decoding: its decoding sequences.
            context_tokens: their context in all.
        """
        _SLOT.pack_into(self._memory, self._rank * _SLOT.size, at, decoding, context_tokens)

    def others(self, at: float) -> tuple[int, float]:
        """Sequences and context of the other processes, as they last told."""
        count, context = 0.0, 0.0
        for rank in range(self._highest):
            if rank != self._rank:
                told_at, decoding, tokens = _SLOT.unpack_from(self._memory, rank * _SLOT.size)
                if abs(at - told_at) < FRESH_SECONDS:
                    count += decoding
                    context += tokens
        return int(count), context

    def close(self) -> None:
        """Leave; whoever leaves first takes the file's name away, the others keep its memory."""
        self._memory.close()
        with suppress(OSError):
            self._path.unlink()
