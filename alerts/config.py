"""The alerts section of the configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
"""PagerDuty's Events API v2 (US service region; the EU host is events.eu.pagerduty.com)."""


class Severity(StrEnum):
    """Whom an alert is for: `page` wakes somebody, `ticket` waits for working hours."""

    PAGE = "page"
    TICKET = "ticket"


class ReceiverKind(StrEnum):
    """How a receiver is spoken to."""

    WEBHOOK = "webhook"
    ALERTMANAGER = "alertmanager"
    PAGERDUTY = "pagerduty"


class ReceiverConfig(BaseModel):
    """One place that alerts are sent to. Secrets stand in the environment or in files, never here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Its name, in lists and metrics.")
    kind: ReceiverKind = Field(
        description="webhook (signed as Standard Webhooks say), alertmanager (API v2) or pagerduty (Events v2)."
    )
    url: str = Field(
        default="", description="Where to post; of an Alertmanager its base address; PagerDuty has a default."
    )
    secret_env: str | None = Field(
        default=None,
        description="Environment variable with the webhook's signing secret(s) (whsec_…, several during a rotation, "
        "separated by spaces), or with Alertmanager's bearer token.",
    )
    secret_file: Path | None = Field(default=None, description="The same in a file.")
    routing_key_env: str | None = Field(default=None, description="Environment variable with PagerDuty's routing key.")
    routing_key_file: Path | None = Field(default=None, description="The same in a file.")
    severities: tuple[Severity, ...] = Field(
        default=(Severity.PAGE, Severity.TICKET), min_length=1, description="Which severities it gets."
    )
    watchdog: bool = Field(
        default=False, description="Whether it also gets the alert that always fires, as a sign of life."
    )
    timeout_seconds: float = Field(default=15.0, gt=0, le=120, description="Patience with one attempt. Unit: s.")
    resend_seconds: int = Field(
        default=60, ge=1, le=600, description="How often an Alertmanager is sent the whole set. Unit: s."
    )

    @field_validator("url")
    @classmethod
    def speaks_http(cls, url: str) -> str:
        """Refuse what is no http(s) address."""
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("an address begins with http:// or https://")
        return url

    @model_validator(mode="after")
    def is_complete(self) -> ReceiverConfig:
        """Refuse a receiver that could never be spoken to."""
        if not self.url and self.kind != ReceiverKind.PAGERDUTY:
            raise ValueError(f"a receiver of kind {self.kind} needs a url")
        if self.kind == ReceiverKind.WEBHOOK and not (self.secret_env or self.secret_file):
            raise ValueError("a webhook needs secret_env or secret_file: unsigned pages can be forged")
        if self.kind == ReceiverKind.PAGERDUTY and not (self.routing_key_env or self.routing_key_file):
            raise ValueError("PagerDuty needs routing_key_env or routing_key_file")
        return self


class AlertsConfig(BaseModel):
    """Where alerts are evaluated and sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules_file: Path | None = Field(default=None, description="YAML of rules; unset takes the packaged ones.")
    state_dir: Path = Field(default=Path("var/fleetmeter/alerts"), description="Where state and outbox are kept.")
    collector_url: str = Field(default="http://127.0.0.1:8320", description="The collector whose data is judged.")
    host: str = Field(default="127.0.0.1", description="The address that the alerts API listens on.")
    port: int = Field(default=8330, ge=0, le=65535, description="Its port; 0 takes a free one.")
    public_url: str | None = Field(
        default=None, description="How people reach the alerts API; unset is its own address. Used in links."
    )
    dashboards_url: str = Field(default="http://127.0.0.1:8501", description="How people reach the dashboards.")
    tick_seconds: int = Field(default=15, ge=1, le=3600, description="Every rule is looked at this often. Unit: s.")
    query_offset_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="How far evaluation stays behind the clock, for late rows. Unit: s."
    )
    ingest_lag_limit_seconds: float = Field(
        default=900.0, gt=0, description="Older than this, telemetry is stale: all alerts freeze. Unit: s."
    )
    repeat_seconds: int = Field(
        default=4 * 3600, ge=60, description="After how long a firing alert is told again. Unit: s."
    )
    heartbeat_url: str | None = Field(
        default=None, description="An outside watchdog that is called after each tick; its silence means we are down."
    )
    receivers: tuple[ReceiverConfig, ...] = Field(default=(), description="Where alerts are sent.")

    @field_validator("receivers")
    @classmethod
    def are_named_once(cls, receivers: tuple[ReceiverConfig, ...]) -> tuple[ReceiverConfig, ...]:
        """Refuse two receivers of one name."""
        names = [receiver.name for receiver in receivers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two receivers are named {', '.join(twice)}")
        return receivers

    def state_file(self) -> Path:
        """Return the path of the state file."""
        return self.state_dir / "state.sqlite"
