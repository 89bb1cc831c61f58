"""Runs the sidecar: its rounds, its own /metrics, and what it says on stderr."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine_exporter.config import ExporterConfig
from engine_exporter.errors import ExporterError
from engine_exporter.gpus import Gpus
from engine_exporter.sidecar import Round, Sidecar

if TYPE_CHECKING:
    from engine_exporter.kv_events import KvListener

FIRST_LOOK_SECONDS = 0.2
"""Between the two looks at the GPUs that a single round takes."""


class SidecarMetrics(Collector):
    """What the sidecar says about itself."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def collect(self) -> Iterator[Metric]:
        """Yield messages sent, lost and waiting, and which targets are up."""
        sidecar = self._sidecar
        yield CounterMetricFamily(
            "infer_sidecar_messages_sent", "Messages that the collector took.", value=sidecar.sent_count
        )
        yield CounterMetricFamily(
            "infer_sidecar_messages_dropped",
            "Messages given up: refused, or too old while the collector was away.",
            value=sidecar.dropped_count,
        )
        yield GaugeMetricFamily(
            "infer_sidecar_messages_waiting", "Messages that wait for the collector.", value=len(sidecar.waiting)
        )
        yield GaugeMetricFamily(
            "infer_sidecar_waiting_bytes", "Compressed bytes that wait.", value=sidecar.waiting.bytes_count
        )
        yield CounterMetricFamily(
            "infer_sidecar_unsound_histograms",
            "Histograms left out because their buckets did not add up.",
            value=sidecar.unsound_count,
        )
        up = GaugeMetricFamily(
            "infer_sidecar_target_up", "1 where the last read of a target worked.", labels=["target"]
        )
        for target, is_up in sorted(sidecar.up.items()):
            up.add_metric([target], 1.0 if is_up else 0.0)
        yield up


def make(config: ExporterConfig, gpus: Gpus | None, kv: KvListener | None = None) -> Sidecar:
    """Build the real sidecar."""
    return Sidecar(
        config,
        sample_gpus=gpus.sample if gpus is not None else None,
        kv_points=kv.events.points if kv is not None else None,
    )


def listen(config: ExporterConfig) -> KvListener | None:
    """Listen to KV-cache events where there are addresses for it.

    Raises:
        ExporterError: pyzmq is missing, or an address can't be used.
    """
    if not config.kv_events:
        return None
    from engine_exporter.kv_events import KvListener

    return KvListener(config.kv_events, config.kv_events_topic)


def run_once(config: ExporterConfig, gpus: Gpus | None) -> int:
    """Do one round.

    Returns:
        0 where every target answered and the collector took it.

    Raises:
        ExporterError: the collector did not take it; the exit code is the error's.
    """
    sidecar = make(config, gpus)
    try:
        if gpus is not None:
            gpus.sample()  # shares of time need two looks
            time.sleep(FIRST_LOOK_SECONDS)
        done = sidecar.round()
    finally:
        sidecar.close()
    if done.targets_problem is not None:
        raise ExporterError(done.targets_problem)
    for problem in done.failed_targets.values():
        click.echo(problem, err=True)
    if done.send_error is not None:
        raise done.send_error
    click.echo(f"{done.points_count} point{'s'[: done.points_count != 1]} sent to {config.otlp_endpoint}", err=True)
    return 3 if done.failed_targets else 0


def run_until_stopped(config: ExporterConfig, gpus: Gpus | None) -> int:
    """Do a round every interval until SIGTERM or Ctrl-C.

    Raises:
        ExporterError: the port of the sidecar's own /metrics is taken.
    """
    kv = listen(config)
    sidecar, registry = make(config, gpus, kv), CollectorRegistry()
    registry.register(SidecarMetrics(sidecar))
    try:
        server, _ = start_http_server(config.port, addr=config.host, registry=registry)
    except OSError as error:
        raise ExporterError(f"port {config.port} is taken: {error.strerror}; choose another with --port") from error
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    click.echo(
        f"sidecar: {len(sidecar.targets.now())} targets, {'GPUs' if gpus else 'no GPUs'}, every "
        f"{config.scrape_interval_seconds:g} s to {config.otlp_endpoint}; own metrics on port {config.port}",
        err=True,
    )
    said: dict[str, str] = {}
    try:
        next_at = time.monotonic()
        while not stopped.is_set():
            tell(sidecar.round(), said)
            next_at = max(next_at + config.scrape_interval_seconds, time.monotonic())
            stopped.wait(next_at - time.monotonic())
    finally:
        server.shutdown()
        server.server_close()
        sidecar.close()
        if kv is not None:
            kv.close()
    return 0


def tell(done: Round, said: dict[str, str]) -> None:
    """Say what changed for the worse or the better, once."""
    now = dict(done.failed_targets)
    if done.targets_problem is not None:
        now["targets file"] = done.targets_problem
    if done.send_error is not None:
        now["collector"] = f"{done.send_error} ({done.waiting_count} messages wait)"
    for what, problem in now.items():
        if what not in said:
            click.echo(problem, err=True)
    for what in said.keys() - now.keys():
        click.echo(f"{what}: answers again", err=True)
    said.clear()
    said.update(now)
