"""Simulate a whole fleet: `simulate` gives the tables that a real one would have filled, and the truth behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.simulator import incidents, money, shares, tables, telemetry, truth
from analytics.simulator.config import FleetConfig, ModelConfig
from analytics.simulator.engine import layout
from analytics.simulator.engine.run import run
from analytics.simulator.errors import SimulatorError
from analytics.simulator.incidents import Clock
from analytics.simulator.presets import Profile, find_profile, load_preset
from analytics.simulator.workload import Ending, Turns, Workload, draw_workload

POLICIES = {
    "round_robin": layout.ROUND_ROBIN,
    "least_loaded": layout.LEAST_LOADED,
    "prefix_affine": layout.PREFIX_AFFINE,
}
HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class SimulatedFleet:
    """What a simulation gives."""

    tables: dict[str, pa.Table]
    """Rows by table of `collector/schema`: requests, gpu_samples, metric_series, metric_points, replicas, events,
    rate_cards, budgets."""
    truth: dict[str, pa.Table]
    """What really happened: truth_shares, truth_incidents, truth_incident_requests."""
    start: datetime
    """First arrival, naive UTC."""
    end: datetime
    """Everything here has happened by then, naive UTC."""


@dataclass(frozen=True)
class Run:
    """One deployment after its simulation."""

    model: ModelConfig
    profile: Profile
    limits: npt.NDArray[Any]
    """`layout.LIMITS`, one."""
    turns: Turns
    """All requests that arrived, the refused ones too."""
    result: Any
    """`layout.JOB` as a record array, in the order of `turns`."""
    telemetry: Any
    """`layout.BIN` as a record array, by replica and bin."""
    shares: Any
    """`layout.SHARE` as a record array."""

    @property
    def gpu(self) -> tuple[str, int]:
        """GPU model, and GPUs of a replica."""
        return self.model.gpu_type or self.profile.gpu_type, self.model.gpu_count or self.profile.gpu_count


def simulate(
    preset_or_config: str | FleetConfig,
    seed: int,
    start: datetime,
    end: datetime,
    *,
    anchor: datetime | None = None,
    progress: Callable[[str], None] | None = None,
) -> SimulatedFleet:
    """Simulate a fleet from `start` to `end`, naive UTC.

    The draws depend on the seed, the stream and the UTC day alone, so a longer simulation from the same start with the
    same anchor holds the shorter one's rows unchanged.

    Args:
        preset_or_config: A preset's name, a YAML file, or a configuration.
        seed: Any integer.
        start: First possible arrival.
        end: Only what has ended by then is in the tables.
        anchor: What incidents' `hours_before_end` count back from; default is `end`.
        progress: Called with the name of each deployment before it is simulated.

    Raises:
        SimulatorError: the configuration can't be used, or `end` is not after `start`.
    """
    config = preset_or_config if isinstance(preset_or_config, FleetConfig) else load_preset(preset_or_config)
    if end <= start:
        raise SimulatorError(f"the simulation must end after it starts; it starts {start} and ends {end}")
    origin = start.replace(minute=0, second=0, microsecond=0)
    clock = Clock(origin, start, end, anchor or end, calendar_shift_seconds(config, anchor or end))
    runs = []
    for model in config.models:
        if progress:
            progress(model.deployment)
        runs.append(run_deployment(config, model, seed, clock))
    kept = [ended(run, clock) for run in runs]
    requests = pa.concat_tables(
        [rows_of(config, run, seed, clock, which) for run, which in zip(runs, kept, strict=True)]
    )
    series, points = telemetry.engine_metrics(config, runs, clock)
    return SimulatedFleet(
        tables={
            "requests": requests.take(np.argsort(requests["ended_at"].to_numpy(), kind="stable")),
            "gpu_samples": telemetry.gpu_samples(config, runs, seed, clock),
            "metric_series": series,
            "metric_points": points,
            "replicas": truth.replica_rows(config, runs, clock),
            "events": truth.event_rows(config, runs, clock),
            "rate_cards": money.rate_rows(config),
            "budgets": money.budget_rows(config, clock),
        },
        truth={
            "truth_shares": pa.concat_tables([shares.share_rows(config, run, clock) for run in runs]),
            "truth_incidents": truth.incident_rows(config, clock),
            "truth_incident_requests": truth.touched_rows(config, runs, kept, clock),
        },
        start=start,
        end=end,
    )


def calendar_shift_seconds(config: FleetConfig, anchor: datetime) -> float:
    """How far the fleet's calendar is ahead of UTC, at most half a week either way."""
    if config.anchor_falls_on is None:
        return 0.0
    week_seconds = 7 * 86_400.0
    monday = anchor.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=anchor.weekday())
    ahead = config.anchor_falls_on.seconds() - (anchor - monday).total_seconds()
    return (ahead + week_seconds / 2) % week_seconds - week_seconds / 2


