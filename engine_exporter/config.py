"""The exporter's section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExporterConfig(BaseModel):
    """Where the exporter sends what it saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    otlp_endpoint: str = Field(default="http://127.0.0.1:4318", description="The collector's OTLP/HTTP address.")
    port: int = Field(default=9400, ge=1, le=65535, description="Port of the sidecar's own /metrics.")
