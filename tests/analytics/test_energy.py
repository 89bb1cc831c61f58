"""Energy and carbon: what was measured, split exactly; what was not is said."""

from contextlib import closing
from datetime import date, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.energy.factors import Factor, chosen, load_factors
from analytics.energy.report import Inventoried, Measured, energy_report, energy_rows, site_hours
from analytics.errors import AnalyticsError
from collector.client import FileClient

START = datetime(2026, 11, 1)
DAY, NEXT = date(2026, 11, 1), date(2026, 11, 2)
FACTORS = """
host_ratio: [{region: "*", valid_from: 2025-01-01, value: "0.5", source: a test}]
pue: [{region: "*", valid_from: 2025-01-01, value: "1.2", source: a test}]
grid_grams_per_kwh: [{region: "eu*", valid_from: 2025-01-01, value: "250", source: a test}]
"""


@pytest.fixture
def factors(tmp_path):
    (tmp_path / "factors.yaml").write_text(FACTORS)
    return load_factors(tmp_path / "factors.yaml")


def samples(replica, watts, minutes, every=1):
    at = [START + timedelta(minutes=minute) for minute in range(0, minutes + 1, every)]
    return pa.table({
        "gpu_uuid": [f"GPU-{replica}"] * len(at), "sampled_at": at, "replica": [replica] * len(at),
        "power_watts": [float(watts)] * len(at), "energy_joules": [watts * 60.0 * every * k for k in range(len(at))],
    })  # fmt: skip


def replica(name, region="eu-1", gpu_count=1):
    return pa.table({
        "replica": [name], "valid_from": [START], "valid_to": [START + timedelta(hours=2)], "model": ["m"],
        "region": [region], "gpu_type": ["H100"], "gpu_count": pa.array([gpu_count], pa.int32()),
    })  # fmt: skip


def request(number, name, team, minute, seconds):
    at = START + timedelta(minutes=minute)
    return {
        "trace_id": f"{number:032x}", "span_id": f"{number:016x}", "started_at": at,
        "ended_at": at + timedelta(seconds=seconds), "team": team, "model": "m", "replica": name, "outcome": "ok",
        "input_tokens": 100, "output_tokens": 10, "source": "test", "estimated": False,
    }  # fmt: skip


@pytest.fixture
def store(tmp_path):
    with closing(FileClient(tmp_path / "f.duckdb", write=True)) as client:
        yield client


def test_a_team_bears_the_energy_of_the_time_it_used(store, factors):
    store.land("gpu_samples", samples("r0", 300, 120))
    store.land("replicas", replica("r0"))
    store.land("requests", pa.Table.from_pylist([request(1, "r0", "a", 0, 900), request(2, "r0", "b", 20, 900)]))
    found = energy_report(store, DAY, NEXT, factors, method="tokens")
    assert found.gpu_millijoules == 300 * 7200 * 1000
    assert found.site_millijoules == found.gpu_millijoules * 1.5 * 1.2
    assert found.carbon_micrograms == found.site_millijoules * 250 // 3600
    assert (found.coverage_ratio, found.integrated_millijoules, found.lacking) == (1.0, 0, [])
    rows = {row["team"] or row["bucket"]: row for row in energy_rows(found, "team").to_dicts()}
    quarter = 300 * 900 * 1000 * 1.8
    assert (rows["a"]["site_millijoules"], rows["b"]["site_millijoules"]) == (quarter, quarter)
    assert rows["warm_idle"]["site_millijoules"] == found.site_millijoules - 2 * quarter
    assert rows["a"]["watt_hours_per_request"] == pytest.approx(300 * 0.25 * 1.8)
    assert rows["a"]["watt_hours_per_million_tokens"] == pytest.approx(300 * 0.25 * 1.8 / 110 * 1e6)


def test_what_was_not_measured_is_said_and_is_not_nought(store, factors):
    store.land("gpu_samples", samples("r0", 300, 60))
    store.land("replicas", pa.concat_tables([replica("r0", region="ap-1"), replica("r1", gpu_count=3)]))
    found = energy_report(store, DAY, NEXT, factors)
    assert found.coverage_ratio == 1 / 8
    assert found.carbon_micrograms == 0
    assert found.lacking == [
        "no grid_grams_per_kwh for region ap-1: set it in analytics.energy_factors_file",
        "replica r0: no GPU samples in 1 hours",
        "replica r1: no GPU samples in 2 hours",
    ]


