"""The exporter's section of the configuration. Inside an engine it comes from the environment alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

ENVIRONMENT_PREFIX = "FLEETMETER__ENGINE_EXPORTER__"


class ExporterConfig(BaseModel):
    """Where the exporter sends what it saw, whom it charges and what it calls this server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="False leaves the middleware and the plugin in place but idle.")
    otlp_endpoint: str = Field(default="http://127.0.0.1:4318", description="The collector's OTLP/HTTP address.")
    otlp_token: SecretStr | None = Field(default=None, description="Bearer token for the collector.")
    api_keys_file: Path | None = Field(
        default=None,
        description="YAML or JSON of salted API-key hashes and their teams; FLEETMETER_API_KEYS also names it.",
    )
    team_header: str | None = Field(
        default=None, description="A header that a trusted gateway sets to the team; wins over the API key."
    )
    app_header: str | None = Field(default=None, description="A header that a trusted gateway sets to the application.")
    user_header: str | None = Field(
        default=None, description="A header that a trusted gateway sets to the end user's id."
    )
    mode_header: str | None = Field(default=None, description="A header that says live, async or batch.")
    hash_salt: SecretStr | None = Field(
        default=None, description="Salt for hashes of users; default: the salt of the API-key file, else no hashes."
    )
    deployment: str | None = Field(default=None, description="The deployment that this server belongs to.")
    replica: str | None = Field(default=None, description="This server's name; default: host name and port.")
    cluster: str | None = Field(default=None, description="The cluster.")
    region: str | None = Field(default=None, description="The cloud region or site.")
    gpu_type: str | None = Field(default=None, description="The GPU model; default: what the engine says.")
    gpu_count: int | None = Field(default=None, ge=0, description="GPUs of this server; default: what the engine says.")
    queue_limit_spans: int = Field(default=8192, ge=1, description="Spans kept in memory while the collector is away.")
    export_interval_seconds: float = Field(default=1.0, gt=0, description="Time between two sends.")
    export_patience_seconds: float = Field(
        default=60.0, ge=0, description="How long one batch is tried again before it is dropped and counted."
    )
    targets: tuple[str, ...] = Field(
        default=(), description="Sidecar: engines' /metrics addresses, e.g. http://127.0.0.1:8000/metrics."
    )
    targets_file: Path | None = Field(
        default=None,
        description="Sidecar: YAML list of further targets, read again when it changes: addresses, or {url, labels}.",
    )
    labels: dict[str, str] = Field(
        default={}, description="Sidecar: labels laid on every point, e.g. replica, cluster."
    )
    gpu: bool = Field(default=True, description="Sidecar: read the GPUs of this host by NVML, where there are any.")
    scrape_interval_seconds: float = Field(default=15.0, gt=0, description="Sidecar: time between two reads.")
    scrape_timeout_seconds: float = Field(default=10.0, gt=0, description="Sidecar: how long one target may take.")
    pass_unknown: bool = Field(
        default=True, description="Sidecar: send metrics without a canonical name under their own; false drops them."
    )
    waiting_limit_bytes: int = Field(
        default=64 * 2**20, ge=2**20, description="Sidecar: compressed telemetry kept while the collector is away."
    )
    port: int = Field(default=9400, ge=1, le=65535, description="Port of the sidecar's own /metrics.")


def from_environment(environ: Mapping[str, str] | None = None) -> tuple[ExporterConfig, tuple[str, ...]]:
    """Read the section from the environment, leaving out what does not fit.

    An engine must not fail to start for a typing error in its telemetry, so a wrong value falls back to its
    default; the caller logs the problems.

    Args:
        environ: variables; default: this process's.

    Returns:
        The configuration, and one line for every key that was left out.
    """
    environ = os.environ if environ is None else environ
    given: dict[str, Any] = {}
    if keys := environ.get("FLEETMETER_API_KEYS"):
        given["api_keys_file"] = keys
    for name, text in environ.items():
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            given[name[len(ENVIRONMENT_PREFIX) :].lower()] = _value(text)
    problems: list[str] = []
    while True:
        try:
            return ExporterConfig.model_validate(given), tuple(problems)
        except ValidationError as error:
            for problem in error.errors():
                key = str(problem["loc"][0])
                given.pop(key, None)
                problems.append(f"{ENVIRONMENT_PREFIX}{key.upper()}: {problem['msg']}; the default is used")


def _value(text: str) -> Any:
    """Take JSON objects and arrays as such; everything else is a string that pydantic converts."""
    if text[:1] in "[{" and text:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
