"""Rules as data: what a YAML of rules may say. Reading and explaining files is in `alerts/rule_files.py`."""

from __future__ import annotations

import string
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from alerts.config import Severity
from alerts.durations import parse_duration
from alerts.fingerprints import digest
from alerts.states import NoDataPolicy, RuleSpec

Duration = Annotated[int, BeforeValidator(parse_duration), Field(ge=0, le=90 * 86_400)]
"""Whole seconds, written as 30s, 5m, 1h30m or 3d."""

COMMON_FIELDS = frozenset({"title", "value", "threshold", "team", "model", "replica", "scope", "since"})
"""What every summary may name; each kind of rule adds its own."""

WORDING = frozenset({"title", "annotations", "description"})
"""Parts of a rule that may be edited without touching what fires."""


class Measure(StrEnum):
    """What a threshold rule may look at."""

    ERROR_RATIO = "error_ratio"
    TTFT_P95_SECONDS = "ttft_p95_seconds"
    TPOT_P95_SECONDS = "tpot_p95_seconds"
    CACHE_HIT_RATIO = "cache_hit_ratio"
    KV_CACHE_RATIO = "kv_cache_ratio"
    WAITING_REQUESTS = "waiting_requests"
    REQUESTS_PER_SECOND = "requests_per_second"
    LAST_XID = "last_xid"
    TARGET_UP = "target_up"
    INGEST_LAG_SECONDS = "ingest_lag_seconds"
    LANDING_DELAY_P95_SECONDS = "landing_delay_p95_seconds"
    UNATTRIBUTED_RATIO = "unattributed_ratio"
    ESTIMATED_RATIO = "estimated_ratio"


class Scope(StrEnum):
    """One alert per what."""

    FLEET = "fleet"
    MODEL = "model"
    REPLICA = "replica"


class Signal(StrEnum):
    """What fleetmeter's own rules look at."""

    COLLECTOR_UNREACHABLE = "collector_unreachable"
    INGEST_STALE = "ingest_stale"
    RULE_ERROR = "rule_error"
    RULE_NO_DATA = "rule_no_data"
    TOO_MANY_ALERTS = "too_many_alerts"
    DELIVERY_FAILED = "delivery_failed"
    WATCHDOG = "watchdog"


class Annotations(BaseModel):
    """What people read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str = Field(min_length=1, description="One line: what is wrong, where, how bad. {names} are filled in.")
    description: str = Field(default="", description="What it means and what it does to users.")
    runbook_url: str = Field(
        min_length=1, description="What to do: an address, or a path like /runbooks/NAME served by the alerts API."
    )
    dashboard: str = Field(
        default="/", description="Where to look: an address, or a page of the dashboards; model and window are added."
    )


class RuleBase(BaseModel):
    """What every kind of rule has."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    uid: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Stable id; changing it makes another rule.")
    kind: str = Field(description="burn_rate, threshold, drift, budget or internal.")
    title: str = Field(min_length=1, max_length=120, description="A short name for people.")
    severity: Severity = Field(description="page wakes somebody, ticket waits for working hours.")
    interval: Duration = Field(default=60, ge=1, description="How often it is evaluated.")
    for_: Duration = Field(default=0, alias="for", description="How long a breach lasts before it fires.")
    keep_firing_for: Duration = Field(default=0, description="How long it must be fine before it resolves.")
    repeat_interval: Duration | None = Field(
        default=None, ge=60, description="After how long it is told again; unset is alerts.repeat_seconds."
    )
    missing_evals: int = Field(default=2, ge=1, le=100, description="Evaluations without a row before it resolves.")
    no_data: NoDataPolicy = Field(default=NoDataPolicy.KEEP, description="keep, alert or ok: when nothing is measured.")
    limit: int = Field(default=200, ge=1, le=10_000, description="Most alerts that the rule may raise at once.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels added to each of its alerts.")
    annotations: Annotations = Field(description="What people read.")

    @model_validator(mode="after")
    def names_what_it_has(self) -> RuleBase:
        """Refuse a text that names what the rule does not have."""
        known = COMMON_FIELDS | self.fields_of_kind() | set(self.labels)
        for key in ("summary", "description"):
            for name in template_names(getattr(self.annotations, key)):
                if name not in known:
                    raise ValueError(f"annotations.{key} names {{{name}}}; known are {', '.join(sorted(known))}")
        return self

    def fields_of_kind(self) -> frozenset[str]:
        """Name what this kind of rule can fill in."""
        return frozenset()

    def version(self, context: Any = None) -> str:
        """Hash everything but the wording, with what else decides (SLO definitions); another version starts over."""
        return digest(self.model_dump(mode="json", exclude=set(WORDING)), context)[:16]

    def spec(self, context: Any = None) -> RuleSpec:
        """Return what the state machine needs."""
        return RuleSpec(
            uid=self.uid,
            version=self.version(context),
            interval_seconds=self.interval,
            for_seconds=self.for_,
            keep_firing_for_seconds=self.keep_firing_for,
            missing_evals=self.missing_evals,
            no_data=self.no_data,
            limit=self.limit,
        )


