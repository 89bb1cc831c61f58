"""The dashboards section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class DashboardsConfig(BaseModel):
    """How the boards are served."""

    model_config = ConfigDict(frozen=True, extra="forbid")
