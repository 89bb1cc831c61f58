"""The analytics section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class AnalyticsConfig(BaseModel):
    """How analytics read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
