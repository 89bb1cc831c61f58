"""A simulated fleet: the same for the same seed, the same in pieces, and true to its truth."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pyarrow as pa
import pytest

from analytics.simulator.config import FleetConfig
from analytics.simulator.errors import SimulatorError
from analytics.simulator.fleet import SimulatedFleet, simulate
from analytics.simulator.stream import RELEASED_BY, FleetStream
from collector.client import FileClient
from tests.analytics.simulator.conftest import END, START

HOUR = 3_600_000_000


def frame(table: pa.Table) -> pl.DataFrame:
    got = pl.from_arrow(table)
    assert isinstance(got, pl.DataFrame)
    return got


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(small: FleetConfig, fleet: SimulatedFleet) -> None:
    again = simulate(small, 7, START, END)
    for name, table in {**fleet.tables, **fleet.truth}.items():
        assert table.equals({**again.tables, **again.truth}[name]), name
    other = simulate(small, 8, START, END)
    assert not fleet.tables["requests"].equals(other.tables["requests"])


def test_a_longer_simulation_holds_the_rows_of_the_shorter(small: FleetConfig, fleet: SimulatedFleet) -> None:
    longer = simulate(small, 7, START, END + timedelta(hours=3), anchor=END)
    for name in ("requests", "gpu_samples", "metric_points", "events"):
        column = "ended_at" if name == "requests" else RELEASED_BY[name]
        kept = frame(longer.tables[name]).filter(pl.col(column) <= END)
        assert kept.equals(frame(fleet.tables[name])), name


@pytest.mark.parametrize("minutes", [1, 7, 200])
def test_a_stream_gives_the_same_rows_in_steps_of_any_length(small: FleetConfig, minutes: int) -> None:
    until = END + timedelta(minutes=200)
    stream = FleetStream(small, 7, START, END, horizon=timedelta(hours=1))
    pulled = [stream.pull(END)]
    while (now := END + timedelta(minutes=minutes * len(pulled))) <= until:
        pulled.append(stream.pull(now))
    pulled.append(stream.pull(until))
    assert stream.pull(until)["requests"].num_rows == 0
    whole = simulate(small, 7, START, until + timedelta(hours=1), anchor=END)
    for name, column in RELEASED_BY.items():
        got = pa.concat_tables([part[name] for part in pulled])
        due = frame(whole.tables[name]).filter(pl.col(column) <= until)
        keys = due.columns[:2]
        assert frame(got).sort(keys).equals(due.sort(keys)), name
    assert sum(part["rate_cards"].num_rows for part in pulled) == 1


def test_every_row_lands_in_the_schema_once(fleet: SimulatedFleet, tmp_path) -> None:
    client = FileClient(tmp_path / "fleet.duckdb", write=True)
    try:
        for name, table in fleet.tables.items():
            assert client.land(name, table) == table.num_rows, name
            assert client.land(name, table) == 0, name
            columns = client.query("SELECT column_name FROM duckdb_columns() WHERE table_name = $name", {"name": name})
            known = [column for column in columns["column_name"].to_pylist() if column in table.column_names]
            assert table.column_names == known, name
    finally:
        client.close()


def test_times_of_a_request_follow_each_other_and_add_up(fleet: SimulatedFleet) -> None:
    rows = frame(fleet.tables["requests"])
    assert (rows["ended_at"] <= END).all() and (rows["started_at"] >= START).all()
    assert ((rows["received_at"] - rows["ended_at"]).dt.total_microseconds().is_between(500_000, 1_500_000)).all()
    ok = rows.filter(outcome="ok")
    assert (
        ok.select(pl.col("ttft_seconds", "e2e_seconds", "queue_seconds", "prefill_seconds").is_not_null().all()).row(0)
        == (True,) * 4
    )
    before = ok["ttft_seconds"] - ok["queue_seconds"] - ok["prefill_seconds"]
    rest = (ok["e2e_seconds"] - ok["ttft_seconds"] - ok["decode_seconds"]).abs()
    assert before.is_between(0.0119, 0.0121).all(), "the overhead before the engine"
    assert (rest < 3e-6).all()
    assert (ok["cached_tokens"] < ok["input_tokens"]).all()
    assert ok.filter((pl.col("output_tokens") > 1) & pl.col("tpot_seconds").is_null()).is_empty()
    assert ok.filter(~pl.col("stream"))["max_gap_seconds"].is_null().all()


def test_outcomes_say_why(fleet: SimulatedFleet) -> None:
    rows = frame(fleet.tables["requests"])
    assert set(rows["outcome"]) == {"ok", "client_disconnect", "rejected", "error", "engine_dead"}
    refused = rows.filter(outcome="rejected")
    assert refused["ttft_seconds"].is_null().all() and refused["output_tokens"].is_null().all()
    assert rows.filter(outcome="engine_dead")["replica"].unique().to_list() == ["big-1"]
    assert rows.filter(outcome="client_disconnect")["finish_reason"].unique().to_list() == ["abort"]
    assert rows["team"].null_count() == rows.filter(app="unknown").height > 0


def test_shares_and_idle_sum_to_every_hour_exactly(fleet: SimulatedFleet) -> None:
    shares = frame(fleet.truth["truth_shares"])
    hours = shares.group_by("replica", "hour_at").agg(pl.col("gpu_microseconds").sum())
    gpus = pl.when(pl.col("replica").str.starts_with("big")).then(2).otherwise(1)
    from_at = pl.max_horizontal(pl.col("hour_at"), pl.lit(START))
    to_at = pl.min_horizontal(pl.col("hour_at") + pl.duration(hours=1), pl.lit(END))
    hours = hours.with_columns(expected=gpus * (to_at - from_at).dt.total_microseconds())
    assert hours.height == 5 * 31
    assert hours.filter(pl.col("gpu_microseconds") != pl.col("expected")).is_empty()
    assert (shares["gpu_microseconds"] >= 0).all()
    split = shares.filter(bucket="request")
    assert (split["prefill_gpu_microseconds"] + split["decode_gpu_microseconds"] == split["gpu_microseconds"]).all()
    assert split.select("trace_id", "replica", "hour_at").is_unique().all()
    fault = shares.filter(bucket="fault")["gpu_microseconds"].sum()
    assert fault == 2 * 1.5 * HOUR


def test_all_that_used_a_gpu_is_in_the_shares(fleet: SimulatedFleet) -> None:
    used = frame(fleet.truth["truth_shares"]).filter(bucket="request").select("trace_id").unique()
    ran = frame(fleet.tables["requests"]).filter(pl.col("output_tokens") > 0)
    assert ran.join(used, on="trace_id", how="anti").is_empty()


def test_gpu_telemetry_agrees_with_the_truth(fleet: SimulatedFleet) -> None:
    shares = frame(fleet.truth["truth_shares"]).filter(bucket="request", replica="little-0")
    samples = frame(fleet.tables["gpu_samples"]).filter(replica="little-0")
    busy_seconds = samples["utilization_ratio"].sum() * 60
    assert busy_seconds == pytest.approx(shares["gpu_microseconds"].sum() / 1e6, rel=0.01)
    energy = samples["energy_joules"]
    assert energy[-1] - energy[0] == pytest.approx(samples["power_watts"][1:].sum() * 60, rel=0.001)
    assert samples["power_watts"].is_between(70, 350).all()


def test_counters_agree_with_the_requests(fleet: SimulatedFleet) -> None:
    series = frame(fleet.tables["metric_series"]).filter(replica="little-1")
    points = frame(fleet.tables["metric_points"]).join(series.select("series_id", "name"), on="series_id")
    last = {name: points.filter(name=name).sort("observed_at")["value"][-1] for name in series["name"]}
    seen = END.replace(second=0)
    rows = frame(fleet.tables["requests"]).filter(pl.col("replica") == "little-1", pl.col("ended_at") <= seen)
    finished = rows.filter(pl.col("output_tokens") > 0)
    assert last["infer.engine.requests_finished"] == finished.height
    assert last["infer.engine.output_tokens"] >= finished["output_tokens"].sum()
    assert last["infer.engine.output_tokens"] == pytest.approx(finished["output_tokens"].sum(), rel=0.01)
    assert last["infer.engine.cached_tokens"] == pytest.approx(finished["cached_tokens"].sum(), rel=0.01)
    assert points.filter(name="infer.engine.kv_cache_usage_ratio")["value"].is_between(0, 1).all()


def test_a_simulation_must_end_after_it_starts(small: FleetConfig) -> None:
    with pytest.raises(SimulatorError, match="must end after it starts"):
        simulate(small, 1, END, END)
    with pytest.raises(SimulatorError, match="before now"):
        FleetStream(small, 1, END, END)


def test_telemetry_is_coarse_in_history_and_fine_at_the_end(small: FleetConfig) -> None:
    coarse = small.model_copy(
        update={"telemetry": small.telemetry.model_copy(update={"history_interval_seconds": 600, "recent_hours": 1.0})}
    )
    times = frame(simulate(coarse, 7, START, END).tables["gpu_samples"]).filter(replica="little-0")["sampled_at"].sort()
    gaps = times.diff().dt.total_seconds().drop_nulls().value_counts().sort("sampled_at")
    assert gaps["sampled_at"].to_list() == [60, 600]
    assert gaps["count"][0] == 60
