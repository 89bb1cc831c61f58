"""vLLM's KV-cache events (`--kv-events-config`) over ZeroMQ: block hashes and residency, never token ids.

A stored block's event carries the tokens of the prompt. They are skipped in the bytes and never become objects here.

Who binds: vLLM binds where its endpoint has a `*` (or is `ipc://`) and connects elsewhere; this side must do the
other. So the same address rule is used here: `tcp://*:5557` binds and vLLM is told `tcp://collector-host:5557`;
`tcp://engine-host:5557` connects and vLLM is told `tcp://*:5557`. Two that connect hear nothing and get no error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from engine_exporter.errors import ExporterError
from engine_exporter.identity import clean
from engine_exporter.kv_residency import (
    BATCHES,
    BATCHES_LOST,
    ENGINE,
    UNREADABLE,
    KvCache,
    KvPoint,
    cache_points,
)
from engine_exporter.kv_wire import AllBlocksCleared, BlockRemoved, BlockStored, Decoder

log = logging.getLogger(__name__)

SILENCE_SECONDS = 60.0
"""After so long without a first event it is said once that the addresses may not fit."""
ENGINES_LIMIT = 1024
"""Most publishers that are told apart; batches of further ones are counted as unreadable."""
_POLL_MILLISECONDS = 200
_DEFAULT_MEDIUM = "GPU"


class KvEvents:
    """What the events of any number of engines add up to. Thread-safe."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        """Start with empty caches.

        Args:
            now: unix time, the clock that the engines' events are stamped with.
        """
        self._now = now
        self._lock = threading.Lock()
        self._decoder = Decoder()
        self._caches: dict[tuple[str, str], KvCache] = {}
        self._next: dict[str, int] = {}
        self._batches: dict[str, int] = {}
        self._lost: dict[str, int] = {}
        self.unreadable_count = 0

    def take(self, sequence: int, payload: bytes, source: str = "", topic: str = "") -> None:
        """Take in one message; what can't be read is counted.

        Args:
            sequence: the publisher's number of the batch; a gap is counted, and what was known is forgotten.
            payload: the batch in msgpack.
            source: the address that it came to, where there are several.
            topic: the publisher's; tells those apart that send to one address and have the same rank.
        """
        with self._lock:
            try:
                at, rank, events, unreadable = self._decoder.batch(payload)
            except ValueError:
                self.unreadable_count += 1
                return
            engine = ":".join(part for part in (source, clean(topic), str(rank)) if part)
            if engine not in self._batches and len(self._batches) >= ENGINES_LIMIT:
                self.unreadable_count += 1
                return
            self.unreadable_count += unreadable
            self._number(engine, sequence, at)
            for event in events:
                self._apply(engine, at, event)

    def _number(self, engine: str, sequence: int, at: float) -> None:
        expected = self._next.get(engine)
        self._batches[engine] = self._batches.get(engine, 0) + 1
        self._lost.setdefault(engine, 0)
        if expected is not None and sequence != expected:
            if sequence > expected:
                self._lost[engine] += sequence - expected
            # Else the engine was restarted. Either way what it holds is not known.
            for (owner, _), cache in self._caches.items():
                if owner == engine:
                    cache.forget(at)
        self._next[engine] = sequence + 1

    def _apply(self, engine: str, at: float, event: BlockStored | BlockRemoved | AllBlocksCleared) -> None:
        if isinstance(event, AllBlocksCleared):
            for (owner, _), held in self._caches.items():
                if owner == engine:
                    held.clear(at)
            return
        cache = self._caches.setdefault((engine, event.medium or _DEFAULT_MEDIUM), KvCache())
        group = event.group_idx
        hashes: list[Any] = event.block_hashes if not group else [(group, one) for one in event.block_hashes]
        if isinstance(event, BlockStored):
            cache.store(at, hashes, event.block_size, event.session_id)
        else:
            cache.remove(at, hashes)

    def points(self) -> Iterator[KvPoint]:
        """Every aggregate as it is now."""
        at = self._now()
        with self._lock:
            found = [
                point
                for (engine, medium), cache in self._caches.items()
                for point in cache_points(cache, engine, medium, at)
            ]
            for engine, count in self._batches.items():
                found.append(KvPoint(BATCHES, float(count), {ENGINE: engine}))
                found.append(KvPoint(BATCHES_LOST, float(self._lost[engine]), {ENGINE: engine}))
            found.append(KvPoint(UNREADABLE, float(self.unreadable_count), {}))
        yield from found

    @property
    def heard(self) -> bool:
        """Whether any batch has come."""
        return bool(self._batches)


def binds(endpoint: str) -> bool:
    """Whether this side binds an address, by vLLM's own rule."""
    return "*" in endpoint or "::" in endpoint


