"""What this process serves: set once before the first page, read by every page."""

from __future__ import annotations

from dataclasses import dataclass, field

from analytics.config import AnalyticsConfig
from dashboards.config import DashboardsConfig


@dataclass(frozen=True)
class Serving:
    """The configuration of a running server."""

    dashboards: DashboardsConfig = field(default_factory=DashboardsConfig)
    analytics: AnalyticsConfig = field(default_factory=AnalyticsConfig)
    """The same SLO definitions, drift rules and token weights as the command line's, so that numbers agree."""


_serving = Serving()


def serve_with(serving: Serving) -> None:
    """Set what this process serves."""
    global _serving
    _serving = serving


def current() -> Serving:
    """What this process serves; the defaults where `streamlit run` was used directly."""
    return _serving
