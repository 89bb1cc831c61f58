"""Puts the evaluator together from configuration, and runs it once or until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from alerts.api import build_api
from alerts.checking import findings
from alerts.clock import iso, utc_now
from alerts.config import AlertsConfig
from alerts.listing import alerts_table
from alerts.message import Addresses
from alerts.outbox import Status
from alerts.read_model import read_standing
from alerts.rule_files import load_rules
from alerts.rules import RuleBase
from alerts.service import Service, held_state
from alerts.serving import listen, served, stopped_by_signals
from alerts.telemetry import Exposition

if TYPE_CHECKING:
    from analytics.config import AnalyticsConfig
    from analytics.slo import SloDefinition
    from collector.client import Client

QUERY_TIMEOUT_SECONDS = 30.0
"""A rule that takes longer has failed; its alerts freeze. Unit: s."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that running needs, read and checked."""

    config: AlertsConfig
    """The configuration."""
    analytics: AnalyticsConfig
    """How analytics judge."""
    rules: tuple[RuleBase, ...]
    """The rules."""
    definitions: tuple[SloDefinition, ...]
    """The SLOs."""
    db: Path | None
    """A file to read instead of a collector."""

    def client(self) -> Client:
        """Open the data.

        Raises:
            PermanentError: there is no such file.
        """
        from collector.client import FileClient, HttpClient

        if self.db is not None:
            return FileClient(self.db)
        token = os.environ.get("FLEETMETER_TOKEN")
        return HttpClient(self.config.collector_url, token=token, timeout_seconds=QUERY_TIMEOUT_SECONDS)


def prepare(config: AlertsConfig, analytics: AnalyticsConfig, db: Path | None) -> Prepared:
    """Read rules and definitions, and say on stderr what is odd.

    Raises:
        RuleFileError: the rules do not fit.
        AnalyticsError: the SLO definitions do not fit.
    """
    from analytics.slo import load_definitions

    rules, definitions = load_rules(config.rules_file), load_definitions(analytics.slos_file)
    for problem in findings(rules, definitions):
        narrate(f"warning: {problem}")
    if not config.receivers:
        narrate("no alerts.receivers are configured: alerts are evaluated and listed, and nobody is told")
    return Prepared(config, analytics, rules, definitions, db)


def run_once(prepared: Prepared, at: datetime | None) -> int:
    """Evaluate one tick, deliver what is due, print the alerts.

    Returns:
        0; 3 where the collector did not answer or a message still waits.
    """
    from alerts.answers import alerts_document

    config = prepared.config
    client = prepared.client()
    try:
        with held_state(config.state_dir) as store:
            public = config.public_url or f"http://{config.host}:{config.port}"
            addresses = Addresses(config.dashboards_url, public)
            parts = (config, prepared.rules, client, prepared.definitions, prepared.analytics, store, addresses)
            with closing(Service(*parts)) as service:
                report = service.once(at)
            found = read_standing(alerts_document(store, utc_now()))
            waiting = sum(1 for each in store.deliveries(limit=10_000) if each.status == Status.PENDING)
    finally:
        client.close()
    sys.stdout.write(alerts_table(found, report.at) + "\n")
    firing = sum(1 for alert in found.alerts if alert.state in ("firing", "recovering"))
    narrate(f"{iso(report.at)}: {report.rules_count} rules evaluated, {firing} alerts firing, {waiting} messages wait")
    for uid, message in report.failed.items() if report.unreachable is None else ():
        narrate(f"rule {uid} failed: {message}")
    if report.unreachable is not None:
        narrate(f"error: alerts are frozen: {report.unreachable}")
    return 3 if waiting or report.unreachable is not None else 0


def run_forever(prepared: Prepared) -> int:
    """Evaluate, deliver and serve until a signal.

    Returns:
        130 after SIGINT, else 0.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = prepared.config
    client = prepared.client()
    with held_state(config.state_dir) as store, stopped_by_signals() as (stop, came):
        listener = listen(config.host, config.port)
        host, port = listener.getsockname()[:2]
        addresses = Addresses(config.dashboards_url, config.public_url or f"http://{host}:{port}")
        parts = (config, prepared.rules, client, prepared.definitions, prepared.analytics, store, addresses)
        service = Service(*parts)
        exposition = Exposition(store, config, service.tally, utc_now)
        with served(build_api(store, exposition, service.health, utc_now), listener) as address:
            narrate(
                f"alerts API on {address}; {len(prepared.rules)} rules every {config.tick_seconds} s; Ctrl-C ends it"
            )
            service.run(stop)
        service.close()
    client.close()
    return 130 if signal.SIGINT in came else 0


def narrate(text: str) -> None:
    """Say something to the person at the terminal."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
