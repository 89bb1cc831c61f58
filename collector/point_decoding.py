"""Which decoder takes a body of points: the compiled walkers once they are there, the reference until then.

The walkers are compiled in half a minute the first time and loaded in a second after that. Nobody waits for it: the
first body, or `warm_up`, sets it off in a thread, and both decoders give the same rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.decode_metrics import decode_metrics
from collector.decode_remote_write import decode_remote_write
from collector.decode_scrape import decode_scrape
from collector.decoded import Decoded

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Walkers:
    """The compiled decoders; each returns None for what it leaves to the reference."""

    write: Callable[[bytes, int, str], Decoded | None]
    metrics: Callable[[bytes, int], Decoded | None]
    scrape: Callable[[bytes, Mapping[str, Any]], Decoded | None]


_walkers: list[Walkers] = []
"""None or one: what is compiled is the same for the whole process."""
_by_reference = [0]
_lock = threading.Lock()
_warming: list[threading.Thread] = []


def decode_points(kind: str, body: bytes, received_us: int, meta: Mapping[str, Any]) -> Decoded:
    """Decode a body of OTLP metrics, remote write or a scrape that is no longer compressed.

    Raises:
        PermanentError: the bytes are not what their kind says.
    """
    if not _walkers:
        set_off()
    found = walked(_walkers[0], kind, body, received_us, meta) if _walkers else None
    if found is not None:
        return found
    _by_reference[0] += 1
    if kind == "scrape":
        return decode_scrape(body, meta)
    if kind == "metrics":
        return decode_metrics(body, received_us)
    return decode_remote_write(body, received_us, meta["version"])


def walked(walkers: Walkers, kind: str, body: bytes, received_us: int, meta: Mapping[str, Any]) -> Decoded | None:
    """Decode a body the fast way; None where it is unusual."""
    if kind == "scrape":
        return walkers.scrape(body, meta)
    if kind == "metrics":
        return walkers.metrics(body, received_us)
    return walkers.write(body, received_us, meta["version"])


def by_reference_count() -> int:
    """Return how many bodies the reference has decoded: while walkers are compiled, and unusual ones."""
    return _by_reference[0]


def set_off() -> threading.Thread:
    """Begin to compile or load the walkers, once."""
    with _lock:
        if not _warming:
            _warming.append(threading.Thread(target=warm_up, name="warm-up-points", daemon=True))
            _warming[0].start()
        return _warming[0]


def warm_up() -> None:
    """Compile or load the walkers, and use them from then on; without them the reference goes on."""
    if _walkers:
        return
    try:
        from collector.points.marks import Marks
        from collector.points.warming import compiled_walkers

        Marks()
        _walkers.append(compiled_walkers())
    except Exception as error:
        log.exception("point_walkers_failed", extra={"error": str(error)})
    else:
        log.info("point_walkers_ready")
