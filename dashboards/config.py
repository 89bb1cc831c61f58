"""The dashboards section of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class DashboardsConfig(BaseModel):
    """How the boards are served and what they read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8501, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    collector_url: str = Field(default="http://127.0.0.1:8320", description="The collector that the boards ask.")
    db: Path | None = Field(default=None, description="A DuckDB file to read instead of a collector (offline).")
    alerts_url: str = Field(default="http://127.0.0.1:8330", description="The alerts API that lists active alerts.")
    title: str = Field(default="fleetmeter", min_length=1, description="The name in the browser's tab.")
    refresh_seconds: int = Field(
        default=15,
        ge=5,
        le=3600,
        description="How often a live page reads again, and the age that a shared read may have.",
    )
