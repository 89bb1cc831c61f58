"""OTLP over gRPC: the trace, metrics and logs services on the raw bytes, and the health service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health import aio as health_aio

from collector.bodies import decompressed
from collector.connections import HEAD_SECONDS, connections_limit
from collector.errors import CollectorError, PermanentError, RetryableError, TooLargeError
from collector.quotas import QuotaError
from collector.receivers.intake import Intake
from collector.receivers.otlp_messages import SIGNALS, Signal, encoded, success
from collector.receivers.room import Hold
from collector.self_metrics import SelfMetrics
from collector.tls import Tls
from collector.tokens import ForbiddenError, Tokens, UnknownTokenError

DOOR = "otlp_grpc"
RETRY_SECONDS = 5
SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
READERS = 16
"""Messages that come off the wire at once; each may be as large as a body may be."""
HEALTH_REQUEST_BYTES = 4096
WAITING_LIMIT = 4096
"""Calls that wait for that."""
Handler = Callable[[Any, Any], Awaitable[bytes]]


@dataclass(slots=True)
class OtlpGrpc:
    """The gRPC server.

    Args:
        intake: takes the bodies.
        tokens: who may send.
        metrics: told what came.
        tls: certificates; None: none.
        read_seconds: within so long a message is whole, once its turn has come.
    """

    intake: Intake
    tokens: Tokens
    metrics: SelfMetrics
    tls: Tls | None = None
    read_seconds: float = 10.0
    _readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))
    _waiting: int = 0
    _server: Any = None
    _health: Any = None

    async def start(self, address: str) -> int:
        """Listen; return the port.

        Raises:
            OSError: the address is in use or can't be had.
        """
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.intake.max_body_bytes),
            ("grpc.max_allowed_incoming_connections", connections_limit()),
            ("grpc.server_handshake_timeout_ms", int(HEAD_SECONDS * 1000)),
            ("grpc.per_message_decompression", 0),  # a message is kept as it came, and unpacked beside the loop
        ]
        self._server = grpc.aio.server(options=options)
        for kind, service in SERVICES.items():
            # As a stream, so that a message is taken off the wire only once we ask for it; clients see no difference.
            handler = grpc.stream_unary_rpc_method_handler(self._export(SIGNALS[kind]))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
        self._health = health_aio.HealthServicer()
        self._server.add_generic_rpc_handlers((health_handler(self._health),))
        try:
            if self.tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self.tls.for_grpc())
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        await self._set_serving(True)
        return int(port)

    async def _set_serving(self, serving: bool) -> None:
        """Tell the health service's clients."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES.values()):
            await self._health.set(service, status)

    async def stop(self, grace_seconds: float) -> None:
        """Stop taking calls; give those under way some time."""
        if self._server is not None:
            await self._set_serving(False)
            await self._server.stop(grace_seconds)

    def _export(self, signal: Signal) -> Handler:
        async def export(_messages: Any, context: Any) -> bytes:
            try:
                return await self._accept(signal, context)
            except CollectorError as error:
                await self._refuse(context, error)
                raise

        return export

    async def _accept(self, signal: Signal, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata() or ())
        bearer = self.tokens.check(metadata.get("authorization"), "write")
        with Hold(self.intake.room) as hold:
            body = await self._read(context)
            started = time.perf_counter()
            self.metrics.count("fleetmeter_received_bodies", door=DOOR)
            self.metrics.count("fleetmeter_received_bytes", len(body), door=DOOR)
            hold.take(len(body))
            bearer.spend_bytes(len(body))
            answer = await self.intake.accept(signal.kind, body, encoding=encoding_of(body), held=True)
        self.metrics.observe("fleetmeter_ack_seconds", time.perf_counter() - started, door=DOOR)
        return encoded(success(signal, answer.rejected_count, answer.message))

    async def _read(self, context: Any) -> bytes:
        """Read the message; few are read at once, for how large one is can't be told before.

        Raises:
            RetryableError: it came too slowly, or too many others wait.
            PermanentError: there is none.
        """
        if self._waiting >= WAITING_LIMIT:
            raise RetryableError("too many bodies at once; send again in a second")
        self._waiting += 1
        try:
            async with self._readers, asyncio.timeout(self.read_seconds):
                message = await context.read()
        except TimeoutError as error:
            raise RetryableError("the body came too slowly; send it again") from error
        finally:
            self._waiting -= 1
        if message is grpc.aio.EOF:
            raise PermanentError("the call has no message")
        return bytes(message)

    async def _refuse(self, context: Any, error: CollectorError) -> None:
        code = code_of(error)
        self.metrics.count("fleetmeter_refused_bodies", door=DOOR, status=code.name)
        await context.abort(code, str(error), trailing_metadata=details_of(code, error))


def encoding_of(message: bytes) -> str:
    """Tell how a message is compressed, by its first bytes: gRPC says it of each, but not to us.

    No message of OTLP begins so: 1F is no tag of protobuf, and 78 is that of a field 15, which none of them has.
    """
    if message.startswith(b"\x1f\x8b"):
        return "gzip"
    is_zlib = message.startswith(b"\x78") and int.from_bytes(message[:2]) % 31 == 0
    return "deflate" if is_zlib else "identity"


def health_handler(servicer: Any) -> grpc.GenericRpcHandler:
    """Return the health service; clients that compress everything compress what they ask of it, too."""

    def unpacked(message: bytes) -> Any:
        plain = decompressed(message, encoding_of(message), HEALTH_REQUEST_BYTES)
        return health_pb2.HealthCheckRequest.FromString(plain)

    packed = health_pb2.HealthCheckResponse.SerializeToString
    ways = {
        "Check": grpc.unary_unary_rpc_method_handler(servicer.Check, unpacked, packed),
        "Watch": grpc.unary_stream_rpc_method_handler(servicer.Watch, unpacked, packed),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE_NAME, ways)


def code_of(error: CollectorError) -> grpc.StatusCode:
    """Return the status of an error; clients try RESOURCE_EXHAUSTED with RetryInfo again, INVALID_ARGUMENT never."""
    if isinstance(error, UnknownTokenError):
        return grpc.StatusCode.UNAUTHENTICATED
    if isinstance(error, ForbiddenError):
        return grpc.StatusCode.PERMISSION_DENIED
    if isinstance(error, RetryableError | TooLargeError):  # the latter as gRPC itself says it, without RetryInfo
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.StatusCode.INVALID_ARGUMENT


def details_of(code: grpc.StatusCode, error: CollectorError) -> tuple[tuple[str, bytes], ...]:
    """Return the rich error: for a retryable one, when to come back."""
    if not isinstance(error, RetryableError):
        return ()
    detail = AnyMessage()
    seconds = error.retry_after_seconds if isinstance(error, QuotaError) else RETRY_SECONDS
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    status = Status(code=code.value[0], message=str(error), details=[detail])
    return (("grpc-status-details-bin", status.SerializeToString()),)
