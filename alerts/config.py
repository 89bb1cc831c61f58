"""The alerts section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AlertsConfig(BaseModel):
    """Where alerts are evaluated and sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")