def template_names(text: str) -> Iterator[str]:
    """Name what a text wants filled in.

    Raises:
        ValueError: its braces do not match, or it asks for more than plain {names}.
    """
    for _, name, spec, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise ValueError(f"{{{name}}} is no plain name; write {{model}}, {{value}} …")
        yield name


class WindowPair(BaseModel):
    """A burn-rate condition of one's own: both windows burn at least at the factor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    long: Literal["30m", "1h", "2h", "6h", "1d", "3d"] = Field(description="Long enough to matter.")
    short: Literal["5m", "30m", "1h", "2h", "6h"] = Field(description="Short, so that it stops soon after its cause.")
    factor: float = Field(gt=0, le=1000, description="Burn rate; 1 spends the budget in exactly the SLO's window.")
    min_bad_events: int = Field(default=2, ge=1, description="Fewest bad events in the long window. Unit: events.")


class BurnRateRule(RuleBase):
    """An error budget is being spent too fast: in one of the window pairs, both windows burn above the factor."""

    kind: Literal["burn_rate"] = Field(description="burn_rate")
    slos: tuple[str, ...] = Field(default=(), description="Names of SLOs; none is every SLO of analytics.slos_file.")
    windows: tuple[Literal["fast", "slow", "steady"] | WindowPair, ...] = Field(
        min_length=1,
        description="Window pairs, by their name in analytics' burn_windows.yaml or spelled out; any may hold.",
    )

    def fields_of_kind(self) -> frozenset[str]:
        """Name what a burn-rate rule can fill in."""
        return frozenset(
            {"slo", "slo_title", "windows", "budget_left", "exhausted_in", "budget_state", "bad", "events"}
        )


class ThresholdRule(RuleBase):
    """A measure stands on the wrong side of a number."""

    kind: Literal["threshold"] = Field(description="threshold")
    measure: Measure = Field(description="What is looked at.")
    scope: Scope = Field(default=Scope.MODEL, description="One alert per fleet, model or replica.")
    window: Duration = Field(default=300, ge=10, le=86_400, description="Over how long it is measured.")
    op: Literal[">", ">=", "<", "<=", "in"] = Field(description="In breach when: value OP threshold.")
    threshold: float | None = Field(default=None, description="The number, in the measure's unit.")
    values: tuple[float, ...] = Field(default=(), description="The numbers, for op: in.")
    min_requests: int = Field(default=1, ge=1, description="Below so many requests a window can't be judged.")
    models: tuple[str, ...] = Field(default=(), description="Only these models; none is all.")

    @model_validator(mode="after")
    def has_its_number(self) -> ThresholdRule:
        """Refuse an operator without its number, and a measure that has no such scope."""
        if (self.op == "in") != bool(self.values) or (self.op == "in") == (self.threshold is not None):
            raise ValueError("op `in` takes `values`, every other op takes `threshold`")
        if self.scope not in MEASURE_SCOPES[self.measure]:
            scopes = ", ".join(MEASURE_SCOPES[self.measure])
            raise ValueError(f"{self.measure} is not measured per {self.scope}; it has scope {scopes}")
        return self

    def fields_of_kind(self) -> frozenset[str]:
        """Name what a threshold rule can fill in."""
        return frozenset({"measure", "window", "requests"})


EVERY_SCOPE = (Scope.FLEET, Scope.MODEL, Scope.REPLICA)
MEASURE_SCOPES: dict[Measure, tuple[Scope, ...]] = {
    Measure.ERROR_RATIO: EVERY_SCOPE,
    Measure.TTFT_P95_SECONDS: EVERY_SCOPE,
    Measure.TPOT_P95_SECONDS: EVERY_SCOPE,
    Measure.CACHE_HIT_RATIO: EVERY_SCOPE,
    Measure.KV_CACHE_RATIO: EVERY_SCOPE,
    Measure.WAITING_REQUESTS: EVERY_SCOPE,
    Measure.REQUESTS_PER_SECOND: EVERY_SCOPE,
    Measure.LAST_XID: (Scope.REPLICA,),
    Measure.TARGET_UP: (Scope.REPLICA,),
    Measure.INGEST_LAG_SECONDS: (Scope.FLEET,),
    Measure.LANDING_DELAY_P95_SECONDS: (Scope.FLEET,),
    Measure.UNATTRIBUTED_RATIO: (Scope.FLEET,),
    Measure.ESTIMATED_RATIO: (Scope.FLEET,),
}


class DriftRule(RuleBase):
    """A stream differs from its own past by more than it usually does."""

    kind: Literal["drift"] = Field(description="drift")
    metrics: tuple[Literal["input_tokens", "output_tokens", "cached_ratio", "ttft_seconds"], ...] = Field(
        default=(), description="Only these; none is all."
    )
    models: tuple[str, ...] = Field(default=(), description="Only these models; none is all.")

    def fields_of_kind(self) -> frozenset[str]:
        """Name what a drift rule can fill in."""
        return frozenset({"metric", "metric_title", "current_median", "reference_median", "count"})


class BudgetRule(RuleBase):
    """A team has spent a share of its month's budget, or is about to overspend it."""

    kind: Literal["budget"] = Field(description="budget")
    used_ratios: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(), description="One alert for each of these shares of the budget. Unit: 1."
    )
    forecast_ratio: float | None = Field(
        default=None, gt=0, le=100, description="Alert when the month is forecast to end above this. Unit: 1."
    )
    teams: tuple[str, ...] = Field(default=(), description="Only these teams; none is all.")

    @model_validator(mode="after")
    def looks_at_something(self) -> BudgetRule:
        """Refuse a rule that could never fire."""
        if not self.used_ratios and self.forecast_ratio is None:
            raise ValueError("a budget rule needs used_ratios or forecast_ratio")
        return self

    def fields_of_kind(self) -> frozenset[str]:
        """Name what a budget rule can fill in."""
        return frozenset({"level", "month", "used", "budget", "forecast"})


class InternalRule(RuleBase):
    """fleetmeter's own health: it can't see, can't judge or can't tell."""

    kind: Literal["internal"] = Field(description="internal")
    signal: Signal = Field(description="What is looked at.")

    def fields_of_kind(self) -> frozenset[str]:
        """Name what an internal rule can fill in."""
        return frozenset({"rule", "receiver", "message", "count"})


Rule = Annotated[
    BurnRateRule | ThresholdRule | DriftRule | BudgetRule | InternalRule,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[RuleBase]] = {
    "burn_rate": BurnRateRule,
    "threshold": ThresholdRule,
    "drift": DriftRule,
    "budget": BudgetRule,
    "internal": InternalRule,
}
