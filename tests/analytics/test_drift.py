from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from analytics.drift import METRICS, DriftConfig, drift_samples, drift_scan
from analytics.errors import AnalyticsError

QUICK = DriftConfig(window_hours=1, min_count=50, history_days=5)


def stream(store, now, *, days=range(6), count=120, team="x", scale=lambda day: 1.0, seed=0, hit=lambda day: 0.5):
    """The same hour of several days, with log-normal lengths; day 0 is today."""
    rng = np.random.default_rng(seed)
    for day in days:
        prompts = np.maximum(1, rng.lognormal(6, 1, count) * scale(day)).astype(int)
        store.requests(
            *(
                {
                    "started_at": now - timedelta(days=day, seconds=20 * serial + 1),
                    "input_tokens": int(tokens),
                    "cached_tokens": int(tokens * min(1, hit(day) * noise)),
                    "output_tokens": int(out),
                    "ttft_seconds": float(ttft),
                }
                for serial, (tokens, noise, out, ttft) in enumerate(
                    zip(
                        prompts,
                        rng.uniform(0.8, 1.2, count),
                        rng.integers(1, 500, count),
                        rng.lognormal(-1, 0.5, count),
                        strict=True,
                    )
                )
            ),
            model="m",
            team=team,
        )


def row_of(frame, metric, team="x"):
    return frame.row(by_predicate=(pl.col("metric") == metric) & pl.col("team").eq_missing(pl.lit(team)), named=True)


def test_a_longer_prompt_drifts_and_nothing_else_does(store, now):
    stream(store, now, scale=lambda day: 2.5 if day == 0 else 1)
    frame = drift_scan(store.client, now, config=QUICK)
    assert frame.filter(pl.col("drifted"))["metric"].to_list() == ["input_tokens", "input_tokens"]
    row = row_of(frame, "input_tokens")
    assert row["statistic"] > row["effect_threshold"]
    assert row["q_value"] <= 0.01
    assert row["current_median"] / row["reference_median"] == pytest.approx(2.5, rel=0.2)
    assert "tokens (+1" in row["reason"]
    assert "× the largest day-over-day change" in row["reason"]


def test_a_lost_cache_drifts_as_a_ratio(store, now):
    stream(store, now, hit=lambda day: 0.05 if day == 0 else 0.5)
    row = row_of(drift_scan(store.client, now, config=QUICK), "cached_ratio")
    assert row["drifted"]
    assert row["reason"].startswith("median 49 → 5 % of the prompt from cache")


def test_a_stream_that_always_swings_is_not_drifting(store, now):
    stream(store, now, scale=lambda day: 3.0 if day % 2 else 1.0)
    stream(store, now - timedelta(hours=6), days=range(5), scale=lambda day: 3.0 if day % 2 else 1.0)
    row = row_of(drift_scan(store.client, now, config=QUICK), "input_tokens")
    assert row["drifted"] is False


def test_a_day_like_the_one_a_week_ago_is_usual(store, now):
    weekly = DriftConfig(window_hours=1, min_count=50, history_days=8)
    stream(store, now, days=range(9), scale=lambda day: 4.0 if day % 7 == 0 else 1.0)
    assert row_of(drift_scan(store.client, now, config=weekly), "input_tokens")["drifted"] is False


@pytest.mark.parametrize(
    ("days", "count", "says"),
    [
        (range(6), 40, "not judged: 40 requests in the window, 50 are needed"),
        (range(1, 6), 120, "not judged: 0 requests in the window"),
        (range(3), 120, "not judged: 2 earlier days have 50 requests in these hours, 3 are needed"),
        (range(1), 120, "not judged: 0 earlier days"),
    ],
)
def test_too_little_is_not_judged_and_says_so(store, now, days, count, says):
    stream(store, now, days=days, count=count)
    frame = drift_scan(store.client, now, config=QUICK)
    assert frame["drifted"].null_count() == frame.height == 2 * len(METRICS)
    assert set(frame["q_value"]) == {None}
    assert all(reason.startswith(says) for reason in frame["reason"])


def test_all_teams_together_are_a_stream_of_their_own(store, now):
    stream(store, now, team="x", seed=1)
    stream(store, now, team=None, seed=2)
    frame = drift_scan(store.client, now, config=QUICK)
    assert frame["team"].unique(maintain_order=True).to_list() == [None, "x"]
    assert row_of(frame, "input_tokens", None)["current_count"] == 240
    assert row_of(frame, "input_tokens", "x")["current_count"] == 120


def test_an_unmeasured_metric_has_no_row(store, now):
    stream(store, now)
    store.requests({"started_at": now - timedelta(minutes=1), "input_tokens": 5}, model="bare")
    frame = drift_scan(store.client, now, config=QUICK)
    assert frame.filter(pl.col("model") == "bare")["metric"].to_list() == ["input_tokens"]


def test_an_empty_store_has_no_stream(store, now):
    assert drift_scan(store.client, now).is_empty()


def test_samples_are_of_the_same_windows_and_the_same_at_every_call(store, now):
    stream(store, now)
    current, reference = drift_samples(store.client, now, "m", "x", "input_tokens", config=QUICK)
    assert (len(current), len(reference)) == (120, 600)
    few = DriftConfig(window_hours=1, min_count=50, history_days=5, sample_count=500)
    again = [drift_samples(store.client, now, "m", None, "input_tokens", config=few)[1].to_list() for _ in range(2)]
    assert again[0] == again[1]
    assert len(again[0]) == 500


@pytest.mark.parametrize("hours", [0, -1, 25])
def test_a_window_longer_than_a_day_is_refused(store, now, hours):
    with pytest.raises(AnalyticsError, match="at most 24 h"):
        drift_scan(store.client, now, window_hours=hours)


def test_an_unknown_metric_names_the_known_ones(store, now):
    with pytest.raises(AnalyticsError, match="'speed'; take one of input_tokens"):
        drift_samples(store.client, now, "m", None, "speed")
