"""What of the configuration tells which endpoints are scraped, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Section(BaseModel):
    """A part of the configuration that takes no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DnsTargets(Section):
    """Targets behind a name."""

    name: str = Field(min_length=1, description="The name to look up, e.g. _metrics._tcp.vllm.svc.cluster.local.")
    type: Literal["A", "AAAA", "SRV"] = Field(default="SRV", description="A, AAAA, or SRV, which tells ports too.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port of A and AAAA targets.")
    server: str | None = Field(default=None, description="host:port of a name server; none: the system's.")

    @model_validator(mode="after")
    def _port_where_needed(self) -> DnsTargets:
        if self.type != "SRV" and self.port is None:
            raise ValueError(f"{self.type} records tell no port: name one")
        return self


class KubernetesTargets(Section):
    """Pods that the Kubernetes API lists."""

    api_url: str = Field(default="https://kubernetes.default.svc", description="Address of the API.")
    token_file: Path | None = Field(
        default=SERVICE_ACCOUNT / "token", description="The service account's token, read again for every request."
    )
    ca_file: Path | None = Field(
        default=SERVICE_ACCOUNT / "ca.crt", description="Certificates that the API is checked by."
    )
    namespaces: tuple[str, ...] = Field(default=(), description="Namespaces to look in; none: all.")
    label_selector: str = Field(default="", description="As kubectl's -l, e.g. app=vllm.")
    annotation_prefix: str = Field(
        default="prometheus.io", description="Pods say scrape, port, path and scheme in annotations that begin so."
    )
    need_annotation: bool = Field(
        default=True, description='Scrape only pods with <prefix>/scrape: "true"; false: every pod selected.'
    )
    labels_from: dict[str, str] = Field(
        default={}, description="Label of the series -> label of the pod it is taken from."
    )


class ScrapeJob(Section):
    """Targets that are found and read in one way."""

    name: str = Field(min_length=1, description="The label `job` of every series.")
    targets: tuple[str, ...] = Field(default=(), description="host:port, or whole addresses.")
    files: tuple[str, ...] = Field(
        default=(),
        description="Files (or globs) in Prometheus' file_sd format, JSON or YAML; read again when they change.",
    )
    dns: tuple[DnsTargets, ...] = Field(default=(), description="Names to look up.")
    kubernetes: tuple[KubernetesTargets, ...] = Field(default=(), description="Kubernetes clusters to ask for pods.")
    refresh_seconds: float = Field(default=30.0, gt=0, description="Time between two looks for targets.")
    labels: dict[str, str] = Field(default={}, description="Labels laid on every series.")
    keep: dict[str, str] = Field(
        default={}, description="Label -> regular expression: only targets whose labels match whole are read."
    )
    scheme: Literal["http", "https"] = Field(default="http", description="Of targets that do not say.")
    path: str = Field(default="/metrics", pattern="^/", description="Of targets that do not say.")
    interval_seconds: float | None = Field(default=None, gt=0, description="None: collector.scrape_interval_seconds.")
    timeout_seconds: float | None = Field(default=None, gt=0, description="None: collector.scrape_timeout_seconds.")
    samples_limit: int = Field(default=100_000, gt=0, description="A page with more samples is refused: `up` is 0.")
    honor_labels: bool = Field(
        default=False, description="A page's own labels win over the target's; false: the target's win."
    )
    open_metrics: bool = Field(default=False, description="Prefer OpenMetrics, which carries exemplars.")
    bearer_file: Path | None = Field(default=None, description="File with a bearer token, read again when it changes.")
    basic_user: str | None = Field(default=None, description="User of basic authentication.")
    basic_password_file: Path | None = Field(default=None, description="File with that user's password.")
    ca_file: Path | None = Field(default=None, description="Certificates that https targets are checked by.")
    cert_file: Path | None = Field(default=None, description="Client certificate (mTLS).")
    key_file: Path | None = Field(default=None, description="Its key.")
    insecure_skip_verify: bool = Field(default=False, description="Do not check the targets' certificates.")

    @model_validator(mode="after")
    def _auth_is_whole(self) -> ScrapeJob:
        if (self.basic_user is None) != (self.basic_password_file is None):
            raise ValueError("basic_user and basic_password_file belong together")
        if self.basic_user is not None and self.bearer_file is not None:
            raise ValueError("give basic_user or bearer_file, not both")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        return self
