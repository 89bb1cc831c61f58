"""What rules may look at beside their own text: the data, the definitions, and fleetmeter's own condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alerts.states import RuleState

if TYPE_CHECKING:
    from analytics.config import AnalyticsConfig
    from analytics.health import TelemetryHealth
    from analytics.slo import SloDefinition
    from collector.client import Client


@dataclass(frozen=True, slots=True)
class SelfView:
    """fleetmeter's own condition, for its internal rules."""

    unreachable: str | None = None
    """Why the collector does not answer; None where it does."""
    ingest_lag_seconds: float | None = None
    """Age of the newest telemetry; None where there is none at all. Unit: s."""
    ingest_lag_limit_seconds: float = 900.0
    """Older is stale. Unit: s."""
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    """What is remembered of every rule, by uid."""
    deliveries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How each receiver's messages stand, by name."""

    @property
    def stale(self) -> bool:
        """Whether telemetry is too old to judge by; having none at all is no different."""
        return self.ingest_lag_seconds is None or self.ingest_lag_seconds > self.ingest_lag_limit_seconds


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that one evaluation can look at."""

    client: Client
    """The data."""
    definitions: tuple[SloDefinition, ...]
    """The SLOs."""
    analytics: AnalyticsConfig
    """How drift is judged and tokens are weighed."""
    health: TelemetryHealth | None = None
    """How the telemetry stands; None where the collector does not answer."""
    self_view: SelfView = field(default_factory=SelfView)
    """fleetmeter's own condition."""