class KvSubscriber:
    """A thread that listens to one endpoint."""

    def __init__(self, endpoint: str, events: KvEvents, *, topic: str = "", source: str = "") -> None:
        """Open the socket.

        Args:
            endpoint: e.g. `tcp://*:5557` (this side binds) or `tcp://engine:5557` (vLLM binds).
            events: where the events go.
            topic: only events whose topic, as in vLLM's configuration, begins so.
            source: a name for the address, where there are several.

        Raises:
            ExporterError: pyzmq is not installed, or the address is none or can't be bound.
        """
        try:
            import zmq
        except ImportError as error:
            raise ExporterError(
                "KV-cache events need pyzmq and msgspec: pip install 'fleetmeter[kv-events]'"
            ) from error
        self.endpoint, self.source = endpoint, source
        self._events = events
        self._again: type[Exception] = zmq.Again
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        self._socket.setsockopt(zmq.RCVTIMEO, _POLL_MILLISECONDS)
        self._socket.setsockopt(zmq.LINGER, 0)
        try:
            self._socket.bind(endpoint) if binds(endpoint) else self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            verb = "listen at" if binds(endpoint) else "connect to"
            raise ExporterError(f"can't {verb} {endpoint!r} for KV-cache events: {error}") from error
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleetmeter-kv-events", daemon=True)

    @property
    def address(self) -> str:
        """The address that was bound or connected to, with its port."""
        import zmq

        return str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the socket."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        began, told = time.monotonic(), False
        while not self._stopping.is_set():
            try:
                parts = self._socket.recv_multipart()
            except self._again:
                if not told and not self._events.heard and time.monotonic() - began > SILENCE_SECONDS:
                    told = True
                    log.warning(
                        "no KV-cache event has come at %s yet; exactly one side may bind: vLLM binds where its own "
                        "endpoint has a `*`, this side where %s has one", self.endpoint, self.endpoint,
                    )  # fmt: skip
                continue
            except Exception:
                if not self._stopping.is_set():
                    log.exception("listening for KV-cache events at %s ended", self.endpoint)
                return
            if len(parts) == 3 and len(parts[1]) == 8:
                topic = parts[0].decode(errors="replace")
                self._events.take(int.from_bytes(parts[1], "big"), parts[2], self.source, topic)
            else:
                self._events.unreadable_count += 1


class KvListener:
    """The subscribers of a process, and what they add up to."""

    def __init__(self, endpoints: tuple[str, ...], topic: str = "") -> None:
        """Open and start one subscriber an address.

        Args:
            endpoints: ZeroMQ addresses; where there are several, their names tell their engines apart.
            topic: only events whose topic begins so.

        Raises:
            ExporterError: pyzmq is not installed, or an address can't be used.
        """
        self.events = KvEvents()
        self._subscribers: list[KvSubscriber] = []
        try:
            for endpoint in endpoints:
                source = endpoint.partition("://")[2] if len(endpoints) > 1 else ""
                self._subscribers.append(KvSubscriber(endpoint, self.events, topic=topic, source=source))
        except ExporterError:
            self.close()
            raise
        for subscriber in self._subscribers:
            subscriber.start()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, ports included."""
        return [subscriber.address for subscriber in self._subscribers]

    def close(self) -> None:
        """Stop listening."""
        for subscriber in self._subscribers:
            subscriber.stop()
