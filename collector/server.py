"""The collector's process: listens, serves, and stops its parts in the order in which nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

from collector.addresses import bracketed
from collector.api import Api, build_api
from collector.audit import Audit
from collector.backups import new_backup
from collector.config import CollectorConfig
from collector.connections import allow_open_files
from collector.errors import CollectorError, StoreFailedError
from collector.listeners import (
    GRACE_SECONDS,
    QuietServer,
    address_of,
    http_server,
    in_use,
    listening,
    not_found,
)
from collector.log_lines import start_logging
from collector.pipeline import Pipeline
from collector.receivers.direct_bodies import DirectBodies, DirectProtocol
from collector.receivers.http_messages import App
from collector.receivers.intake import Intake
from collector.receivers.otlp_grpc import OtlpGrpc
from collector.receivers.otlp_http import OtlpHttp
from collector.receivers.remote_write import RemoteWrite
from collector.scraper import Scraper
from collector.self_metrics import SelfMetrics
from collector.sql_door import SqlDoor
from collector.sql_route import SqlRoute
from collector.tls import Tls, tls_of
from collector.tokens import Tokens

log = logging.getLogger(__name__)

GC_THRESHOLD = (100_000, 20, 50)
"""Decoding makes many small objects that no cycle holds; looking for cycles less often saves a fifth of the CPU."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_collector(config: CollectorConfig) -> int:
    """Run until SIGTERM (exit code 0) or SIGINT (130); land everything that was acknowledged first.

    Raises:
        PermanentError: the configuration can't work: a port is in use, a file is not what it should be.
        RetryableError: another process holds the database, or the database failed.
    """
    start_logging()
    gc.set_threshold(*GC_THRESHOLD)
    allow_open_files()
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(Collector(config).run())


