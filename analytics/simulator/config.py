"""What a user writes to describe a fleet: models, teams' streams of requests, incidents and prices."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LengthConfig(_Section):
    """A lognormal count of tokens."""

    median: float = Field(gt=0, description="Median. Unit: tokens.")
    sigma: float = Field(default=0.6, ge=0, le=3, description="Standard deviation of the logarithm.")
    most: int = Field(default=8192, gt=0, description="Values above it are cut to it. Unit: tokens.")


class CycleConfig(_Section):
    """How a rate goes through the day and the week (UTC)."""

    day_amplitude: float = Field(default=0.6, ge=0, le=1, description="0 is flat; 1 falls to zero at night.")
    peak_hour: float = Field(
        default=14.0, ge=0, lt=24, description="Hour of the day with the highest rate. Unit: h, UTC."
    )
    weekend_ratio: float = Field(default=0.5, ge=0, description="Rate on Saturday and Sunday over that of a weekday.")


class TraceConfig(_Section):
    """A public trace that gives times and lengths instead of the parametric ones."""

    format: Literal["azure", "mooncake", "servegen"] = Field(description="The format of the file.")
    path: str = Field(
        description="The file; for servegen the folder with client_rates.parquet and client_token_pdfs.parquet."
    )
    clients: tuple[str, ...] = Field(
        default=(), description="servegen: category/model/client_id to take; empty is the busiest."
    )
    speed: float = Field(default=1.0, gt=0, description="2 plays the trace twice as fast.")
    repeat: bool = Field(default=False, description="Start the trace again when it ends.")


class StreamConfig(_Section):
    """The requests of one application of one team to one model."""

    team: str | None = Field(description="The team charged; null sends requests that nobody is known for.")
    app: str = Field(description="The application.")
    model: str = Field(description="The model asked for: one of `models`.")
    requests_per_day: float = Field(
        default=0.0, ge=0, description="Mean on a weekday, all turns counted. Unit: requests/day."
    )
    arrival: Literal["poisson", "gamma", "weibull"] = Field(default="poisson", description="Gaps between arrivals.")
    cv: float = Field(default=1.0, gt=0, le=10, description="Coefficient of variation of the gaps (gamma, weibull).")
    cycle: CycleConfig = Field(default_factory=CycleConfig, description="Daily and weekly cycle.")
    shared_prefix_tokens: int = Field(
        default=0, ge=0, description="System prompt that all requests begin with. Unit: tokens."
    )
    prompt: LengthConfig = Field(default_factory=lambda: LengthConfig(median=400), description="New tokens of a turn.")
    output: LengthConfig = Field(
        default_factory=lambda: LengthConfig(median=200), description="Generated tokens of a turn."
    )
    turns_mean: float = Field(default=1.0, ge=1, description="Mean turns of a conversation (geometric).")
    think_seconds: float = Field(default=45.0, gt=0, description="Median pause between turns (lognormal). Unit: s.")
    stream: bool = Field(default=True, description="Whether answers are streamed.")
    mode: Literal["live", "async", "batch"] = Field(default="live", description="How the work is asked for.")
    endpoint: str = Field(default="/v1/chat/completions", description="The route.")
    users: int = Field(default=200, ge=1, description="End users behind the application.")
    disconnect_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Clients that hang up in the middle of the answer."
    )
    patience_seconds: float = Field(default=120.0, gt=0, description="How long a client waits in the queue. Unit: s.")
    error_ratio: float = Field(default=0.001, ge=0, le=1, description="Requests that fail in the engine.")
    rejected_ratio: float = Field(
        default=0.0005, ge=0, le=1, description="Requests refused before the engine (HTTP 400)."
    )
    trace: TraceConfig | None = Field(default=None, description="Times and lengths from a public trace.")


class ModelConfig(_Section):
    """One deployment: replicas of an engine that serve one model."""

    model: str = Field(description="Name of the model.")
    deployment: str = Field(description="Name of the deployment.")
    replicas: int = Field(default=1, ge=1, le=256, description="Servers.")
    profile: str = Field(description="Engine profile: a name in analytics/simulator/data/profiles.yaml.")
    engine_version: str = Field(default="0.31.0", description="Version of vLLM.")
    gpu_type: str | None = Field(default=None, description="GPU model; default is the profile's.")
    gpu_count: int | None = Field(default=None, ge=1, description="GPUs of a replica; default is the profile's.")
    region: str = Field(default="us-east-1", description="Region.")
    cluster: str = Field(default="prod-1", description="Cluster.")
    provider: str | None = Field(default=None, description="Who bills.")
    purchase_type: str | None = Field(
        default="on_demand", description="on_demand, reserved, spot, committed or amortised."
    )
    routing: Literal["round_robin", "least_loaded", "prefix_affine"] = Field(
        default="least_loaded", description="The router's policy."
    )
    affinity_slack: int = Field(
        default=4, ge=0, description="prefix_affine: requests more than on the least loaded that are borne."
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, le=4096, description="Sequences in a batch; default is the profile's."
    )
    max_num_batched_tokens: int | None = Field(
        default=None, ge=1, description="Tokens of a step; default is the profile's."
    )
    kv_blocks: int | None = Field(default=None, ge=1, description="Blocks of the KV cache; default is the profile's.")
    max_queue: int = Field(default=2000, ge=1, description="Waiting requests above which a server answers 503.")
    overhead_seconds: float = Field(
        default=0.012, ge=0, description="HTTP and tokenisation before the engine. Unit: s."
    )
    max_model_len: int = Field(default=32768, ge=16, description="Prompt and output together. Unit: tokens.")


class _Incident(_Section):
    name: str = Field(description="Id of the incident.")
    hours_before_end: float = Field(ge=0, description="Start, counted back from the end of the simulation. Unit: h.")


class LatencyRegression(_Incident):
    """A new engine version rolls out, and its steps take longer."""

    kind: Literal["latency_regression"] = Field(description="The kind of incident.")
    deployment: str = Field(description="The deployment rolled out.")
    engine_version: str = Field(description="The new version.")
    step_factor: float = Field(gt=0, description="Step time after over before.")
    rollout_seconds: float = Field(default=120.0, ge=0, description="Pause between two replicas. Unit: s.")
    duration_hours: float | None = Field(
        default=None, gt=0, description="Until it is rolled back; null is still going on. Unit: h."
    )


class CacheCollapse(_Incident):
    """A prompt template changes so that no two prompts share a prefix any more (a time stamp at its head)."""

    kind: Literal["cache_collapse"] = Field(description="The kind of incident.")
    model: str | None = Field(default=None, description="The model concerned; null is all.")
    team: str | None = Field(default=None, description="The team concerned; null is all.")
    app: str | None = Field(default=None, description="The application concerned; null is all.")
    duration_hours: float = Field(gt=0, description="How long it lasts. Unit: h.")


class GpuFault(_Incident):
    """A GPU throttles, then falls off the bus: its replica is slow, then dead until it is replaced."""

    kind: Literal["gpu_fault"] = Field(description="The kind of incident.")
    deployment: str = Field(description="The deployment.")
    replica_index: int = Field(default=0, ge=0, description="Which of its replicas.")
    gpu_index: int = Field(default=0, ge=0, description="Which of the replica's GPUs.")
    step_factor: float = Field(default=2.5, ge=1, description="Step time while it throttles.")
    slow_minutes: float = Field(default=15.0, ge=0, description="How long it throttles before it fails. Unit: min.")
    warning_xid: int = Field(default=63, description="XID at the start (63: a row remapping was recorded).")
    fatal_xid: int = Field(default=79, description="XID at the failure (79: GPU has fallen off the bus).")
    detect_seconds: float = Field(default=20.0, ge=0, description="Until the router stops sending to it. Unit: s.")
    down_hours: float = Field(default=2.0, gt=0, description="Until the replacement boots. Unit: h.")
    cold_start_seconds: float = Field(default=240.0, ge=0, description="Loading of weights before it serves. Unit: s.")


class CostSpike(_Incident):
    """One team sends more, and longer answers."""

    kind: Literal["cost_spike"] = Field(description="The kind of incident.")
    team: str = Field(description="The team.")
    app: str | None = Field(default=None, description="The application; null is all of the team's.")
    rate_factor: float = Field(default=2.0, gt=0, description="Requests after over before.")
    output_factor: float = Field(default=1.0, gt=0, description="Output tokens after over before.")
    duration_hours: float | None = Field(
        default=None, gt=0, description="How long it lasts; null is still going on. Unit: h."
    )


Incident = Annotated[LatencyRegression | CacheCollapse | GpuFault | CostSpike, Field(discriminator="kind")]


class TelemetryConfig(_Section):
    """How often GPUs and engines are sampled."""

    interval_seconds: int = Field(default=60, ge=1, le=3600, description="Between two samples. Unit: s.")
    history_interval_seconds: int | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="Coarser interval for all but the last hours; a multiple of the other. Unit: s.",
    )
    recent_hours: float = Field(
        default=26.0, ge=0, description="How long before the end the finer interval begins. Unit: h."
    )


class RateConfig(_Section):
    """One dated price."""

    gpu_type: str = Field(description="The GPU model.")
    usd_per_gpu_hour: str = Field(
        pattern=r"^\d+(\.\d{1,9})?$", description="Price as a decimal text. Unit: USD/GPU-hour."
    )
    valid_from: date = Field(description="First day of the price (UTC).")
    valid_to: date | None = Field(
        default=None, description="First day on which it no longer holds (UTC); null is open."
    )
    provider: str | None = Field(default=None, description="Who bills; null fits any.")
    region: str | None = Field(default=None, description="Region; null fits any.")
    purchase_type: str | None = Field(default=None, description="Purchase type; null fits any.")
    origin: str = Field(description="Where the price comes from, with a date.")


class BudgetConfig(_Section):
    """The monthly budget of a team."""

    team: str = Field(description="The team.")
    usd_per_month: str = Field(pattern=r"^\d+(\.\d{1,9})?$", description="Budget as a decimal text. Unit: USD/month.")


class MomentOfWeek(_Section):
    """A weekday and an hour."""

    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] = Field(description="The weekday.")
    hour: float = Field(ge=0, lt=24, description="The hour of that day.")

    def seconds(self) -> float:
        """Seconds after Monday, 00:00."""
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(self.weekday)
        return days * 86_400.0 + self.hour * 3600.0


class FleetConfig(_Section):
    """A whole fleet, as a preset describes it."""

    name: str = Field(description="Name of the preset.")
    description: str = Field(default="", description="What it shows, in a sentence.")
    days: float = Field(default=1.0, gt=0, le=400, description="Default length of a simulation. Unit: days.")
    anchor_falls_on: MomentOfWeek | None = Field(
        default=None,
        description="Shifts the fleet's calendar so that the moment from which incidents are counted back (the end, "
        "unless said otherwise) is this one in the daily and weekly cycles, whenever it is run; null keeps UTC.",
    )
    models: tuple[ModelConfig, ...] = Field(min_length=1, description="The deployments.")
    streams: tuple[StreamConfig, ...] = Field(min_length=1, description="Who asks for what.")
    incidents: tuple[Incident, ...] = Field(default=(), description="What goes wrong, and when.")
    telemetry: TelemetryConfig = Field(default_factory=TelemetryConfig, description="Sampling of GPUs and engines.")
    rates: tuple[RateConfig, ...] = Field(default=(), description="The rate book.")
    budgets: tuple[BudgetConfig, ...] = Field(default=(), description="The teams' budgets.")

    @model_validator(mode="after")
    def _names_agree(self) -> FleetConfig:
        models = [model.model for model in self.models]
        deployments = {model.deployment: model for model in self.models}
        problems = []
        if len(set(models)) < len(models) or len(deployments) < len(models):
            problems.append("each model and each deployment may be there once")
        problems += [f"stream {s.app!r} asks for model {s.model!r}, which is not in models ({', '.join(models)})"
                     for s in self.streams if s.model not in models]  # fmt: skip
        teams, apps = {s.team for s in self.streams}, {s.app for s in self.streams}
        for incident in self.incidents:
            if isinstance(incident, LatencyRegression | GpuFault) and incident.deployment not in deployments:
                known = ", ".join(deployments)
                problems.append(f"incident {incident.name!r} names deployment {incident.deployment!r}; known: {known}")
            elif isinstance(incident, GpuFault) and incident.replica_index >= deployments[incident.deployment].replicas:
                problems.append(
                    f"incident {incident.name!r} names replica {incident.replica_index} "
                    f"of {incident.deployment!r}, which has {deployments[incident.deployment].replicas}"
                )
            if isinstance(incident, CostSpike | CacheCollapse):
                if incident.team is not None and incident.team not in teams:
                    problems.append(f"incident {incident.name!r} names team {incident.team!r}, which has no stream")
                if incident.app is not None and incident.app not in apps:
                    problems.append(f"incident {incident.name!r} names app {incident.app!r}, which has no stream")
            if isinstance(incident, CacheCollapse) and incident.model is not None and incident.model not in models:
                problems.append(
                    f"incident {incident.name!r} names model {incident.model!r}; known: {', '.join(models)}"
                )
        if len({incident.name for incident in self.incidents}) < len(self.incidents):
            problems.append("each incident needs a name of its own")
        history = self.telemetry.history_interval_seconds
        if history and history % self.telemetry.interval_seconds:
            problems.append("telemetry.history_interval_seconds must be a multiple of interval_seconds")
        if problems:
            raise ValueError("; ".join(problems))
        return self
