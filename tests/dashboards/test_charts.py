"""Charts are pure: a frame in, an ECharts option out, which is JSON."""

import itertools
import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from dashboards.charts import axes, distribution, fleet, lines, spend, waterfall
from dashboards.palette import DARK, LIGHT

START = datetime(2026, 11, 21, 6)
END = START + timedelta(hours=3)


def latency(values):
    times = [START + timedelta(minutes=number) for number in range(len(values))]
    columns = ("ttft_p50_seconds", "ttft_p95_seconds", "ttft_p99_seconds", "error_ratio", "cache_hit_ratio")
    return pl.DataFrame({"bucket_at": times, **dict.fromkeys(columns, values)}).with_columns(
        pl.col(columns).cast(pl.Float64)
    )


ENGINE = pl.DataFrame(
    {
        "bucket_at": [START],
        "kv_cache_max_ratio": [0.9],
        "kv_cache_mean_ratio": [0.5],
        "running": [3.0],
        "waiting": [0.0],
        "sm_active_ratio": [0.4],
        "power_watts": [1234.0],
    }
)


def fleet_option(**options):
    frame = latency([0.1, None, float("nan"), 0.4])
    return fleet.fleet_chart(frame, ENGINE, START, END, DARK, bucket_seconds=60, **options)


def series(option, name):
    return next(one for one in option["series"] if one["name"] == name)


def test_every_option_is_json():
    assert json.loads(json.dumps(fleet_option(), allow_nan=False))


def test_absent_values_are_gaps_and_never_zero():
    assert [value for _, value in series(fleet_option(), "p95")["data"]] == [0.1, None, None, 0.4]


def test_a_hole_in_the_rows_is_a_hole_in_the_line():
    times = [START, START + timedelta(minutes=1), START + timedelta(minutes=30)]
    drawn = axes.points(times, [1.0, 2.0, 3.0], 60)
    assert [value for _, value in drawn] == [1.0, 2.0, None, 3.0]
    assert [value for _, value in axes.points(times, [1.0, 2.0, 3.0], None)] == [1.0, 2.0, 3.0]


def test_the_six_grids_share_one_pointer_and_each_has_its_own_unit():
    option = fleet_option()
    assert len(option["grid"]) == len(option["xAxis"]) == len(option["yAxis"]) == 6
    assert option["axisPointer"]["link"] == [{"xAxisIndex": "all"}]
    assert len({axis["name"] for axis in option["yAxis"]}) == 6


def test_power_is_shown_in_kilowatts_and_ratios_in_percent():
    assert series(fleet_option(), "power")["data"][0][1] == 1.234
    assert series(fleet_option(), "KV max")["data"][0][1] == 90


def test_the_axis_spans_the_window_whatever_data_there_is():
    empty = latency([]).clear()
    option = fleet.fleet_chart(empty, ENGINE.clear(), START, END, LIGHT, bucket_seconds=60)
    assert option["xAxis"][0]["min"] == axes.milliseconds(START)
    assert option["xAxis"][0]["max"] == axes.milliseconds(END)
    assert len(option["graphic"]) == len(fleet.GRIDS) and fleet_option()["graphic"] == []


def test_the_threshold_a_deploy_and_a_paging_alert_are_drawn():
    mark = fleet.Mark(START + timedelta(hours=1), "deploy")
    band = fleet.Band(START + timedelta(hours=1), END, "TTFT burns")
    option = fleet_option(ttft_threshold_seconds=2.0, marks=[mark], bands=[band])
    assert series(option, "p95")["markLine"]["data"] == [{"yAxis": 2.0}]
    assert series(option, "p50")["markLine"]["data"][0]["xAxis"] == axes.milliseconds(mark.at)
    assert series(option, "p50")["markArea"]["data"][0][1]["xAxis"] == axes.milliseconds(END)
    assert option["yAxis"][0]["name"] == "TTFT s, SLO 2 s"


def test_marks_close_together_are_named_once():
    close = [fleet.Mark(START + timedelta(minutes=minute), f"m{minute}") for minute in (0, 1, 90)]
    assert [mark.title for mark in fleet.apart(close, START, END)] == ["m90", "m1"]


def test_lines_stand_in_sorted_order_in_their_fixed_colours():
    frame = pl.DataFrame({"model": ["b", "a"], "bucket_at": [START, START], "ttft_p95_seconds": [1.0, 2.0]})
    option = lines.by_entity(
        frame,
        "model",
        "ttft_p95_seconds",
        START,
        END,
        LIGHT,
        LIGHT.of(["a", "b"]),
        title="s",
        unit="%.3f s",
        bucket_seconds=60,
    )
    assert [(one["name"], one["lineStyle"]["color"]) for one in option["series"]] == [
        ("a", LIGHT.entities[0]),
        ("b", LIGHT.entities[1]),
    ]


def test_an_overspent_budget_is_drawn_below_zero():
    frame = pl.DataFrame({"bucket_at": [START], "budget_left_ratio": [-1.16]})
    option = lines.budget_burn_down(frame, START, END, LIGHT, colour=LIGHT.page, warn_ratio=0.25)
    assert option["yAxis"]["min"] == -150 and option["series"][0]["data"][-1][1] == -116


