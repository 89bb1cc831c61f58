"""What the collector says about itself on /metrics: one closed list, and the registry that holds the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One metric family of the collector."""

    name: str
    """Name on /metrics, without the `_total` that counters get."""
    kind: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...]
    """Label names."""
    meaning: str
    """What it says, in a sentence."""


SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

SELF_METRICS: tuple[SelfMetric, ...] = (
    SelfMetric("fleetmeter_received_bodies", "counter", ("door",), "Request bodies that came in."),
    SelfMetric("fleetmeter_received_bytes", "counter", ("door",), "Their bytes as received."),
    SelfMetric("fleetmeter_accepted_items", "counter", ("kind",), "Spans, points and rows that were acknowledged."),
    SelfMetric("fleetmeter_refused_bodies", "counter", ("door", "status"), "Bodies that were refused, by HTTP status."),
    SelfMetric(
        "fleetmeter_rejected_items", "counter", ("kind",), "Spans and points in accepted bodies that became no row."
    ),
    SelfMetric("fleetmeter_landed_rows", "counter", ("table",), "New rows in the tables."),
    SelfMetric("fleetmeter_duplicate_rows", "counter", ("table",), "Rows whose key was there already."),
    SelfMetric("fleetmeter_dead_letters", "counter", ("kind",), "Items put into the dead-letter folder."),
    SelfMetric("fleetmeter_dead_letter_bytes", "gauge", (), "Size of the dead-letter folder."),
    SelfMetric(
        "fleetmeter_dropped_attributes", "counter", ("reason",), "Attributes redacted, too many, or cut as too long."
    ),
    SelfMetric(
        "fleetmeter_decoded_bodies",
        "counter",
        ("decoder",),
        "Traces bodies by decoder: walker or reference.",
    ),
    SelfMetric("fleetmeter_replaying", "gauge", (), "1 while the records of the last run are being landed."),
    SelfMetric("fleetmeter_spool_bytes", "gauge", (), "Bytes that are durable but not landed."),
    SelfMetric(
        "fleetmeter_spool_age_seconds", "gauge", (), "Age of the oldest record that is not landed; 0: none waits."
    ),
    SelfMetric(
        "fleetmeter_damaged_spool_bytes",
        "counter",
        (),
        "Bytes of the spool that were no whole record at a start: a write that a crash broke off, or damage.",
    ),
    SelfMetric("fleetmeter_ack_seconds", "histogram", ("door",), "From the whole body to the answer."),
    SelfMetric("fleetmeter_landing_seconds", "histogram", (), "One landing transaction."),
    SelfMetric("fleetmeter_landing_retries", "counter", (), "Landings that failed and are tried again."),
    SelfMetric("fleetmeter_freshness_seconds", "gauge", (), "From receipt to queryable, of the batch landed last."),
    SelfMetric("fleetmeter_landed_after_seconds", "histogram", (), "From a body's receipt until its rows can be read."),
    SelfMetric("fleetmeter_checkpoint_seconds", "histogram", (), "One checkpoint of the database."),
    SelfMetric("fleetmeter_series_collisions", "gauge", (), "Series whose id another series has already."),
    SelfMetric("fleetmeter_upkeep_rounds", "counter", ("result",), "Rounds of upkeep (rollups, archive, retention)."),
    SelfMetric(
        "fleetmeter_clock_in_doubt",
        "gauge",
        (),
        "1 while the machine's clock is doubted: nothing is archived or expires.",
    ),
    SelfMetric("fleetmeter_upkeep_seconds", "histogram", (), "One round of upkeep."),
    SelfMetric("fleetmeter_database_bytes", "gauge", (), "Size of the database and its log, without the archive."),
    SelfMetric("fleetmeter_free_disk_bytes", "gauge", (), "Free space where the data folder is."),
    SelfMetric("fleetmeter_archived_rows", "gauge", (), "Rows that are read from the archive."),
    SelfMetric("fleetmeter_stale_hours", "gauge", (), "Hours whose rollups are computed at every query."),
    SelfMetric("fleetmeter_queries", "counter", ("status",), "SQL queries, by HTTP status."),
    SelfMetric("fleetmeter_audit_failures", "counter", (), "Lines of the audit log that could not be written."),
    SelfMetric("fleetmeter_query_seconds", "histogram", (), "One SQL query that was answered."),
    SelfMetric("fleetmeter_scrapes", "counter", ("result",), "Scrapes of configured targets: ok or failed."),
    SelfMetric(
        "fleetmeter_points_by_reference",
        "gauge",
        (),
        "Bodies of points that the slow decoder took: before the fast one was ready, or unusual ones.",
    ),
    SelfMetric("fleetmeter_scrape_seconds", "histogram", (), "One scrape of a target that answered."),
    SelfMetric("fleetmeter_scrape_targets", "gauge", (), "Targets that jobs have found."),
    SelfMetric("fleetmeter_target_lookups_failed", "counter", ("job",), "Looks for targets that failed."),
)

TYPES: dict[str, Callable[..., Any]] = {"counter": Counter, "gauge": Gauge}


class SelfMetrics:
    """The values of one collector; a name that is not on the list is an error."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}
        self._families = {metric.name: self._family(metric) for metric in SELF_METRICS}

    def child(self, name: str, **labels: str) -> Any:
        """Return one series, with `inc` or `observe`: to look it up each time costs as much as to count."""
        return self._of(name, labels)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._of(name, labels).inc(amount)

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._families[name].set(value)

    def read(self, name: str, value: Callable[[], float]) -> None:
        """Let a gauge be computed when it is asked for."""
        self._families[name].set_function(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Put a value into a histogram."""
        self._of(name, labels).observe(value)

    def exposition(self) -> bytes:
        """Return all values in the Prometheus text format."""
        return generate_latest(self._registry)

    def _of(self, name: str, labels: dict[str, str]) -> Any:
        # A look into our own dictionary costs a tenth of prometheus_client's labels().
        key = (name, *labels.items())
        child = self._children.get(key)
        if child is None:
            family = self._families[name]
            child = self._children[key] = family.labels(**labels) if labels else family
        return child

    def _family(self, metric: SelfMetric) -> Any:
        if metric.kind == "histogram":
            return Histogram(
                metric.name, metric.meaning, metric.labels, registry=self._registry, buckets=SECONDS_BUCKETS
            )
        return TYPES[metric.kind](metric.name, metric.meaning, metric.labels, registry=self._registry)