def limits_of(config: FleetConfig, model: ModelConfig, profile: Profile) -> npt.NDArray[Any]:
    """The engine's limits and step times, as `layout.LIMITS`."""
    limits = np.zeros(1, layout.LIMITS)
    values = {
        **profile.seconds.model_dump(),
        "max_seqs": model.max_num_seqs or profile.max_num_seqs,
        "max_tokens": model.max_num_batched_tokens or profile.max_num_batched_tokens,
        "blocks": model.kv_blocks or profile.kv_blocks,
        "block_size": profile.block_size,
        "max_queue": model.max_queue,
        "reserve_prompt": profile.reserve_prompt,
        "policy": POLICIES[model.routing],
        "slack": model.affinity_slack,
        "width": config.telemetry.interval_seconds,
    }
    for name, value in values.items():
        limits[name] = value
    return limits


def run_deployment(config: FleetConfig, model: ModelConfig, seed: int, clock: Clock) -> Run:
    """Draw one deployment's requests and run its engines."""
    profile = find_profile(model.profile)
    limits = limits_of(config, model, profile)
    room = min(model.max_model_len, int(limits["blocks"][0] * limits["block_size"][0]))
    work = draw_workload(config, model, seed, clock, room)
    world = run_engines(work, limits, model, incidents.controls(config, model, clock), clock)
    shares = world.share[: world.lim["shares"][0]].view(np.recarray)
    return Run(model, profile, limits, work.turns, world.job.view(np.recarray), world.tel.view(np.recarray), shares)


def run_engines(
    work: Workload, limits: npt.NDArray[Any], model: ModelConfig, controls: list[incidents.Control], clock: Clock
) -> layout.World:
    """Run the compiled engines over a workload."""
    end = clock.seconds(clock.end)
    count, replicas = work.turns.at.size, model.replicas
    hours = np.append(np.arange(HOUR_SECONDS, end, HOUR_SECONDS), [end, np.inf])
    bins = int(np.ceil(end / limits["width"][0])) + 1
    events = np.array([(c.at, c.replica, c.kind, c.value) for c in controls], layout.EVENT)
    room = count + hours.size * replicas * 32 + 1024
    while True:
        limits["shares"] = 0
        jobs, chain = engine_jobs(work, model)
        world = layout.new_world(limits, jobs, chain, work.segments, replicas, bins, room, hours)
        run(world, events, end)
        if limits["shares"][0] <= room:
            return world
        room = int(limits["shares"][0])


def engine_jobs(work: Workload, model: ModelConfig) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The workload as `layout.JOB` and `layout.LINK`."""
    turns = work.turns
    jobs, chain = np.zeros(turns.at.size, layout.JOB), np.zeros(work.chain_end.size, layout.LINK)
    jobs["arrival"], jobs["prompt"], jobs["output"] = turns.at + model.overhead_seconds, turns.prompt, turns.output
    jobs["patience"] = np.where(turns.ending == Ending.REJECTED, -1.0, turns.patience)
    jobs["affinity"] = affinity(work)
    jobs["chain_from"], jobs["chain_to"] = work.chain_from[:-1], work.chain_from[1:]
    chain["segment"], chain["end"] = work.chain_segment, work.chain_end
    return jobs, chain


def affinity(work: Workload) -> npt.NDArray[np.int64]:
    """What prefix-affine routing hashes: the conversation, else the stream's prefix."""
    key = work.chain_segment[work.chain_from[1:] - 1].astype(np.uint64)
    return np.asarray(((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)).astype(np.int64))


def ended(run: Run, clock: Clock) -> npt.NDArray[np.bool_]:
    """Which requests have ended by the end."""
    end = clock.seconds(clock.end)
    refused = run.turns.ending == Ending.REJECTED
    over = (run.result.status > 0) & (run.result.last <= end)
    return np.where(refused, run.turns.at + tables.REFUSED_SECONDS <= end, over)


def rows_of(config: FleetConfig, run: Run, seed: int, clock: Clock, which: npt.NDArray[np.bool_]) -> pa.Table:
    """The rows of `requests` of one deployment."""
    turns = run.turns.take(which)
    result = run.result[which]
    names, index = version_index(config, run.model, turns, result, clock)
    # drawn from the ids, so that it does not depend on which requests have ended
    jitter = turns.ids[:, 0] / 255.0 + 0.5
    return tables.request_rows(
        clock.origin, config.streams, run.model, run.gpu, turns, result, index, names, tables.RECEIVED_SECONDS * jitter
    )


def version_index(
    config: FleetConfig, model: ModelConfig, turns: Turns, result: Any, clock: Clock
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The engine version that each request met on arrival, as names and an index into them."""
    names = sorted({name for r in range(model.replicas) for _, name in incidents.versions(config, model, r, clock)})
    index = np.zeros(turns.at.size, np.int64)
    for r in range(model.replicas):
        for since, name in incidents.versions(config, model, r, clock):
            index[(result.replica == r) & (turns.at >= since)] = names.index(name)
    index[result.replica < 0] = -1
    return names, index
