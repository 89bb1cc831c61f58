"""The commands as a person runs them: what stands on stdout, what on stderr, and the exit code."""

import json
from datetime import date, timedelta

import pytest

import fleetmeter
from analytics import answers
from analytics.cost_tables import DIMENSIONS


@pytest.fixture
def call(store, now, tmp_path, capfd):
    """Run a command on the store's file; returns (exit code, stdout, stderr)."""

    def _call(*words, when=now):
        store.client.close()
        code = fleetmeter.run(
            fleetmeter.cli, [*words, "--db", str(tmp_path / "fleet.duckdb"), "--now", when.isoformat()]
        )
        told = capfd.readouterr()
        return code, told.out, told.err

    return _call


@pytest.fixture
def priced(store, now):
    begins = now.replace(day=1, hour=0)
    store.rows(
        "rate_cards",
        {"rate_id": "a", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": 2_000_000_000, "valid_from": begins},
    )
    store.rows("replicas", {"replica": "r", "valid_from": begins, "gpu_type": "H100", "gpu_count": 1, "model": "m"})
    store.requests(
        {
            "started_at": now - timedelta(hours=2),
            "ended_at": now - timedelta(hours=1),
            "replica": "r",
            "model": "m",
            "team": "x",
            "input_tokens": 10,
        }
    )
    return store


def test_slo_status_is_quiet_when_all_is_well(store, now, call):
    store.requests({"started_at": now - timedelta(hours=1), "model": "m"})
    code, out, _ = call("slo", "status")
    assert code == 0
    assert "availability" in out
    assert "no_data" in out  # no latency was measured


def test_slo_status_finds_an_exhausted_budget(store, now, call):
    store.requests({"started_at": now - timedelta(hours=1), "model": "m", "outcome": "error"})
    code, out, _ = call("slo", "status", "--format", "json")
    (row,) = [row for row in json.loads(out) if row["slo"] == "availability"]
    assert code == 1
    assert (row["state"], row["budget_left_ratio"], row["bad_count"]) == ("exhausted", pytest.approx(-999), 1)


def test_slo_status_of_another_model_says_where_to_look(store, now, call):
    store.requests({"started_at": now - timedelta(hours=1), "model": "m"})
    code, out, err = call("slo", "status", "--model", "n")
    assert (code, out) == (2, "")
    assert "no request of model n in the window before 2026-11-10 12:00 UTC; look from another --now" in err
    assert "the newest request is of 2026-11-10 11:00 UTC" in err


def test_slo_report_goes_day_by_day(store, now, call):
    store.requests(*({"started_at": now - timedelta(days=day), "model": "m"} for day in range(1, 4)))
    code, out, _ = call("slo", "report", "--format", "csv")
    assert code == 0
    assert out.splitlines()[1] == "availability,m,2026-11-07,1,0,0.0,1.0"
    assert len(out.splitlines()) == 4


def test_slo_check_tells_what_a_file_promises_or_why_not(tmp_path, capfd):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("- {name: a, sli: ttft, threshold_seconds: 2, objective_ratio: 0.99}")
    bad.write_text("- {name: a, sli: ttft, objective_ratio: 0.5}")
    assert fleetmeter.run(fleetmeter.cli, ["slo", "check", str(good)]) == 0
    assert fleetmeter.run(fleetmeter.cli, ["slo", "check", str(bad)]) == 1
    assert fleetmeter.run(fleetmeter.cli, ["slo", "check", str(tmp_path / "absent.yaml")]) == 2
    bad.write_text("- {name: a, sli: [")
    assert fleetmeter.run(fleetmeter.cli, ["slo", "check", str(bad)]) == 2
    told = capfd.readouterr()
    assert "99 %" in told.out
    assert "SLO a: a ttft SLO needs threshold_seconds" in told.err


def test_cost_report_adds_up_to_the_bill(priced, call):
    code, out, err = call("cost", "report", "--day", "2026-11-10", "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert [(row["team"] or row["bucket"], row["amount_usd"]) for row in rows] == [
        ("x", "2.000000000"),
        ("warm_idle", "22.000000000"),
    ]
    assert "bill 24.00 USD from 2026-11-10 up to 2026-11-10" in err


@pytest.mark.parametrize("by", list(DIMENSIONS))
@pytest.mark.parametrize("frozen", [False, True])
def test_cost_report_renders_a_table_by_anything(october, cost, by, frozen):
    if frozen:
        cost("close", "--month", "2026-10")
    ran = cost("report", "--month", "2026-10", "--by", by)
    assert ran.code == 0, ran.err
    heading, *rows, rule, total = ran.out.splitlines()
    assert heading.split()[0] == (DIMENSIONS[by] or ("bucket",))[0]
    assert rows and set(rule) == {"-"}
    assert total.split()[0] == "total"
    assert "1,488.00" in total.split()


@pytest.mark.parametrize("by", list(DIMENSIONS))
def test_cost_report_is_the_same_bill_by_anything(priced, call, by):
    code, out, _ = call("cost", "report", "--from", "2026-11-01", "--to", "2026-11-10", "--by", by, "--format", "json")
    assert code == 0
    assert sum(row["amount_units"] for row in json.loads(out)) == (9 * 24 + 12) * 2_000_000_000


def test_cost_report_says_what_the_bill_lacks(priced, now, call):
    priced.rows(
        "replicas", {"replica": "s", "valid_from": now - timedelta(hours=1), "gpu_type": "B200", "gpu_count": 8}
    )
    code, _, err = call("cost", "report")
    assert code == 1
    assert "B200 of replica s: no rate" in err
    code, out, _ = call("cost", "rates", "missing", "--format", "csv")
    assert code == 1
    assert out.splitlines()[1].startswith("B200,,,,s,")


def test_cost_rates_list_shows_the_prices(priced, tmp_path, capfd):
    priced.client.close()
    assert fleetmeter.run(fleetmeter.cli, ["cost", "rates", "list", "--db", str(tmp_path / "fleet.duckdb")]) == 0
    assert "H100" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--day", "2026-11-10", "--month", "2026-11"], "name one range"),
        (["--from", "2026-11-10"], "needs both --from and --to"),
        (["--from", "2026-11-10", "--to", "2026-11-09"], "--from 2026-11-10 is after --to 2026-11-09"),
        (["--month", "November"], "'November' is no month; write 2026-11"),
        (["--day", "today"], "'today' is no day; write 2026-11-21"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(priced, call, words, says):
    code, out, err = call("cost", "report", *words)
    assert (code, out) == (2, "")
    assert says in err


def test_budget_status_finds_an_overspent_budget(priced, now, call):
    common = {"month": date(2026, 11, 1), "currency": "USD", "team": "x"}
    priced.rows("budgets", {"budget_id": "a", "amount_units": 1_000_000_000, **common})
    code, out, _ = call("cost", "budget", "status")
    assert code == 1
    assert "200 %" in out
    code, _, err = call("cost", "budget", "status", "--month", "2026-12")
    assert code == 0
    assert "no budget for 2026-12" in err


def test_drift_scan_finds_a_shift(store, now, call):
    for day in range(5):
        store.requests(
            *(
                {
                    "started_at": now - timedelta(days=day, seconds=s + 1),
                    "input_tokens": (s % 97 + 1) * (9 if day == 0 else 1),
                }
                for s in range(600)
            ),
            model="m",
        )
    code, out, err = call("drift", "scan", "--drifted-only", "--format", "json")
    (row,) = json.loads(out)
    assert code == 1
    assert row["metric"] == "input_tokens"
    assert "1 of 1 judged streams drifted" in err
    code, out, err = call("drift", "compare", "--model", "m", "--format", "csv")
    assert code == 1
    assert err.startswith("drifted: median 47 →")
    assert out.splitlines()[0] == "quantile,reference,current,change_ratio"


def test_drift_of_nothing_says_where_to_look(store, call):
    code, _, err = call("drift", "scan")
    assert code == 2
    assert "no request in the 14 days before" in err
    code, _, err = call("drift", "compare", "--model", "m")
    assert code == 2
    assert "no request to model m in the history" in err


def test_a_time_with_an_offset_is_read_as_utc(store, now, tmp_path, capfd):
    store.requests({"started_at": now, "model": "m"})
    store.client.close()
    words = ["slo", "status", "--db", str(tmp_path / "fleet.duckdb"), "--format", "csv", "--now"]
    assert fleetmeter.run(fleetmeter.cli, [*words, "2026-11-10T13:00:01+01:00"]) == 0
    assert fleetmeter.run(fleetmeter.cli, [*words, "2026-11-10T12:00:00Z"]) == 2  # the request is not over yet
    assert fleetmeter.run(fleetmeter.cli, [*words, "yesterday"]) == 2
    assert "'yesterday' is no time" in capfd.readouterr().err


@pytest.mark.parametrize("group", ["slo", "cost", "drift"])
def test_help_loads_no_heavy_library(group):
    import subprocess
    import sys

    code = f"import sys, fleetmeter; fleetmeter.run(fleetmeter.cli, [{group!r}, '--help']); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"polars", "duckdb", "pyarrow", "numpy", "scipy"} & set(loaded)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (answers.factor(2152.58), "2,153"),
        (answers.factor(100.0), "100"),
        (answers.factor(0.2345), "0.234"),
        (answers.factor(1e-98), "1e-98"),
        (answers.percent(0.9466), "94.66 %"),
        (answers.percent(9.417e-8), "< 0.001 %"),
        (answers.percent(0.0), "0 %"),
        (answers.percent(-999.0), "-99,900 %"),
    ],
)
def test_tables_write_numbers_as_people_do(shown, text):
    assert shown == text
