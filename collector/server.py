"""The collector's process: builds the parts, listens, and stops them in the order in which nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from collector.api import Api, build_api
from collector.config import CollectorConfig
from collector.dead_letters import DeadLetters
from collector.errors import CollectorError, PermanentError, StoreFailedError
from collector.landing import Landing, LandingLimits
from collector.log_lines import start_logging
from collector.receivers.http_messages import App, Receive, Scope, Send, send_answer
from collector.receivers.intake import Intake
from collector.receivers.otlp_grpc import OtlpGrpc
from collector.receivers.otlp_http import OtlpHttp
from collector.self_metrics import SelfMetrics
from collector.spool import Spool
from collector.spool_records import Position
from collector.sql_door import SqlDoor
from collector.store import FileStore
from collector.tokens import Tokens, load_tokens

log = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
"""How long requests under way may take once the collector stops."""


def run_collector(config: CollectorConfig) -> int:
    """Run until SIGTERM (exit code 0) or SIGINT (130); land everything that was acknowledged first.

    Raises:
        PermanentError: the configuration can't work: a port is in use, a file is not what it should be.
        RetryableError: another process holds the database, or the database failed.
    """
    start_logging()
    return asyncio.run(Collector(config).run())


@dataclass(slots=True)
class Collector:
    """One collector."""

    config: CollectorConfig
    stop_signal: int = 0
    failure: CollectorError | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _replayed_until: Position | None = None
    _landed: Position = Position(0, 0)

    async def run(self) -> int:
        """Listen, replay, serve, drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_on, number)
        config = self.config
        tokens = load_tokens(config.tokens_file)
        with listening(config.host, config.api_port, "api_port") as api_socket:
            with listening(config.host, config.otlp_http_port, "otlp_http_port") as otlp_socket:
                with self._parts() as parts:
                    await self._serve(parts, tokens, api_socket, otlp_socket)
        if self.failure is not None:
            raise self.failure
        return 130 if self.stop_signal == signal.SIGINT else 0

    def _stop_on(self, number: int) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        self.stop_signal = number
        self._stop.set()

    @contextlib.contextmanager
    def _parts(self) -> Iterator[Parts]:
        """Open the store, replay the spool, and close both in order."""
        config = self.config
        store = FileStore(
            config.data_dir / "fleetmeter.duckdb",
            threads=config.duckdb_threads,
            memory_limit_bytes=config.duckdb_memory_bytes,
        )
        try:
            parts = build_parts(config, store, self._on_progress, self._on_failure(asyncio.get_running_loop()))
            self._landed = store.progress()
            records_count = 0
            for spooled in parts.spool.replay():
                parts.landing.put([spooled])
                self._replayed_until = spooled.end
                records_count += 1
            log.info("spool_replayed", extra={"records": records_count})
            parts.landing.start()
            parts.spool.start()
            try:
                yield parts
            finally:
                parts.spool.close()
                parts.landing.close()
                log.info("stopped", extra={"unlanded_bytes": parts.spool.unlanded_bytes})
        finally:
            store.close()

    def _on_failure(self, loop: asyncio.AbstractEventLoop) -> Any:
        def fail(error: StoreFailedError) -> None:
            log.critical("store_failed", extra={"error": str(error)})
            self.failure = error
            loop.call_soon_threadsafe(self._stop.set)

        return fail

    def _on_progress(self, position: Position) -> None:
        self._landed = position

    def _not_ready(self) -> str:
        if self._replayed_until is not None and self._landed < self._replayed_until:
            return "the spool of the last run is being landed"
        return "the collector is stopping" if self._stop.is_set() else ""

    async def _serve(self, parts: Parts, tokens: Tokens, api_socket: socket.socket, otlp_socket: socket.socket) -> None:
        config = self.config
        decoders = ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decode")
        queries = ThreadPoolExecutor(config.query_concurrency, thread_name_prefix="query")
        intake = Intake(parts.spool, decoders, parts.metrics, max_body_bytes=config.max_body_bytes)
        door = SqlDoor(
            parts.store.cursor,
            timeout_seconds=config.query_timeout_seconds,
            rows_limit=config.query_rows_limit,
            bytes_limit=config.query_answer_bytes,
        )
        api = Api(intake, door, queries, config.query_concurrency, tokens, parts.metrics, self._not_ready)
        otlp = OtlpHttp(intake, tokens, parts.metrics, not_found)
        servers = [
            http_server(OtlpHttp(intake, tokens, parts.metrics, build_api(api)), api_socket),
            http_server(otlp, otlp_socket),
        ]
        grpc_server = OtlpGrpc(intake, tokens, parts.metrics)
        try:
            grpc_port = await grpc_server.start(f"{bracketed(config.host)}:{config.otlp_grpc_port}")
        except OSError as error:
            raise in_use(config.host, config.otlp_grpc_port, "otlp_grpc_port") from error
        tasks = [asyncio.create_task(server.serve(sockets=[one])) for server, one in servers]
        await grpc_server.set_serving(True)
        log.info(
            "listening",
            extra={
                "api": address_of(api_socket),
                "otlp_http": address_of(otlp_socket),
                "otlp_grpc": f"{bracketed(config.host)}:{grpc_port}",
                "data_dir": str(config.data_dir),
            },
        )
        warn_when_open(config, tokens)
        await self._stop.wait()
        await grpc_server.set_serving(False)
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(grpc_server.stop(GRACE_SECONDS), *tasks)
        decoders.shutdown(wait=False, cancel_futures=True)
        queries.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that outlive a connection."""

    store: FileStore
    spool: Spool
    landing: Landing
    metrics: SelfMetrics


def build_parts(config: CollectorConfig, store: FileStore, on_progress: Any, on_failure: Any) -> Parts:
    """Wire spool, landing, dead letters and self-metrics."""
    metrics = SelfMetrics()
    dead_letters = DeadLetters(config.data_dir / "dead_letters", config.dead_letter_limit_bytes)
    late: dict[str, Any] = {}

    def progressed(position: Position) -> None:
        late["spool"].landed(position)
        on_progress(position)

    landing = Landing(
        store,
        lambda spooled: late["spool"].read(spooled),
        dead_letters,
        metrics,
        progressed,
        on_failure,
        LandingLimits(
            linger_seconds=config.landing_linger_seconds,
            rows_limit=config.landing_rows,
            max_body_bytes=config.max_body_bytes,
            checkpoint_seconds=config.checkpoint_interval_seconds,
        ),
    )
    try:
        spool = Spool(
            config.data_dir / "spool",
            landed=store.progress(),
            limit_bytes=config.spool_limit_bytes,
            min_free_bytes=config.min_free_bytes,
            hand_on=landing.put,
        )
    except OSError as error:
        raise PermanentError(f"the spool's folder {config.data_dir / 'spool'} can't be used: {error}") from error
    late["spool"] = spool
    metrics.read("fleetmeter_spool_bytes", lambda: float(spool.unlanded_bytes))
    metrics.read("fleetmeter_spool_age_seconds", landing.oldest_age_seconds)
    metrics.read("fleetmeter_dead_letter_bytes", lambda: float(dead_letters.size_bytes))
    return Parts(store, spool, landing, metrics)


@contextlib.contextmanager
def listening(host: str, port: int, key: str) -> Iterator[socket.socket]:
    """Bind a socket before anything else happens, so that a port in use is told at once.

    Raises:
        PermanentError: the address is in use or can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise in_use(host, port, key, error) from error
        yield listener
    finally:
        listener.close()


