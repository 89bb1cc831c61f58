"""The collector's section of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ScrapeTarget(BaseModel):
    """One Prometheus endpoint to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="The address of a /metrics endpoint, e.g. http://127.0.0.1:8000/metrics.")
    labels: dict[str, str] = Field(default={}, description="Labels laid on every series, e.g. replica, model, cluster.")


class CollectorConfig(BaseModel):
    """Where the collector listens, what it keeps and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(default=Path("var/fleetmeter"), description="Folder of the database, the spool and dead letters.")
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    api_port: int = Field(default=8320, ge=1, le=65535, description="Port of SQL, health and self-metrics.")
    otlp_http_port: int = Field(default=4318, ge=1, le=65535, description="Port of OTLP/HTTP.")
    otlp_grpc_port: int = Field(default=4317, ge=1, le=65535, description="Port of OTLP/gRPC.")
    tokens_file: Path | None = Field(default=None, description="YAML of bearer tokens' SHA-256 hashes; none: open on loopback.")
    scrape: tuple[ScrapeTarget, ...] = Field(default=(), description="Prometheus endpoints to read.")
    scrape_interval_seconds: float = Field(default=15.0, gt=0, description="Time between two reads of a target.")
    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="The largest request body, after decompression.")
    spool_limit_bytes: int = Field(default=8 * 2**30, gt=0, description="Above this much unlanded data, answer 503.")
