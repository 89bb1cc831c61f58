"""The exporter's section of the configuration. Inside an engine it comes from the environment alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from engine_exporter.identity import Source
from engine_exporter.trusted_peers import networks

ENVIRONMENT_PREFIX = "FLEETMETER__ENGINE_EXPORTER__"
Latency = Literal["ttft", "tpot", "itl", "e2e", "queue"]
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


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
    identity_precedence: tuple[Source, ...] = Field(
        default=(Source.TRUSTED_HEADER, Source.JWT, Source.API_KEY, Source.BODY),
        description="Whose word on team, application and user is taken first; a source left out is not asked.",
    )
    team_header: str | None = Field(default=None, description="The header in which a trusted gateway names the team.")
    app_header: str | None = Field(
        default=None, description="The header in which a trusted gateway names the application."
    )
    user_header: str | None = Field(
        default=None, description="The header in which a trusted gateway names the end user's id."
    )
    mode_header: str | None = Field(
        default=None, description="The header in which a trusted gateway says live, async or batch."
    )
    trusted_peers: tuple[str, ...] = Field(
        default=(), description="Addresses and networks of gateways whose identity headers are believed."
    )
    trusted_header_secret: SecretStr | None = Field(
        default=None, description="Identity headers are believed only beside this secret, in `secret_header`."
    )
    secret_header: str = Field(
        default="x-fleetmeter-secret", description="The header that carries `trusted_header_secret`."
    )
    trust_any_peer: bool = Field(
        default=False,
        description="Believe identity headers of whoever connects: only where nobody but the gateway can.",
    )
    jwt_keys_file: Path | None = Field(
        default=None, description="JWKS, or public keys in PEM, that sign JSON Web Tokens; needs fleetmeter[jwt]."
    )
    jwt_header: str = Field(
        default="authorization", description="The header that carries the token, with or without `Bearer`."
    )
    jwt_algorithms: tuple[str, ...] = Field(
        default=("RS256", "ES256", "EdDSA"), description="Signature algorithms that count."
    )
    jwt_issuer: str | None = Field(default=None, description="The `iss` that a token must have; unset: any.")
    jwt_audience: str | None = Field(default=None, description="The `aud` that a token must have; unset: any.")
    jwt_leeway_seconds: float = Field(default=30.0, ge=0, description="How far the clocks may be apart.")
    jwt_team_claim: str = Field(default="team", description="The claim that names the team; dots walk into objects.")
    jwt_app_claim: str = Field(default="app", description="The claim that names the application.")
    jwt_user_claim: str = Field(default="sub", description="The claim that names the end user.")
    body_team: str | None = Field(
        default=None,
        description="The field of a body that names the team, `user` or `metadata.KEY`: the client's own word.",
    )
    body_app: str | None = Field(default=None, description="The same for the application.")
    plain_user_ids: bool = Field(default=False, description="Store end users' ids as they are instead of hashed.")
    hash_salt: SecretStr | None = Field(
        default=None, description="Salt for hashes of users; default: the salt of the API-key file, else no hashes."
    )
    label_teams: tuple[str, ...] = Field(
        default=(),
        description="Teams that metrics name, all others are `other`; unset: the first `label_limit` that are known "
        "by more than a client's word.",
    )
    label_limit: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Teams, and models, that metrics name before `other` stands for the rest.",
    )
    slo_thresholds_seconds: dict[Latency, tuple[Positive, ...]] = Field(
        default={"ttft": (2.0,), "tpot": (0.1,)},
        description="SLO thresholds of ttft, tpot, itl, e2e and queue: each is a bucket's edge, and a request above "
        "the largest of its kind is a breach.",
    )
    push_metrics: bool = Field(
        default=False,
        description="Push the exporter's metrics by OTLP; leave it off where something scrapes this server.",
    )
    metrics_interval_seconds: float = Field(default=15.0, gt=0, description="Time between two pushes of metrics.")
    detail_base_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of ordinary requests whose phases are sent as spans."
    )
    detail_top_cost_ratio: float = Field(
        default=0.01, ge=0, le=1, description="The most expensive share of requests, whose phases are always sent."
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
    host: str = Field(default="127.0.0.1", description="Address on which the sidecar serves its own /metrics.")
    kv_events: tuple[str, ...] = Field(
        default=(),
        description="Sidecar: ZeroMQ addresses for vLLM's KV-cache events; one with a * is listened at, others called.",
    )
    kv_events_topic: str = Field(default="", description="Sidecar: the topic of KV-cache events, as vLLM is told it.")
    kv_team_session: bool = Field(
        default=False,
        description="Tell the engine the team as X-Session-ID, so that KV-cache events name it; replaces a client's.",
    )
    port: int = Field(default=9400, ge=1, le=65535, description="Port of the sidecar's own /metrics.")

    @field_validator(
        "identity_precedence", "trusted_peers", "jwt_algorithms", "label_teams", "targets", "kv_events", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take `a,b` from the environment for a list."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_peers")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks(value)
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _are_safe(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if name not in ASYMMETRIC and name not in SYMMETRIC]:
            raise ValueError(f"{wrong[0]} is none of {', '.join(sorted(ASYMMETRIC | SYMMETRIC))}")
        if ASYMMETRIC.intersection(value) and SYMMETRIC.intersection(value):
            raise ValueError("a public key must not count as a shared secret: name HS* algorithms, or others, not both")
        return value

    @field_validator("body_team", "body_app")
    @classmethod
    def _is_in_a_body(cls, value: str | None) -> str | None:
        if value is not None and value != "user" and not value.startswith("metadata."):
            raise ValueError("it is `user` or `metadata.KEY`")
        return value

    def problems(self) -> list[str]:
        """What is configured and has no effect, one line each."""
        found = []
        headers = (self.team_header, self.app_header, self.user_header, self.mode_header)
        if any(headers) and not (self.trusted_peers or self.trusted_header_secret or self.trust_any_peer):
            found.append(
                "identity headers are named and nobody is trusted to send them; they are ignored: set "
                "trusted_peers, trusted_header_secret or trust_any_peer"
            )
        return found


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
            config = ExporterConfig.model_validate(given)
            return config, (*problems, *config.problems())
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
