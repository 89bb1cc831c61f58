"""Inventory, events, and the truth about incidents: what each was, when, where, and which requests it touched."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.simulator import incidents, tables
from analytics.simulator.config import CacheCollapse, CostSpike, FleetConfig, GpuFault, Incident, LatencyRegression
from analytics.simulator.incidents import Clock

if TYPE_CHECKING:
    from analytics.simulator.fleet import Run

STAMP, TEXT = tables.STAMP, pa.string()
REPLICAS_SCHEMA = pa.schema(
    [
        ("replica", TEXT), ("valid_from", STAMP), ("valid_to", STAMP), ("deployment", TEXT), ("model", TEXT),
        ("cluster", TEXT),
        ("region", TEXT), ("provider", TEXT), ("purchase_type", TEXT), ("engine", TEXT), ("engine_version", TEXT),
        ("gpu_type", TEXT), ("gpu_count", pa.int32()),
    ]
)  # fmt: skip
EVENTS_SCHEMA = pa.schema(
    [
        ("event_id", TEXT), ("occurred_at", STAMP), ("kind", TEXT), ("model", TEXT), ("deployment", TEXT),
        ("replica", TEXT),
        ("gpu_uuid", TEXT), ("title", TEXT), ("attributes", tables.TEXT_MAP),
    ]
)  # fmt: skip
INCIDENTS_SCHEMA = pa.schema(
    [
        ("incident_id", TEXT), ("kind", TEXT), ("from_at", STAMP), ("to_at", STAMP), ("model", TEXT),
        ("deployment", TEXT),
        ("replica", TEXT), ("team", TEXT), ("app", TEXT), ("expected_effect", TEXT), ("parameters", TEXT),
    ]
)  # fmt: skip
TOUCHED_SCHEMA = pa.schema([("incident_id", TEXT), ("trace_id", TEXT), ("span_id", TEXT)])


def gpu_uuid(deployment: str, replica: int, gpu: int) -> str:
    """The UUID of a simulated GPU; the same for every seed."""
    digits = tables.hash_text("gpu", deployment, replica, gpu) + tables.hash_text("gpu2", deployment, replica, gpu)
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def at(clock: Clock, seconds: float) -> datetime:
    """The time of a second of the simulation."""
    return clock.origin + timedelta(microseconds=round(seconds * 1e6))


def replica_rows(config: FleetConfig, runs: list[Run], clock: Clock) -> pa.Table:
    """Rows of `replicas`: one for each version that a server ran, from the start of the simulation on."""
    rows: list[dict[str, Any]] = []
    end = clock.seconds(clock.end)
    for run in runs:
        m = run.model
        for index, name in enumerate(tables.replica_names(m)):
            spans = [(since, version) for since, version in incidents.versions(config, m, index, clock) if since < end]
            begins = [max(since, clock.seconds(clock.start)) for since, _ in spans]
            for k, (_, version) in enumerate(spans):
                until = begins[k + 1] if k + 1 < len(spans) else None
                if until is not None and until <= begins[k]:
                    continue
                rows.append({
                    "replica": name, "valid_from": at(clock, begins[k]),
                    "valid_to": None if until is None else at(clock, until),
                    "deployment": m.deployment, "model": m.model, "cluster": m.cluster, "region": m.region,
                    "provider": m.provider,
                    "purchase_type": m.purchase_type, "engine": "vllm", "engine_version": version,
                    "gpu_type": run.gpu[0],
                    "gpu_count": run.gpu[1],
                })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=REPLICAS_SCHEMA)


def event_rows(config: FleetConfig, runs: list[Run], clock: Clock) -> pa.Table:
    """Rows of `events`: what operators would have noted down. A cost spike leaves none: it is for analytics to find."""
    models = {run.model.deployment: run.model for run in runs}
    rows: list[dict[str, Any]] = []

    def add(seconds: float, kind: str, title: str, incident: Incident, **where: Any) -> None:
        event_id = tables.hash_text("event", config.name, incident.name, title, at(clock, seconds))
        rows.append(
            {"event_id": f"sim-{event_id}", "occurred_at": at(clock, seconds), "kind": kind, "title": title, **where}
        )

    for i in config.incidents:
        start, over = incidents.begin(i, clock), incidents.finish(i, clock)
        if isinstance(i, LatencyRegression):
            m = models[i.deployment]
            where = {"model": m.model, "deployment": i.deployment}
            versions = {"attributes": [("version.from", m.engine_version), ("version.to", i.engine_version)]}
            add(
                start,
                "deploy",
                f"{i.deployment}: vLLM {m.engine_version} -> {i.engine_version}",
                i,
                **where,
                **versions,
            )
            if np.isfinite(over):
                add(over, "deploy", f"{i.deployment}: rolled back to vLLM {m.engine_version}", i, **where)
        elif isinstance(i, GpuFault):
            m = models[i.deployment]
            name = tables.replica_names(m)[i.replica_index]
            uuid = gpu_uuid(i.deployment, i.replica_index, i.gpu_index)
            where = {"model": m.model, "deployment": i.deployment, "replica": name}
            dead = start + i.slow_minutes * 60
            if i.slow_minutes > 0:
                add(start, "xid", f"XID {i.warning_xid} on GPU {i.gpu_index} of {name}", i, **where, gpu_uuid=uuid)
            add(dead, "xid", f"XID {i.fatal_xid} on GPU {i.gpu_index} of {name}", i, **where, gpu_uuid=uuid)
            add(over - i.cold_start_seconds, "restart", f"{name} restarted on a replaced GPU", i, **where)
        elif isinstance(i, CacheCollapse):
            scope = ", ".join(v for v in (i.team, i.app) if v) or "all teams"
            add(start, "config_change", f"New prompt template ({scope})", i, model=i.model)
            add(over, "config_change", f"Prompt template reverted ({scope})", i, model=i.model)
    rows = [row for row in rows if clock.start <= row["occurred_at"] <= clock.end]
    return pa.Table.from_pylist(
        sorted(rows, key=lambda row: (row["occurred_at"], row["event_id"])), schema=EVENTS_SCHEMA
    )


def effect(incident: Incident) -> str:
    """What should be seen of it."""
    if isinstance(incident, LatencyRegression):
        return f"TTFT and TPOT of {incident.deployment} rise {incident.step_factor:g} times; queueing adds to TTFT"
    if isinstance(incident, CacheCollapse):
        return "the cached share of the prompts concerned falls to about 0, their TTFT and prefill time rise"
    if isinstance(incident, GpuFault):
        return (f"one replica slows by {incident.step_factor:g} times, its running requests then end as engine_dead, "
                f"and its traffic moves to the others for {incident.down_hours:g} h")  # fmt: skip
    return (f"requests of team {incident.team} rise {incident.rate_factor:g} times, output tokens of each "
            f"{incident.output_factor:g} times")  # fmt: skip


def incident_rows(config: FleetConfig, clock: Clock) -> pa.Table:
    """Rows of `truth_incidents`: one an incident that begins before the end; `to_at` is null while it goes on."""
    rows = []
    for i in config.incidents:
        begins, over = incidents.begin(i, clock), incidents.finish(i, clock)
        if begins > clock.seconds(clock.end) or over < clock.seconds(clock.start):
            continue
        deployment = i.deployment if isinstance(i, LatencyRegression | GpuFault) else None
        model = next((m for m in config.models if m.deployment == deployment), None)
        team, app = (i.team, i.app) if isinstance(i, CostSpike | CacheCollapse) else (None, None)
        rows.append({
            "incident_id": i.name, "kind": i.kind, "from_at": at(clock, begins),
            "to_at": at(clock, over) if np.isfinite(over) else None, "deployment": deployment,
            "model": model.model if model else getattr(i, "model", None),
            "replica": tables.replica_names(model)[i.replica_index] if model and isinstance(i, GpuFault) else None,
            "team": team, "app": app, "expected_effect": effect(i),
            "parameters": json.dumps(i.model_dump(exclude={"name", "kind"}), sort_keys=True),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=INCIDENTS_SCHEMA)


def touched(config: FleetConfig, run: Run, incident: Incident, clock: Clock) -> npt.NDArray[np.bool_]:
    """Which requests of a deployment the incident touched directly; queues behind it are not counted."""
    turns, result = run.turns, run.result
    last = np.where(result.last >= 0, result.last, np.inf)
    if isinstance(incident, CostSpike | CacheCollapse):
        named = np.array([incidents.concerns(incident, s) for s in config.streams])
        return np.asarray(named[turns.stream] & incidents.during(incident, turns.at, clock))
    hit = np.zeros(turns.at.size, np.bool_)
    if incident.deployment != run.model.deployment:
        return hit
    if isinstance(incident, GpuFault):
        start = incidents.begin(incident, clock)
        end = start + incident.slow_minutes * 60 + incident.detect_seconds
        return np.asarray((result.replica == incident.replica_index) & (turns.at < end) & (last > start))
    for r in range(run.model.replicas):
        start, end = incidents.rollout_at(incident, r, clock), incidents.rollback_at(incident, r, clock)
        hit |= (result.replica == r) & (turns.at < end) & (last > start)
    return hit


def touched_rows(config: FleetConfig, runs: list[Run], kept: list[npt.NDArray[np.bool_]], clock: Clock) -> pa.Table:
    """Rows of `truth_incident_requests`: one an (incident, request); an incident may touch none."""
    parts = []
    for incident in config.incidents:
        for run, which in zip(runs, kept, strict=True):
            ids = run.turns.ids[touched(config, run, incident, clock) & which]
            name = tables.texts([incident.name], np.zeros(len(ids), np.int64))
            parts.append(
                pa.table([name, tables.hex_texts(ids[:, :16]), tables.hex_texts(ids[:, 16:])], schema=TOUCHED_SCHEMA)
            )
    return pa.concat_tables(parts) if parts else TOUCHED_SCHEMA.empty_table()