def in_use(host: str, port: int, key: str, error: OSError | None = None) -> PermanentError:
    """Say which port can't be had, and how to choose another."""
    flag = "--" + key.replace("_", "-")
    why = f" ({error.strerror})" if error is not None and error.strerror else ""
    return PermanentError(
        f"{host}:{port} can't be listened on{why}: is another collector running there? "
        f"Choose another port with {flag} or collector.{key}"
    )


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the collector has its own, for two servers and the drain."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def http_server(app: App, listener: socket.socket) -> tuple[Server, socket.socket]:
    """Build one HTTP server on a bound socket."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=int(GRACE_SECONDS),
        timeout_keep_alive=75,
    )
    return Server(config), listener


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what the OTLP port does not have."""
    if scope["type"] == "http":
        message = b'{"error": "this port takes OTLP: POST /v1/traces or /v1/metrics"}'
        await send_answer(send, 404, message, b"application/json")


def address_of(listener: socket.socket) -> str:
    """Return the address of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """Return a host as addresses write it."""
    return f"[{host}]" if ":" in host else host


def warn_when_open(config: CollectorConfig, tokens: Tokens) -> None:
    """Say it where anybody on the network may write and read."""
    if not len(tokens) and config.host not in ("127.0.0.1", "::1", "localhost"):
        log.warning("open_to_the_network", extra={"host": config.host, "fix": "set collector.tokens_file"})
