"""What is kept of hours that are over says at every moment what the raw requests say."""

from contextlib import closing
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from analytics.arrivals import OfClients, read_arrived, stretches_of
from analytics.drift import DriftConfig, drift_scan
from analytics.drift_windows import anchor_of
from analytics.latency import engine_buckets, latency_buckets
from analytics.slo import SloDefinition, slo_statuses
from analytics.statements import ask
from collector.client import FileClient

SLOS = [
    SloDefinition("up", "availability", None, None, None, 0.99, 30, "up"),
    SloDefinition("fast", "ttft", None, None, 2.0, 0.9, 7, "fast"),
    SloDefinition("team", "e2e", "m", "x", 5.0, 0.9, 30, "team"),
]
MINUTE = timedelta(minutes=1)
BANDS = """
SELECT count(*) FILTER (WHERE bad) AS bad, count(bad) AS events FROM (
    SELECT CASE $sli
        WHEN 'availability' THEN outcome = 'error'
        WHEN 'ttft' THEN CASE WHEN outcome = 'ok' THEN ttft_seconds > 2 END
        ELSE CASE WHEN outcome = 'ok' THEN e2e_seconds > 5 END
    END AS bad
    FROM requests
    WHERE coalesce(ended_at, started_at) < $now
        AND coalesce(ended_at, started_at) >= $now - to_seconds($seconds::BIGINT)
        AND model = $model AND ($team::VARCHAR IS NULL OR team = $team::VARCHAR)
)
"""


