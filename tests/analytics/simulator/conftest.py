"""A small fleet with every kind of incident, simulated once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from analytics.simulator.config import FleetConfig
from analytics.simulator.fleet import SimulatedFleet, simulate
from analytics.simulator.presets import parse_fleet

END = datetime(2026, 3, 4, 15, 20)
START = END - timedelta(hours=30)
SMALL: dict[str, Any] = {
    "name": "small",
    "models": [
        {
            "model": "big",
            "deployment": "big",
            "replicas": 3,
            "profile": "h100x2_llama-70b_fp8",
        },
        {
            "model": "little",
            "deployment": "little",
            "replicas": 2,
            "profile": "l40s_mistral-small-24b_fp8",
        },
    ],
    "streams": [
        {
            "team": "red",
            "app": "chat",
            "model": "big",
            "requests_per_day": 9000,
            "turns_mean": 3,
            "shared_prefix_tokens": 1000,
        },
        {
            "team": "blue",
            "app": "search",
            "model": "little",
            "requests_per_day": 2500,
            "shared_prefix_tokens": 2000,
            "arrival": "gamma",
            "cv": 1.2,
            "stream": False,
        },
        {
            "team": None,
            "app": "unknown",
            "model": "little",
            "requests_per_day": 300,
            "error_ratio": 0.05,
            "rejected_ratio": 0.1,
        },
    ],
    "incidents": [
        {
            "kind": "gpu_fault",
            "name": "fault",
            "hours_before_end": 20,
            "deployment": "big",
            "replica_index": 1,
            "slow_minutes": 30,
            "down_hours": 1.5,
        },
        {
            "kind": "cost_spike",
            "name": "spike",
            "hours_before_end": 12,
            "team": "blue",
            "rate_factor": 3,
            "output_factor": 2,
            "duration_hours": 4,
        },
        {
            "kind": "cache_collapse",
            "name": "collapse",
            "hours_before_end": 7,
            "team": "red",
            "duration_hours": 3,
        },
        {
            "kind": "latency_regression",
            "name": "deploy",
            "hours_before_end": 2,
            "deployment": "little",
            "engine_version": "0.32.0",
            "step_factor": 3,
        },
    ],
    "rates": [{"gpu_type": "L40S", "usd_per_gpu_hour": "1.000000001", "valid_from": "2026-01-01", "origin": "test"}],
    "budgets": [{"team": "red", "usd_per_month": "100.5"}],
}


@pytest.fixture(scope="session")
def small() -> FleetConfig:
    return parse_fleet(SMALL, "small")


@pytest.fixture(scope="session")
def fleet(small: FleetConfig) -> SimulatedFleet:
    return simulate(small, 7, START, END)
