"""The sidecar: reads engines' and GPU exporters' /metrics and this host's GPUs, and pushes OTLP under canonical names.

For engines whose environment is not ours to touch, and for hosts that no collector can scrape. Targets are read side by
side, each with its own deadline, so that one that hangs or talks nonsense costs the others nothing. What cannot be sent
is kept for a while, oldest out first, and the loss is counted on the sidecar's own /metrics.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field

from engine_exporter import alias_tables, semconv
from engine_exporter.config import ExporterConfig
from engine_exporter.errors import ExporterError, UnreachableError
from engine_exporter.fetching import fetch_text, send_compressed
from engine_exporter.gpu_pages import LatchedXids, samples_of
from engine_exporter.gpu_sample import GpuSample
from engine_exporter.kv_residency import KvPoint
from engine_exporter.normalise import Page, normalise
from engine_exporter.otlp_metrics import MetricMessage, add_gpus, add_page
from engine_exporter.page_text import read_page
from engine_exporter.target_series import HitRatio, TargetSeries
from engine_exporter.targets import Target, Targets, instances_of, parse_targets
from engine_exporter.versions import ask_version, engines_of
from engine_exporter.waiting import Waiting

READERS_MAX = 512
"""Targets read at once: as many as there are, so that slow ones keep no place from others."""
INFO = "infer.engine.info"
HIT_RATIO = "infer.engine.prefix_cache_hit_ratio"


@dataclass(slots=True)
class Round:
    """What one round did."""

    points_count: int = 0
    failed_targets: dict[str, str] = field(default_factory=dict)
    """Target -> why it gave nothing."""
    waiting_count: int = 0
    send_error: ExporterError | None = None
    targets_problem: str | None = None
    """What is wrong with the file of targets."""


@dataclass(slots=True)
class Watched:
    """What is known of one target from earlier rounds."""

    series: TargetSeries = field(default_factory=TargetSeries)
    ratio: HitRatio = field(default_factory=HitRatio)
    xids: LatchedXids = field(default_factory=LatchedXids)
    version: str | None = None
    asked_version: bool = False
    reading: Future[str] | None = None
    """A read of an earlier round that has not come back."""


@dataclass(slots=True)
class Sidecar:
    """One sidecar. Time and doors are injected."""

    config: ExporterConfig
    sample_gpus: Callable[[], list[GpuSample]] | None = None
    kv_points: Callable[[], Iterable[KvPoint]] | None = None
    fetch: Callable[[str, float], str] = fetch_text
    send: Callable[[str, bytes, str | None], None] = send_compressed
    unix_ns: Callable[[], int] = time.time_ns
    refused_count: int = 0
    """Messages that the collector refused for good."""
    sent_count: int = 0
    unsound_count: int = 0
    """Histograms left out because their buckets did not add up."""
    targets: Targets = field(init=False)
    waiting: Waiting = field(init=False)
    up: dict[str, bool] = field(default_factory=dict)
    """Target -> whether its last read succeeded."""
    _watched: dict[str, Watched] = field(default_factory=dict)
    _instances: dict[str, str] = field(default_factory=dict)
    _readers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        """Look at the targets.

        Raises:
            ExporterError: one of them is no address.
        """
        self.targets = Targets(parse_targets(self.config.targets, "targets"), self.config.targets_file)
        self.targets.now()
        self.waiting = Waiting(self.config.waiting_limit_bytes)
        self._readers = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="fleetmeter-read")

    def close(self) -> None:
        """Let the readers go without waiting for one that hangs."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    @property
    def dropped_count(self) -> int:
        """Messages given up: refused, or too old while the collector was away."""
        return self.refused_count + self.waiting.dropped_count

    def round(self) -> Round:
        """Read everything once and send it; a target that is down is told as `up` = 0."""
        done = Round()
        at_unix_ns = self.unix_ns()
        targets = self.targets.now()
        done.targets_problem = self.targets.problem
        self._forget({target.url for target in targets})
        self._instances = instances_of(targets)
        for target, text in self._read_all(targets):
            message = MetricMessage(self._resource(), at_unix_ns)
            try:
                if isinstance(text, ExporterError):
                    raise text
                self._add_target(message, target, text, at_unix_ns)
                up = True
            except Exception as error:  # noqa: BLE001 - whatever a page does to us stays with its target
                told = isinstance(error, ExporterError)
                done.failed_targets[target.url] = (
                    str(error) if told else f"{target.url}: {type(error).__name__}: {error}"
                )
                message = MetricMessage(self._resource(), at_unix_ns)
                up = False
            self._finish(message, target, up, at_unix_ns)
            done.points_count += message.points_count
        try:
            done.points_count += self._add_own_gpus(at_unix_ns)
        except Exception as error:  # noqa: BLE001 - a driver's fault costs no engine its metrics
            done.failed_targets["this host's GPUs"] = f"the GPUs can't be read: {type(error).__name__}: {error}"
        done.points_count += self._add_kv(at_unix_ns)
        self._send_waiting(done)
        done.waiting_count = len(self.waiting)
        return done

    def _forget(self, wanted: set[str]) -> None:
        """Drop what is known of targets that are no longer wanted."""
        for url in self._watched.keys() - wanted:
            del self._watched[url]
            self.up.pop(url, None)

    def _read_all(self, targets: tuple[Target, ...]) -> list[tuple[Target, str | ExporterError]]:
        """Read all pages side by side; an error stands for a page that did not come."""
        patience = self.config.scrape_timeout_seconds
        started: list[tuple[Target, Watched]] = []
        for target in targets:
            watched = self._watched.setdefault(target.url, Watched())
            if watched.reading is None or watched.reading.done():
                watched.reading = self._readers.submit(self.fetch, target.url, patience)
            started.append((target, watched))
        deadline = time.monotonic() + patience + 1.0
        return [(target, self._take(target, watched, deadline)) for target, watched in started]

    def _take(self, target: Target, watched: Watched, deadline: float) -> str | ExporterError:
        reading = watched.reading
        if reading is None:
            return UnreachableError(f"{target.url} was not read")
        try:
            text = reading.result(max(0.0, deadline - time.monotonic()))
        except NotYet:
            return UnreachableError(
                f"{target.url} does not answer within {self.config.scrape_timeout_seconds:g} s; is the engine up?"
            )
        except ExporterError as error:
            watched.reading = None
            return error
        except Exception as error:  # noqa: BLE001 - whatever a target does to its reader stays with that target
            watched.reading = None
            return ExporterError(f"{target.url}: {type(error).__name__}: {error}")
        watched.reading = None
        return text

    def _add_target(self, message: MetricMessage, target: Target, text: str, at_unix_ns: int) -> None:
        """Add a target's page.

        Raises:
            ExporterError: it is no page, or nobody's that is known.
        """
        watched = self._watched[target.url]
        lines, types = read_page(text)
        if not watched.asked_version:
            watched.asked_version = True
            watched.version = ask_version(target.base, engines_of(lines, types), self.fetch)
        version = alias_tables.parse_version(watched.version or "")
        page = normalise(lines, types, version=version, keep_unknown=self.config.pass_unknown)
        if page.is_empty:
            raise ExporterError(
                f"{target.url} has no metric of an engine that fleetmeter knows; is it the engine's /metrics? "
                "TensorRT-LLM serves it at /prometheus/metrics"
            )
        labels = self._labels(target)
        add_page(message, page.lines, labels, types, watched.series)
        add_gpus(message, (watched.xids.take(one) for one in samples_of(page.gpu_lines)), labels)
        self._add_derived(message, page, labels, watched)

    def _add_derived(self, message: MetricMessage, page: Page, labels: dict[str, str], watched: Watched) -> None:
        """Add what follows from two reads and from the version."""
        counters = ((line.name, {**line.labels, **labels}, line.value) for line in page.lines if not line.suffix)
        for owner, ratio in watched.ratio.take(counters):
            message.number(HIT_RATIO, ratio, {**owner, **labels})
        for engine in sorted(page.tables - {table.engine for table in alias_tables.tables() if table.gpu}):
            version = {semconv.ENGINE_VERSION: watched.version} if watched.version else {}
            message.number(INFO, 1.0, {semconv.ENGINE: engine, **version, **labels})

    def _finish(self, message: MetricMessage, target: Target, up: bool, at_unix_ns: int) -> None:
        """Say whether the target is up and which of its series have ended; keep the message."""
        watched, labels = self._watched[target.url], self._labels(target)
        if not up:
            watched.ratio.forget()
            watched.asked_version = False  # what comes up again may be another version
        for key, kind in watched.series.ended(message.sent, at_unix_ns).items():
            message.end(key, kind)
        message.number("up", 1.0 if up else 0.0, labels)
        self.up[target.url] = up
        self.unsound_count += message.unsound_count
        self.waiting.put(message.serialize())

    def _add_own_gpus(self, at_unix_ns: int) -> int:
        if self.sample_gpus is None:
            return 0
        message = MetricMessage(self._resource(), at_unix_ns)
        add_gpus(message, self.sample_gpus(), self.config.labels)
        if message.points_count:
            self.waiting.put(message.serialize())
        return message.points_count

    def _add_kv(self, at_unix_ns: int) -> int:
        if self.kv_points is None:
            return 0
        message = MetricMessage(self._resource(), at_unix_ns)
        for point in self.kv_points():
            message.number(point.name, point.value, {**point.labels, **self.config.labels})
        if message.points_count:
            self.waiting.put(message.serialize())
        return message.points_count

    def _labels(self, target: Target) -> dict[str, str]:
        return {
            "instance": self._instances.get(target.url, target.instance),
            **self.config.labels,
            **dict(target.labels),
        }

    def _resource(self) -> dict[str, str]:
        config = self.config
        named = {
            semconv.HOST: socket.gethostname(),
            semconv.REPLICA: config.replica,
            semconv.DEPLOYMENT: config.deployment,
            semconv.CLUSTER: config.cluster,
            semconv.REGION: config.region,
        }
        return {name: value for name, value in named.items() if value}

    def _send_waiting(self, done: Round) -> None:
        token = self.config.otlp_token
        url = self.config.otlp_endpoint.rstrip("/") + "/v1/metrics"
        while len(self.waiting):
            try:
                self.send(url, self.waiting.first(), token.get_secret_value() if token else None)
                self.sent_count += 1
            except UnreachableError as error:
                done.send_error = error
                return
            except ExporterError as error:  # refused for good: the same again will not help
                done.send_error = error
                self.refused_count += 1
            self.waiting.take()
