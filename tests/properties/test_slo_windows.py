"""What must hold of every SLO status, for any requests: a naive count is the oracle."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.burn_windows import WINDOW_SECONDS
from analytics.slo import SloDefinition, budget_history, slo_statuses
from collector.client import FileClient

START = datetime(2026, 1, 1)
THRESHOLD_SECONDS = 1.0
EDGES = [0, *(seconds * 1_000_000 for seconds in WINDOW_SECONDS.values()), 30 * 86_400_000_000]


@dataclass(frozen=True)
class Event:
    age_us: int
    """How long before now it ended; negative is after now."""
    model: str | None
    team: str | None
    outcome: str
    ttft_seconds: float | None
    error_type: str | None


ages = st.one_of(
    st.integers(-10, 31 * 86_400_000_000),
    st.sampled_from(EDGES).flatmap(lambda edge: st.integers(edge - 1, edge + 1)),
)
events = st.lists(
    st.builds(
        Event,
        age_us=ages,
        model=st.sampled_from(["m", "n", None]),
        team=st.sampled_from(["x", "y", None]),
        outcome=st.sampled_from(["ok", "ok", "ok", "error", "rejected", "engine_dead", "client_disconnect"]),
        ttft_seconds=st.one_of(st.none(), st.sampled_from([0.5, 1.0, 1.0000001, 7.0])),
        error_type=st.sampled_from([None, "400", "429", "503"]),
    ),
    max_size=30,
)
DEFINITIONS = (
    SloDefinition("ttft", "ttft", None, None, THRESHOLD_SECONDS, 0.9, 30, "ttft"),
    SloDefinition("x's up", "availability", "m", "x", None, 0.999, 7, "availability of one team, one week"),
    SloDefinition("up", "availability", None, None, None, 0.99, 30, "availability"),
)


def naive(load, slo, model, length_us) -> tuple[int, int]:
    """(bad, total) events of the last length_us."""
    judged = [
        bad
        for event in load
        if 0 < event.age_us <= length_us
        and (event.model or "unknown") == model
        and slo.team in (None, event.team)
        and (bad := badness(event, slo)) is not None
    ]
    return sum(judged), len(judged)


def badness(event, slo) -> bool | None:
    if slo.sli == "availability":
        if event.outcome == "rejected" and event.error_type == "400":
            return None  # its client's own fault
        return event.outcome in ("error", "rejected", "engine_dead")
    if event.outcome != "ok" or event.ttft_seconds is None:
        return None
    return event.ttft_seconds > slo.threshold_seconds


def rows_of(load, now, serial) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "trace_id": f"{serial:08x}{place:024x}",
                "span_id": f"{place:016x}",
                "started_at": now - timedelta(microseconds=event.age_us + 5_000_000),
                "ended_at": now - timedelta(microseconds=event.age_us),
                "model": event.model,
                "team": event.team,
                "outcome": event.outcome,
                "ttft_seconds": event.ttft_seconds,
                "error_type": event.error_type,
                "source": "test",
                "estimated": False,
            }
            for place, event in enumerate(load)
        ]
    )


@pytest.fixture
def landed(tmp_path):
    """Land a load so that it is alone within any window of its `now`; returns (client, now)."""
    with closing(FileClient(tmp_path / "events.duckdb", write=True)) as client:
        serials = count(1)

        def _land(load):
            serial = next(serials)
            now = START + timedelta(days=100 * serial)
            if load:
                client.land("requests", rows_of(load, now, serial))
            return client, now

        yield _land


few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@few
@given(load=events)
def test_every_window_counts_what_a_naive_count_does(landed, load):
    client, now = landed(load)
    for status in slo_statuses(client, now, DEFINITIONS):
        window_us = status.slo.window_days * 86_400_000_000
        assert (status.bad_count, status.events_count) == naive(load, status.slo, status.model, window_us)
        for name, seconds in WINDOW_SECONDS.items():
            expected = naive(load, status.slo, status.model, seconds * 1_000_000)
            assert status.burn_counts[name] == expected
            assert (status.burn_rates[name] is None) == (expected[1] == 0)


@few
@given(load=events)
def test_every_model_in_the_window_has_a_status_and_no_other(landed, load):
    client, now = landed(load)
    present = {event.model or "unknown" for event in load if 0 < event.age_us <= 30 * 86_400_000_000}
    found = {status.model for status in slo_statuses(client, now, DEFINITIONS) if status.slo.model is None}
    assert found == present


@few
@given(load=events, bucket_seconds=st.sampled_from([60, 3600, 86_400, 100_000]))
def test_history_adds_up_to_the_status_at_any_grain(landed, load, bucket_seconds):
    client, now = landed(load)
    for status in slo_statuses(client, now, DEFINITIONS):
        history = budget_history(client, now, status, bucket_seconds=bucket_seconds)
        assert history["events_count"].sum() == status.events_count
        assert history["bad_count"].sum() == status.bad_count
        if not status.no_data:
            assert history["budget_left_ratio"][-1] == pytest.approx(status.budget_left_ratio)
