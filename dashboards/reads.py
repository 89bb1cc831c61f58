"""What the pages read: analytics' functions, cached and shared by all sessions. The only module that holds a client.

A read is cached by its arguments and by what it reads from; windows end on a tick, so sessions that look at the same
thing share it. Frames stay polars here and reach Streamlit as Arrow: `to_pandas` in a server can deadlock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from alerts.read_model import Standing, standing
from analytics import cost, drift, health, latency, slo, spread
from collector.client import Client
from collector.options import open_data
from dashboards import serving
from dashboards.config import DashboardsConfig

P = ParamSpec("P")
R = TypeVar("R")

KEEP_SECONDS = 60
KEEP_LONG_SECONDS = 300


def current() -> DashboardsConfig:
    """What this process serves."""
    return serving.current().dashboards


def clock() -> datetime:
    """The time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def source() -> str:
    """What is read: a file or an address. A part of every cache key."""
    return f"db:{current().db}" if current().db else current().collector_url


@st.cache_resource(show_spinner=False, max_entries=8)  # type: ignore[untyped-decorator]
def client(of: str) -> Client:
    """Open the file, or the connection to the collector, once per process."""
    return open_data(current().db, None) if of.startswith("db:") else open_data(None, of)


@st.cache_data(ttl=KEEP_SECONDS, max_entries=256, show_spinner=False)  # type: ignore[untyped-decorator]
def _kept(of: str, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return _READS[name](client(of), *arguments, **options)


@st.cache_data(ttl=KEEP_LONG_SECONDS, max_entries=64, show_spinner=False)  # type: ignore[untyped-decorator]
def _kept_long(of: str, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return _READS[name](client(of), *arguments, **options)


_READS: dict[str, Callable[..., Any]] = {}


def shared(read: Callable[Concatenate[Client, P], R], *, long: bool = False) -> Callable[P, R]:
    """Let all sessions share a read; the client is filled in. `long` is for what moves slowly and costs much."""
    name = f"{read.__module__}.{read.__qualname__}"
    _READS[name] = read
    keep = _kept_long if long else _kept

    def ask(*arguments: P.args, **options: P.kwargs) -> R:
        answer: R = keep(source(), name, arguments, options)
        return answer

    return ask


extent = shared(latency.extent)
teams = shared(latency.teams)
latency_buckets = shared(latency.latency_buckets)
engine_buckets = shared(latency.engine_buckets)
fleet_summary = shared(latency.fleet_summary)
replica_table = shared(latency.replica_table)
requests_page = shared(latency.requests_page)
trace = shared(latency.trace)
slo_statuses = shared(slo.slo_statuses)
budget_history = shared(slo.budget_history)
cost_report = shared(cost.cost_report, long=True)
budgets_used = shared(cost.budgets_used, long=True)
drift_scan = shared(drift.drift_scan)
drift_samples = shared(drift.drift_samples)
spread_of = shared(spread.spread)
telemetry_health = shared(health.telemetry_health)


def models() -> tuple[str, ...]:
    """The models that any request was for."""
    known: latency.Extent = extent()
    return known.models


def slo_definitions() -> tuple[slo.SloDefinition, ...]:
    """The SLO definitions that this process serves."""
    return slo.load_definitions(serving.current().analytics.slos_file)


def alerts() -> Standing:
    """Every alert that is pending, firing or lately resolved, and when the rules were last evaluated.

    Raises:
        AlertsUnreachableError: no alerts API answers.
    """
    found: Standing = _kept_alerts(current().alerts_url)
    return found


@st.cache_data(ttl=5, max_entries=4, show_spinner=False)  # type: ignore[untyped-decorator]
def _kept_alerts(address: str) -> Standing:
    return standing(address)