class Counted:
    """A client that tells what was asked."""

    def __init__(self, client):
        self.client, self.asked, self.counted_hours = client, [], 0

    def query(self, sql, parameters=None):
        self.asked.append(sql.split(":", 1)[0].removeprefix("-- "))
        if self.asked[-1] == "slo_events_band":
            self.counted_hours += (parameters["arrived_until"] - parameters["arrived_from"]) // timedelta(hours=1)
        return self.client.query(sql, parameters)

    def fresh(self):
        """What was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


def agree(client, now):
    """Every count of every window is that of the raw requests."""
    for status in slo_statuses(client, now, SLOS):
        lengths = {**dict(zip(("5m", "1h", "6h", "1d", "3d"), (300, 3600, 21600, 86400, 259200), strict=True))}
        told = {lengths[name]: status.burn_counts[name] for name in lengths}
        told[status.slo.window_days * 86400] = (status.bad_count, status.events_count)
        for seconds, counts in told.items():
            asked = {
                "sli": status.slo.sli,
                "now": now,
                "seconds": seconds,
                "model": status.model,
                "team": status.slo.team,
            }
            (row,) = client.query(BANDS, asked).to_pylist()
            assert counts == (row["bad"], row["events"]), (status.slo.name, status.model, seconds)


def rows(now, draws):
    """Requests of some hours ago; some last for hours, some tell no end, some ended before they began."""
    return [
        {
            "started_at": now - timedelta(minutes=minutes),
            "ended_at": None if length is None else now - timedelta(minutes=minutes - length),
            "outcome": "error" if minutes % 3 == 0 else "ok",
            "ttft_seconds": float(minutes % 5),
            "e2e_seconds": float(minutes % 11),
            "model": "mn"[minutes % 2],
            "team": "xy"[minutes // 2 % 2],
        }
        for minutes, length in draws
    ]


DRAWS = st.lists(
    st.tuples(st.integers(-90, 45_000), st.one_of(st.none(), st.integers(-30, 300))), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=15)
@given(batches=st.lists(DRAWS, min_size=1, max_size=3), steps=st.lists(st.integers(0, 5000), min_size=1, max_size=3))
def test_counts_of_slos_are_those_of_the_requests_whatever_comes_late(tmp_path_factory, store_of, batches, steps):
    now = datetime(2026, 11, 10, 12)
    with closing(FileClient(tmp_path_factory.mktemp("late") / "fleet.duckdb", write=True)) as client:
        store = store_of(client)
        for batch, minutes in zip(batches, steps, strict=False):
            store.requests(*rows(now, batch))
            agree(client, now)
            agree(client, now + timedelta(minutes=minutes))
            agree(client, now)


def test_hours_that_are_over_are_counted_once(store, now):
    client = Counted(store.client)
    store.requests(*rows(now, [(minutes, 1) for minutes in range(0, 20_000, 7)]))
    first = slo_statuses(client, now, SLOS)
    assert client.counted_hours > 300
    client.counted_hours = 0
    assert slo_statuses(client, now, SLOS) == first
    assert client.counted_hours < 20, "the edges of bands alone"
    store.requests(*rows(now, [(10_000, 1)]))
    late = slo_statuses(client, now, SLOS)
    assert sum(status.events_count for status in late) > sum(status.events_count for status in first)
    agree(store.client, now)


@pytest.mark.parametrize("bucket_seconds", [600, 5400, 14_400])
@pytest.mark.parametrize("by_model", [True, False])
def test_buckets_that_are_over_are_read_once_and_say_what_one_read_says(store, now, bucket_seconds, by_model):
    client = Counted(store.client)
    store.requests(*rows(now, [(minutes, 1) for minutes in range(0, 9000, 7)]))
    start, end = now - timedelta(days=5, minutes=17), now + timedelta(minutes=3)
    chosen = {"bucket_seconds": bucket_seconds, "by_model": by_model, "model": None, "team": None, "replica": None}
    for late in (None, 4000, None):
        if late is not None:
            store.requests(*rows(now, [(late, 1), (late + 1, 1)]))
        said = latency_buckets(client, start, end, bucket_seconds=bucket_seconds, by_model=by_model)
        whole = ask(store.client, "requests_latency_bucket", start=start, end=end, **chosen)
        assert_frame_equal(said, whole)
    assert client.fresh().count("requests_latency_bucket") == 3 + 3 + 2, "the ends, and what is new"


SERIES = [
    {"series_id": 1, "name": "infer.engine.kv_cache_usage_ratio", "kind": "gauge", "replica": "r"},
    {"series_id": 2, "name": "infer.engine.requests_running", "kind": "gauge", "replica": "r"},
    {"series_id": 3, "name": "infer.engine.preemptions", "kind": "counter", "replica": "r"},
    {"series_id": 4, "name": "infer.engine.preemptions", "kind": "counter", "replica": "q"},
    {"series_id": 5, "name": "up", "kind": "gauge", "replica": "q"},
]


def load_said_whole(client, start, end, bucket_seconds):
    chosen = {"bucket_seconds": bucket_seconds, "model": None, "with_preemptions": True}
    return ask(client, "engine_load_bucket", start=start, end=end, **chosen)


@pytest.mark.parametrize("bucket_seconds", [600, 3600, 5400, 14_400])
@pytest.mark.parametrize("seed", [0, 1])
def test_load_over_days_is_that_of_the_points_whatever_comes_late(store, now, seed, bucket_seconds):
    rng = np.random.default_rng(seed)
    store.rows("metric_series", *SERIES)
    for _ in range(3):
        # Sparse, so that a counter's next point is often hours away.
        keys = {
            (int(n), int(ago)) for n, ago in zip(rng.integers(1, 6, 120), rng.integers(-30, 4500, 120), strict=True)
        }
        values = [float(value) if value < 9 else float("nan") for value in rng.integers(0, 10, len(keys))]
        points = zip(sorted(keys), values, strict=True)
        store.rows(
            "metric_points",
            *({"series_id": n, "observed_at": now - ago * MINUTE, "value": value} for (n, ago), value in points),
        )
        for minutes in (0, int(rng.integers(0, 300)), 0):
            window = (now + (minutes - 4337) * MINUTE, now + (minutes + 3) * MINUTE)
            said = engine_buckets(store.client, *window, bucket_seconds=bucket_seconds)
            assert_frame_equal(said, load_said_whole(store.client, *window, bucket_seconds))
        sampled = {"gpu_uuid": "g", "power_watts": 1.0, "sm_active_ratio": 0.5}
        store.rows(
            "gpu_samples", *({"sampled_at": now - int(ago) * MINUTE, **sampled} for ago in rng.integers(0, 4500, 9))
        )


def test_load_that_is_over_is_read_once_and_again_where_points_come_late(store, now):
    client = Counted(store.client)
    store.rows("metric_series", *SERIES)
    window = (now - timedelta(days=3), now)

    def land(*minutes, series=3):
        told = ({"series_id": series, "observed_at": now - ago * MINUTE, "value": 5000.0 - ago} for ago in minutes)
        store.rows("metric_points", *told)

    def read():
        said = engine_buckets(client, *window, bucket_seconds=3600)
        assert_frame_equal(said, load_said_whole(store.client, *window, 3600))
        return client.fresh().count("engine_load_bucket")

    land(*range(1, 4000, 7))
    assert (read(), read()) == (1, 0)
    land(2000, series=1)
    assert (read(), read()) == (1, 0)
    land(3000, series=9)
    assert (read(), read()) == (1, 0)
    store.rows("metric_series", {**SERIES[0], "series_id": 9, "replica": "late"})
    assert (read(), read()) == (1, 0), "a series that lands after its points"
    engine_buckets(client, now - timedelta(days=1), now, bucket_seconds=3600)
    engine_buckets(client, *window, bucket_seconds=3600, model="m")
    assert client.fresh() == ["engine_load_bucket"] * 2, "short windows, and one model, are read whole"


QUICK = DriftConfig(window_hours=2, min_count=50, history_days=4)


def streams(store, now, *, days=range(6), scale=lambda day: 1.0, seed=0):
    rng = np.random.default_rng(seed)
    store.requests(
        *(
            {"started_at": now - timedelta(days=day, seconds=60 * serial + 1), "input_tokens": int(tokens * scale(day))}
            for day in days
            for serial, tokens in enumerate(rng.lognormal(6, 1, 700))
        ),
        model="m",
        team="x",
    )


def test_windows_that_are_over_are_read_once_and_again_where_requests_come_late(store, now):
    client = Counted(store.client)
    streams(store, now)
    first = drift_scan(client, now, config=QUICK)
    assert client.fresh().count("drift_sketch_window") > 1
    assert drift_scan(client, now, config=QUICK).equals(first)
    assert client.fresh() == ["requests_arrivals_hour", "drift_sketch_window"], "the current window alone"
    assert not first["drifted"].any()
    streams(store, now, days=range(1, 6), scale=lambda day: 9.0, seed=1)
    late = drift_scan(client, now, config=QUICK)
    assert late.equals(drift_scan(store.client, now, config=QUICK)), "another client has kept nothing"
    assert late["reference_median"][0] > 2 * first["reference_median"][0]
    assert late["reference_count"][0] == 2 * first["reference_count"][0]


@pytest.mark.parametrize("minutes", [1, 13, 47])
def test_a_scan_between_two_marks_finds_what_one_on_a_mark_finds(store, now, minutes):
    streams(store, now + timedelta(minutes=minutes), scale=lambda day: 2.0 if day == 0 else 1.0)
    row = drift_scan(store.client, now + timedelta(minutes=minutes), config=QUICK).row(0, named=True)
    assert row["drifted"]
    assert row["statistic"] == pytest.approx(np.log(2), abs=0.15)
    assert (row["current_count"], row["reference_count"]) == (120, pytest.approx(4 * 120, abs=4 * 5))


def test_the_same_hours_end_within_a_24th_of_a_window_of_now(now):
    for minutes in range(0, 180, 7):
        moment = now + timedelta(minutes=minutes, seconds=3)
        assert abs(anchor_of(moment, 21_600) - moment) <= timedelta(hours=6) / 24
        assert anchor_of(anchor_of(moment, 21_600), 21_600) == anchor_of(moment, 21_600)


def test_hours_that_are_near_are_one_stretch(now):
    hours = [now + timedelta(hours=number) for number in (0, 1, 4, 20)]
    assert list(stretches_of(hours[::-1], timedelta(hours=2))) == [
        (hours[0], hours[2] + timedelta(hours=1)),
        (hours[3], hours[3] + timedelta(hours=1)),
    ]
    assert list(stretches_of([], timedelta(hours=2))) == []


def test_a_late_request_changes_the_mark_of_its_hour_alone(store, now):
    streams(store, now, days=range(2))
    before = read_arrived(store.client, now - timedelta(days=3), now)
    store.requests({"started_at": now - timedelta(days=1, seconds=1), "received_at": now}, model="m")
    after = read_arrived(store.client, now - timedelta(days=3), now)
    assert [hour for hour in after if after[hour] != before[hour]] == [now - timedelta(days=1, hours=1)]


def test_clients_are_kept_apart(tmp_path):
    kept = OfClients(dict)
    with (
        closing(FileClient(tmp_path / "a.duckdb", write=True)) as one,
        closing(FileClient(tmp_path / "b.duckdb", write=True)) as other,
    ):
        kept.of(one)["x"] = 1
        assert (kept.of(one), kept.of(other)) == ({"x": 1}, {})
