"""Each incident does what its truth says, and nothing before it begins."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from analytics.simulator.config import FleetConfig
from analytics.simulator.errors import SimulatorError
from analytics.simulator.fleet import SimulatedFleet, simulate
from analytics.simulator.presets import load_preset, parse_fleet
from tests.analytics.simulator.conftest import END, SMALL, START
from tests.analytics.simulator.test_fleet import frame


def between(rows: pl.DataFrame, hours_from: float, hours_to: float) -> pl.DataFrame:
    """Rows that started between so many hours before the end."""
    return rows.filter(
        pl.col("started_at").is_between(END - timedelta(hours=hours_from), END - timedelta(hours=hours_to))
    )


def test_a_deploy_makes_tokens_slower_on_its_version_alone(fleet: SimulatedFleet) -> None:
    little = frame(fleet.tables["requests"]).filter(model="little", outcome="ok")
    speed = little.group_by("engine_version").agg(pl.col("tpot_seconds").median())
    by_version = dict(speed.iter_rows())
    assert by_version["0.32.0"] / by_version["0.31.0"] == pytest.approx(3.0, rel=0.25)
    assert between(little, 30, 2)["engine_version"].unique().to_list() == ["0.31.0"]
    deploy = frame(fleet.tables["events"]).filter(kind="deploy")
    assert deploy["occurred_at"].to_list() == [END - timedelta(hours=2)]
    lives = frame(fleet.tables["replicas"]).filter(replica="little-1").sort("valid_from")
    assert lives["engine_version"].to_list() == ["0.31.0", "0.32.0"]
    assert lives["valid_to"][0] == lives["valid_from"][1] == END - timedelta(hours=2) + timedelta(seconds=120)


def test_a_collapse_of_the_cache_ends_hits_for_its_team_while_it_lasts(fleet: SimulatedFleet) -> None:
    red = frame(fleet.tables["requests"]).filter(team="red", outcome="ok")
    before, during, after = between(red, 10, 7), between(red, 7, 4), between(red, 4, 0)
    assert before["cached_tokens"].sum() / before["input_tokens"].sum() > 0.5
    assert during["cached_tokens"].sum() == 0
    assert after["cached_tokens"].sum() / after["input_tokens"].sum() > 0.5
    assert during["ttft_seconds"].median() > before["ttft_seconds"].median()  # type: ignore[operator]
    blue = between(frame(fleet.tables["requests"]).filter(team="blue", outcome="ok"), 7, 4)
    assert blue["cached_tokens"].sum() > 0


def test_a_spike_multiplies_requests_and_answers_of_its_team(small: FleetConfig, fleet: SimulatedFleet) -> None:
    calm = small.model_copy(update={"incidents": tuple(i for i in small.incidents if i.name != "spike")})
    without = frame(simulate(calm, 7, START, END).tables["requests"]).filter(team="blue")
    spiked = frame(fleet.tables["requests"]).filter(team="blue")
    inside, outside = between(spiked, 12, 8), between(spiked, 8, 0)
    assert inside.height / between(without, 12, 8).height == pytest.approx(3.0, rel=0.2)
    answered = pl.col("output_tokens").filter(pl.col("outcome") == "ok").mean()
    assert inside.select(answered).item() / between(without, 12, 8).select(answered).item() == pytest.approx(
        2.0, rel=0.15
    )
    assert outside.height == pytest.approx(between(without, 8, 0).height, rel=0.15)


def test_a_gpu_fault_slows_kills_and_silences_its_replica(fleet: SimulatedFleet) -> None:
    begins, dead = END - timedelta(hours=20), END - timedelta(hours=19.5)
    serves = dead + timedelta(hours=1.5, seconds=240)
    rows = frame(fleet.tables["requests"]).filter(replica="big-1")
    lost = rows.filter(outcome="engine_dead")
    assert lost.height > 0 and (lost["ended_at"] >= dead).all()
    assert rows.filter(
        (pl.col("started_at") > dead + timedelta(seconds=20)) & (pl.col("started_at") < serves)
    ).is_empty()
    assert not rows.filter(pl.col("started_at") >= serves).is_empty()
    slow = rows.filter(pl.col("started_at").is_between(begins, dead), outcome="ok")["tpot_seconds"].median()
    assert slow > 1.8 * rows.filter(pl.col("started_at") < begins, outcome="ok")["tpot_seconds"].median()  # type: ignore[operator]
    samples = frame(fleet.tables["gpu_samples"]).filter(replica="big-1")
    assert samples.filter(pl.col("xid").is_not_null()).sort("sampled_at")["xid"].to_list() == [63, 79]
    first = samples.filter(gpu_index=0)
    gone = first.filter(pl.col("sampled_at").is_between(dead + timedelta(minutes=2), dead + timedelta(hours=1.4)))
    assert gone.is_empty(), "a GPU off the bus sends nothing"
    assert not samples.filter(gpu_index=1).filter(pl.col("sampled_at").is_between(dead, serves)).is_empty()
    held = first.filter(pl.col("sampled_at").is_between(begins + timedelta(minutes=1), dead, closed="left"))
    assert held["clock_event_reasons"].list.contains("hw_thermal_slowdown").all()
    series = frame(fleet.tables["metric_series"]).filter(replica="big-1")
    points = frame(fleet.tables["metric_points"]).join(series.select("series_id", "name"), on="series_id")
    down = points.filter(pl.col("observed_at").is_between(dead, serves, closed="none"))
    assert set(down["name"]) == {"up"} and down["value"].sum() == 0
    total = points.filter(name="infer.engine.output_tokens").sort("observed_at")
    assert (total["value"].diff() < 0).sum() == 1, "the counter begins again with the new engine"


def test_the_truth_names_each_incident_and_whom_it_touched(fleet: SimulatedFleet) -> None:
    truth = frame(fleet.truth["truth_incidents"])
    assert set(truth["incident_id"]) == {"fault", "spike", "collapse", "deploy"}
    assert dict(truth.select("incident_id", "to_at").iter_rows())["deploy"] is None
    touched = frame(fleet.truth["truth_incident_requests"])
    rows = frame(fleet.tables["requests"]).join(touched, on=["trace_id", "span_id"])
    assert rows.height == touched.height
    assert rows.filter(incident_id="fault")["replica"].unique().to_list() == ["big-1"]
    assert rows.filter(incident_id="deploy")["model"].unique().to_list() == ["little"]
    assert rows.filter(incident_id="spike")["team"].unique().to_list() == ["blue"]
    dead = frame(fleet.tables["requests"]).filter(outcome="engine_dead")
    assert dead.join(touched.filter(incident_id="fault"), on="trace_id", how="anti").is_empty()


def test_a_rollback_brings_the_old_version_and_speed_back() -> None:
    incident = {**SMALL["incidents"][3], "hours_before_end": 6, "duration_hours": 3}
    config = parse_fleet({**SMALL, "incidents": [incident]}, "test")
    rows = frame(simulate(config, 7, START, END).tables["requests"]).filter(model="little", outcome="ok")
    assert between(rows, 2.9, 0)["engine_version"].unique().to_list() == ["0.31.0"]
    assert between(rows, 2.9, 0)["tpot_seconds"].median() == pytest.approx(
        between(rows, 30, 6)["tpot_seconds"].median(), rel=0.1
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"incidents": [{**SMALL["incidents"][0], "deployment": "huge"}]},
            "names deployment 'huge'; known: big, little",
        ),
        ({"incidents": [{**SMALL["incidents"][0], "replica_index": 3}]}, "replica 3 of 'big', which has 3"),
        ({"incidents": [{**SMALL["incidents"][1], "team": "green"}]}, "team 'green', which has no stream"),
        ({"incidents": [SMALL["incidents"][1]] * 2}, "a name of its own"),
        ({"streams": [{"team": "x", "app": "y", "model": "none"}]}, "asks for model 'none'"),
        ({"streams": [{"team": "x", "app": "y", "model": "big", "arrival": "pareto"}]}, "arrival"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_fleet_that_cannot_be_says_why(change: dict[str, object], says: str) -> None:
    with pytest.raises(SimulatorError, match=says):
        parse_fleet({**SMALL, **change}, "test")


def test_the_demo_holds_what_it_promises() -> None:
    config = load_preset("demo")
    assert len(config.models) == 3 and all(model.replicas == 4 for model in config.models)
    assert len({stream.team for stream in config.streams} - {None}) == 6
    assert {incident.kind for incident in config.incidents} == {
        "gpu_fault",
        "cost_spike",
        "cache_collapse",
        "latency_regression",
    }
    fleet = simulate(config, 3, END - timedelta(days=2), END)
    rows = frame(fleet.tables["requests"])
    latest = rows.filter(pl.col("started_at") > END - timedelta(minutes=60), model="llama-3.3-70b", outcome="ok")
    assert (latest["tpot_seconds"] > 0.1).mean() > 0.3, "the deploy burns the TPOT budget now"
    earlier = rows.filter(pl.col("started_at") < END - timedelta(hours=3), outcome="ok")
    assert ((earlier["tpot_seconds"] > 0.1).mean() or 0) < 0.005
    assert 0.01 < rows["team"].null_count() / rows.height < 0.06