def test_a_histogram_counts_every_value_once():
    values = [0.001, 0.5, 1, 2, 3, 1000]
    edges = distribution.bin_edges(values)
    assert sum(distribution.histogram(values, edges).counts) == len(values)


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [float("nan")], [0.3, 0.3]])
def test_edges_rise_whatever_the_sample(values):
    edges = distribution.bin_edges(values)
    assert all(low < high for low, high in itertools.pairwise(edges))


def test_samples_of_unequal_size_are_compared_as_shares():
    option = distribution.overlay_chart([1.0, 2.0], [1.0, 2.0] * 50, LIGHT, unit="tokens")
    now, before = (series(option, name)["data"] for name in ("now", "reference"))
    assert now == before
    assert sum(now) == pytest.approx(100, abs=0.1)


def test_a_share_of_nearly_all_requests_ends_its_axis_at_100():
    whole = distribution.overlay_chart([0.0] * 50, [0.7, 0.8, 0.9] * 50, LIGHT, unit="ratio")
    part = distribution.overlay_chart([0.1, 0.2, 0.3] * 50, [0.7, 0.8, 0.9] * 50, LIGHT, unit="ratio")
    assert whole["yAxis"]["max"] == 100
    assert "max" not in part["yAxis"]


def test_bins_over_the_threshold_are_red_and_empty_bins_are_kept():
    bins = pl.DataFrame({"low": [1.0, 2.0, 4.0], "high": [1.19, 2.38, 4.76], "requests_count": [5, 3, 1]})
    option = distribution.spread_chart(bins, LIGHT, unit="s", threshold=2.0, threshold_title="SLO 2 s")
    data = option["series"][0]["data"]
    assert [bar["value"] for bar in data] == [5, 0, 0, 0, 3, 0, 0, 0, 1]
    assert [bar["itemStyle"]["color"] == LIGHT.page for bar in data] == [False] * 4 + [True] * 5


def test_no_bins_say_so():
    empty = pl.DataFrame(schema={"low": pl.Float64, "high": pl.Float64, "requests_count": pl.Int64})
    assert "No request" in distribution.spread_chart(empty, LIGHT, unit="s")["title"]["text"]


def test_days_stack_teams_below_and_idle_hatched_on_top():
    day = date(2026, 11, 1)
    amounts = {(day, "search"): Decimal("1.005"), (day, "warm_idle"): Decimal(2)}
    option = spend.daily_stack(amounts, [day], ["search"], LIGHT, LIGHT.of(["search"]))
    assert [one["name"] for one in option["series"]] == ["search", "idle"]
    assert "decal" in option["series"][1]["itemStyle"]
    assert {one["stack"] for one in option["series"]} == {"cost"}


def test_the_largest_rise_stands_on_top_and_is_red():
    option = spend.movers([("a", Decimal(-5)), ("b", Decimal(20))], LIGHT)
    assert option["yAxis"]["data"] == ["b", "a"]
    assert [bar["itemStyle"]["color"] for bar in option["series"][0]["data"]] == [LIGHT.page, LIGHT.ok]


def spans(rows):
    keys = ("span_id", "parent_span_id", "name", "offset", "duration_seconds", "outcome")
    frame = pl.DataFrame([dict(zip(keys, row, strict=True)) for row in rows], infer_schema_length=None)
    return frame.with_columns(started_at=pl.lit(START) + pl.duration(milliseconds=pl.col("offset") * 1000))


def test_a_trace_is_a_tree_in_the_order_of_time():
    steps = waterfall.order_spans(
        spans(
            [
                ("2", "1", "request m", 1.0, 5.0, "ok"),
                ("1", None, "gateway", 0.0, 7.0, None),
                ("2.queue", "2", "queue", 1.0, 1.0, None),
                ("2.decode", "2", "decode", 2.0, 4.0, None),
            ]
        )
    )
    assert [(step.name, step.depth) for step in steps] == [
        ("gateway", 0),
        ("request m", 1),
        ("queue", 2),
        ("decode", 2),
    ]
    assert [step.offset_seconds for step in steps] == [0, 1, 1, 2]


def test_a_span_whose_parent_is_lost_or_itself_is_shown_at_the_top():
    steps = waterfall.order_spans(spans([("1", "gone", "a", 0.0, 1.0, None), ("2", "2", "b", 0.5, 1.0, None)]))
    assert [(step.name, step.depth) for step in steps] == [("a", 0), ("b", 0)]


def test_a_failed_request_is_red_in_the_waterfall():
    steps = waterfall.order_spans(spans([("1", None, "request m", 0.0, 1.0, "error")]))
    option = waterfall.waterfall_chart(steps, LIGHT)
    assert option["series"][1]["data"][0]["itemStyle"]["color"] == LIGHT.page
    assert waterfall.waterfall_chart([], LIGHT)["series"] == []


def test_a_queue_of_no_length_still_stands_before_its_prefill():
    rows = [
        ("p", "1", "prefill", 0.0, 1.0, None),
        ("q", "1", "queue", 0.0, 0.0, None),
        ("1", None, "request", 0.0, 2.0, "ok"),
    ]
    assert [step.name for step in waterfall.order_spans(spans(rows))] == ["request", "queue", "prefill"]
