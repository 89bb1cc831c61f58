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
    """The compiled decoders."""

    write: Callable[[bytes, int, str], Decoded]
    metrics: Callable[[bytes, int], Decoded]
    scrape: Callable[[bytes, Mapping[str, Any]], Decoded]


_walkers: list[Walkers] = []
"""None or one: what is compiled is the same for the whole process."""
_lock = threading.Lock()
_warming: list[threading.Thread] = []


def decode_points(kind: str, body: bytes, received_us: int, meta: Mapping[str, Any]) -> Decoded:
    """Decode a body of OTLP metrics, remote write or a scrape that is no longer compressed.

    Raises:
        PermanentError: the bytes are not what their kind says.
    """
    if not _walkers:
        set_off()
    if kind == "scrape":
        return _walkers[0].scrape(body, meta) if _walkers else decode_scrape(body, meta)
    if kind == "metrics":
        return _walkers[0].metrics(body, received_us) if _walkers else decode_metrics(body, received_us)
    decode_write = _walkers[0].write if _walkers else decode_remote_write
    return decode_write(body, received_us, meta["version"])


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