class Collector:
    """One collector process."""

    def __init__(self, config: CollectorConfig) -> None:
        self.config = config
        self._stop = asyncio.Event()
        self._stop_signal = 0
        self._failure: CollectorError | None = None

    async def run(self) -> int:
        """Listen, replay, serve, drain; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_on, number)
        config = self.config
        tokens, tls = Tokens(config.tokens_file), tls_of(config)
        with (
            listening(config.host, config.api_port, "api_port") as api_socket,
            listening(config.host, config.otlp_http_port, "otlp_http_port") as otlp_socket,
        ):
            pipeline = Pipeline(config, lambda error: self._fail(loop, error))
            try:
                pipeline.start()
                await self._serve(pipeline, tokens, tls, api_socket, otlp_socket)
            finally:
                pipeline.close()
        if self._failure is not None:
            raise self._failure
        return 130 if self._stop_signal == signal.SIGINT else 0

    def _stop_on(self, number: int) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        self._stop_signal = number
        self._stop.set()

    def _fail(self, loop: asyncio.AbstractEventLoop, error: StoreFailedError) -> None:
        log.critical("store_failed", extra={"error": str(error)})
        self._failure = error
        loop.call_soon_threadsafe(self._stop.set)

    async def _serve(
        self,
        pipeline: Pipeline,
        tokens: Tokens,
        tls: Tls | None,
        api_socket: socket.socket,
        otlp_socket: socket.socket,
    ) -> None:
        config, metrics = self.config, pipeline.metrics
        with (
            working_threads(config) as (points, decoders, queries),
            answering(pipeline, config) as door,
            auditing(config, metrics) as audit,
        ):
            intake = Intake(
                pipeline.spool,
                points,
                decoders,
                pipeline.traces,
                metrics,
                max_body_bytes=config.max_body_bytes,
                clock=pipeline.clock,
            )
            api = Api(
                intake,
                tokens,
                metrics,
                audit,
                lambda: self._not_ready(pipeline),
                lambda: new_backup(pipeline.store, config),
            )
            remote_write = RemoteWrite(intake, tokens, metrics, build_api(api))
            at_api = OtlpHttp(intake, tokens, metrics, remote_write)
            asked = SqlRoute(
                intake.room, door, queries, config.query_concurrency, tokens, metrics, audit, otherwise=at_api
            )
            at_otlp = OtlpHttp(intake, tokens, metrics, not_found)
            direct = partial(DirectBodies, intake=intake, tokens=tokens, metrics=metrics)
            api_server = bodies_server(asked, direct({**at_api.routes(), **remote_write.routes()}), tls)
            otlp_server = bodies_server(at_otlp, direct(at_otlp.routes()), tls)
            grpc_server = OtlpGrpc(intake, tokens, metrics, tls)
            try:
                grpc_port = await grpc_server.start(f"{bracketed(config.host)}:{config.otlp_grpc_port}")
            except OSError as error:
                raise in_use(config.host, config.otlp_grpc_port, "otlp_grpc_port", error) from error
            serving = [
                asyncio.create_task(api_server.serve(sockets=[api_socket])),
                asyncio.create_task(otlp_server.serve(sockets=[otlp_socket])),
            ]
            scraping = asyncio.create_task(Scraper(config, intake, metrics).run())
            self._say_where(api_socket, otlp_socket, grpc_port, tokens, tls)
            await self._stop.wait()
            scraping.cancel()
            api_server.should_exit = otlp_server.should_exit = True
            await asyncio.gather(grpc_server.stop(GRACE_SECONDS), *serving)
            with contextlib.suppress(asyncio.CancelledError):
                await scraping

    def _not_ready(self, pipeline: Pipeline) -> str:
        if pipeline.warming_up:
            return "the decoder of traces is being compiled or loaded; what comes is taken already"
        return "the collector is stopping" if self._stop.is_set() else ""

    def _say_where(
        self,
        api_socket: socket.socket,
        otlp_socket: socket.socket,
        grpc_port: int,
        tokens: Tokens,
        tls: Tls | None,
    ) -> None:
        config = self.config
        addresses = {
            "api": address_of(api_socket, tls),
            "otlp_http": address_of(otlp_socket, tls),
            "otlp_grpc": f"{bracketed(config.host)}:{grpc_port}",
        }
        log.info("listening", extra={**addresses, "data_dir": str(config.data_dir)})
        if not len(tokens) and not config.tls_client_ca_file and config.host not in LOOPBACK:
            log.warning("open_to_the_network", extra={"host": config.host, "fix": "set collector.tokens_file"})
        if len(tokens) and tls is None and config.host not in LOOPBACK:
            log.warning("tokens_in_the_clear", extra={"host": config.host, "fix": "set collector.tls_cert_file"})


def bodies_server(app: App, direct: DirectBodies, tls: Tls | None) -> QuietServer:
    """Build an HTTP server whose connections take plain POSTs of telemetry themselves."""
    return http_server(app, tls, protocol=partial(DirectProtocol, direct))


def event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop, or asyncio's where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())


@contextlib.contextmanager
def working_threads(config: CollectorConfig) -> Iterator[tuple[ThreadPoolExecutor, ...]]:
    """Give the thread that decodes bodies, those for large ones, and those that run queries."""
    with (
        ThreadPoolExecutor(1, thread_name_prefix="points") as points,
        ThreadPoolExecutor(config.decode_threads, thread_name_prefix="decode") as decoders,
        ThreadPoolExecutor(config.query_concurrency, thread_name_prefix="query") as queries,
    ):
        yield points, decoders, queries


@contextlib.contextmanager
def auditing(config: CollectorConfig, metrics: SelfMetrics) -> Iterator[Audit]:
    """Give the audit log."""
    failed = partial(metrics.count, "fleetmeter_audit_failures")
    audit = Audit(config.data_dir / "audit", config.audit_limit_bytes, failed)
    try:
        yield audit
    finally:
        audit.close()


@contextlib.contextmanager
def answering(pipeline: Pipeline, config: CollectorConfig) -> Iterator[SqlDoor]:
    """Give the door for SQL, and stop what still runs behind it at the end."""
    door = SqlDoor(
        pipeline.store.cursor,
        timeout_seconds=config.query_timeout_seconds,
        rows_limit=config.query_rows_limit,
        bytes_limit=config.query_answer_bytes,
    )
    try:
        yield door
    finally:
        door.close()
