"""The collector's section of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from collector.redacted_names import REDACTED
from collector.scrape_config import ScrapeJob

DATED_TABLES = (
    "gpu_samples", "logs", "metric_exemplars", "metric_histograms", "metric_points", "requests", "spans",
)  # fmt: skip
"""The large tables, whose rows belong to a day; a test holds them against the schema."""


class ScrapeTarget(BaseModel):
    """One Prometheus endpoint to read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        pattern="^https?://", description="The address of a /metrics endpoint, e.g. http://127.0.0.1:8000/metrics."
    )
    labels: dict[str, str] = Field(default={}, description="Labels laid on every series, e.g. replica, model, cluster.")


class CollectorConfig(BaseModel):
    """Where the collector listens, what it keeps and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(
        default=Path("var/fleetmeter"), description="Folder of the database, the spool and dead letters."
    )
    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    api_port: int = Field(
        default=8320, ge=0, le=65535, description="Port of SQL, health and self-metrics; 0: any free one."
    )
    otlp_http_port: int = Field(default=4318, ge=0, le=65535, description="Port of OTLP/HTTP; 0: any free one.")
    otlp_grpc_port: int = Field(default=4317, ge=0, le=65535, description="Port of OTLP/gRPC; 0: any free one.")
    tokens_file: Path | None = Field(
        default=None, description="YAML of bearer tokens' SHA-256 hashes; none: everybody who reaches the port may."
    )
    tls_cert_file: Path | None = Field(
        default=None, description="Certificate (PEM, with its chain) of all three ports; none: no TLS."
    )
    tls_key_file: Path | None = Field(default=None, description="The certificate's key (PEM, no pass phrase).")
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="Authority (PEM) that signs the certificates which clients must show; none: they need none.",
    )
    audit_limit_bytes: int = Field(
        default=256 * 2**20, gt=0, description="Size of the audit log; above it the oldest lines go."
    )
    scrape: tuple[ScrapeTarget, ...] = Field(default=(), description="Prometheus endpoints to read.")
    scrape_jobs: tuple[ScrapeJob, ...] = Field(
        default=(), description="Endpoints that are found: in lists, files, DNS and Kubernetes; see ScrapeJob."
    )
    scrape_interval_seconds: float = Field(default=15.0, gt=0, description="Time between two reads of a target.")
    scrape_timeout_seconds: float = Field(default=10.0, gt=0, description="A target that takes longer is down.")
    max_body_bytes: int = Field(
        default=64 * 2**20, gt=0, description="The largest request body, also after decompression."
    )
    redact_attributes: tuple[str, ...] = Field(
        default=REDACTED,
        description="Names of span attributes, as globs, that are dropped: prompts, completions, secrets, people.",
    )
    attribute_limit: int = Field(
        default=128, ge=0, description="Attributes of a span, beyond those with a column of their own, that are kept."
    )
    attribute_value_limit: int = Field(
        default=4096, ge=1, description="An attribute's value with more bytes is cut to so many characters."
    )
    spool_limit_bytes: int = Field(default=8 * 2**30, gt=0, description="Above this much unlanded data, answer 503.")
    min_free_bytes: int = Field(
        default=256 * 2**20, ge=0, description="Below this much free disk, answer 503 rather than fill it."
    )
    dead_letter_limit_bytes: int = Field(
        default=64 * 2**20, gt=0, description="Size of the dead-letter folder; above it the oldest files go."
    )
    landing_linger_seconds: float = Field(
        default=0.2, ge=0, description="How long rows wait for more before they are landed together."
    )
    landing_rows: int = Field(default=100_000, gt=0, description="Rows that are landed at once without waiting.")
    checkpoint_interval_seconds: float = Field(
        default=60.0, gt=0, description="Time between two checkpoints of the database."
    )
    archive_after_days: int | None = Field(
        default=None, ge=1, description="Days over for so long leave the database for Parquet files; none: all stay."
    )
    archive_url: str | None = Field(
        default=None,
        description="Where they go: a folder, s3://bucket/prefix or gs://bucket/prefix; none: archive in data_dir.",
    )
    retention_days: dict[str, int] = Field(
        default={}, description="Days to keep by table, e.g. {metric_points: 90}; a table not named is kept for good."
    )
    backup_dir: Path | None = Field(
        default=None, description="Folder in which backups of a running collector are made; none: backups in data_dir."
    )
    upkeep_interval_seconds: float = Field(
        default=60.0, gt=0, description="Time between two rounds of upkeep: rollups, archive, retention."
    )
    trace_decoder: Literal["walker", "reference"] = Field(
        default="walker",
        description="How traces are decoded: compiled at the first start, or by the protobuf library (slow).",
    )
    decode_threads: int = Field(default=2, ge=1, le=64, description="Threads that decode large bodies.")
    duckdb_threads: int = Field(default=2, ge=1, le=256, description="DuckDB's worker threads.")
    duckdb_memory_bytes: int = Field(
        default=4 * 2**30, ge=128 * 2**20, description="DuckDB's memory, shared by landing and queries."
    )
    query_timeout_seconds: float = Field(default=30.0, gt=0, description="A query that takes longer is stopped.")
    query_rows_limit: int = Field(default=2_000_000, gt=0, description="A larger answer is refused.")
    query_answer_bytes: int = Field(
        default=512 * 2**20, gt=0, description="An answer with more bytes of Arrow is refused."
    )
    query_concurrency: int = Field(
        default=4, ge=1, le=64, description="Queries that run at once; three times as many more may wait."
    )

    @field_validator("retention_days")
    @classmethod
    def _known_tables(cls, value: dict[str, int]) -> dict[str, int]:
        """Refuse tables whose days can't be told apart, and days that keep nothing."""
        if unknown := sorted(set(value) - set(DATED_TABLES)):
            raise ValueError(f"no retention for {', '.join(unknown)}; the tables are {', '.join(DATED_TABLES)}")
        if short := sorted(table for table, days in value.items() if days < 1):
            raise ValueError(f"keep at least 1 day of {', '.join(short)}")
        return value