def test_energy_of_a_replica_that_no_inventory_has_is_not_lost(store, factors):
    store.land("gpu_samples", samples("r9", 300, 60))
    found = energy_report(store, DAY, NEXT, factors)
    assert found.site_millijoules == round(300 * 3600 * 1000 * 1.8)
    assert found.entries["bucket"].to_list() == ["warm_idle"]


def test_every_team_model_and_day_adds_up_to_the_same_whole(store, factors):
    store.land("gpu_samples", pa.concat_tables([samples("r0", 333, 119), samples("r1", 71, 77)]))
    store.land("replicas", pa.concat_tables([replica("r0"), replica("r1")]))
    calls = [request(k, f"r{k % 2}", "abc"[k % 3], k * 3 % 110, 7 + k) for k in range(60)]
    store.land("requests", pa.Table.from_pylist(calls))
    found = energy_report(store, DAY, NEXT, factors)
    for by in ("team", "app", "model", "replica", "day"):
        rows = energy_rows(found, by)
        assert int(rows["site_millijoules"].sum()) == found.site_millijoules
        assert int(rows["carbon_micrograms"].sum()) == found.carbon_micrograms
        assert int(rows["requests_count"].sum()) == 60
    assert found.entries.filter(pl.col("site_millijoules") < 0).is_empty()


HOURS = st.dictionaries(
    st.tuples(st.sampled_from(["r0", "r1"]), st.integers(0, 30).map(lambda k: START + timedelta(hours=k))),
    st.builds(Measured, st.integers(0, 10**12), st.just(0), st.integers(0, 10**10)),
)


@settings(deadline=None)
@given(HOURS)
def test_site_energy_is_rounded_once_an_hour(hours):
    known = {cell: Inventoried("m", "eu-1", 1, 1) for cell in hours}
    site, carbon, lacking = site_hours(hours, known, load_factors())
    assert lacking == []
    assert [hour.hour_at for hour in site] == sorted(hour.hour_at for hour in site)
    for one, gas in zip(site, carbon, strict=True):
        exact = hours[one.replica, one.hour_at].millijoules * 1.43 * 1.56
        assert one.units == pytest.approx(exact, abs=0.51, rel=1e-12)
        assert gas.units == pytest.approx(one.units * 242 / 3600, abs=0.51, rel=1e-12)


def test_the_nearest_region_and_the_latest_day_win():
    rows = [
        Factor(region=region, valid_from=day, value=value, source="a test")
        for region, day, value in (
            ("*", date(2024, 1, 1), 1), ("eu*", date(2024, 1, 1), 2), ("eu*", date(2025, 1, 1), 3),
            ("eu-north*", date(2026, 1, 1), 4),
        )
    ]  # fmt: skip

    def value(region, day):
        found = chosen(rows, region, day)
        return found and int(found.value)

    assert [value("eu-west", date(2024, 6, 1)), value("eu-west", date(2025, 6, 1))] == [2, 3]
    assert [value("eu-north-1", date(2025, 6, 1)), value("eu-north-1", date(2026, 6, 1))] == [3, 4]
    assert [value(None, date(2026, 1, 1)), value("us", date(2023, 1, 1))] == [1, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pue: [", "holds no energy factors"),
        ("pue: []", "host_ratio"),
        (FACTORS.replace('"1.2"', '"0.9"'), "a PUE is at least 1"),
        (FACTORS.replace('"0.5"', '"much"'), "decimal"),
        (FACTORS.replace("source: a test", "origin: x"), "source"),
    ],
)
def test_a_wrong_file_of_factors_says_what_is_wrong(tmp_path, text, says):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(AnalyticsError, match=says):
        load_factors(tmp_path / "f.yaml")


def test_a_file_of_factors_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AnalyticsError, match="energy_factors_file"):
        load_factors(tmp_path / "none.yaml")


def test_the_command_tells_the_boundary_and_what_is_lacking(store, cli, tmp_path):
    store.land("gpu_samples", samples("r0", 300, 60))
    store.land("replicas", replica("r0"))
    store.land("requests", pa.Table.from_pylist([request(1, "r0", "a", 0, 900)]))
    store.close()
    ran = cli("cost", "energy", "--db", tmp_path / "f.duckdb", "--day", "2026-11-01")
    assert ran.code == 1
    assert "making the hardware are not in it" in ran.err
    assert "replica r0: no GPU samples in 1 hours" in ran.err
    assert ran.out.splitlines()[1].startswith("a ")
