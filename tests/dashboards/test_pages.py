"""Every page, run without a browser on a small real data file."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import streamlit as st

from alerts.state_store import StateStore, TickWrite
from collector.client import FileClient
from dashboards import reads, routes
from dashboards.boards import alert_strip, oncall_board
from tests.dashboards.synthetic import MODELS, SLOW_MODEL


def texts(app) -> str:
    kinds = (app.markdown, app.warning, app.error, app.info, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def metrics(app) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


@pytest.mark.parametrize("address", routes.BOARDS)
def test_each_page_draws_without_an_error(run, fleet_db, address):
    app = run(address, db=fleet_db)
    assert not app.exception
    assert not app.error
    assert "as of" in texts(app) and "ingest lag" in texts(app)


@pytest.mark.parametrize("address", routes.BOARDS)
def test_each_page_says_what_to_do_when_nothing_has_landed(run, tmp_path, address):
    FileClient(tmp_path / "empty.duckdb", write=True).close()
    app = run(address, db=tmp_path / "empty.duckdb")
    assert not app.exception and not app.error
    assert "No requests have landed yet" in texts(app) and "fleetmeter simulate demo" in texts(app)


@pytest.mark.parametrize("address", routes.BOARDS)
def test_each_page_says_how_to_start_a_collector_that_is_down(run, address):
    app = run(address, collector_url="http://127.0.0.1:9")
    assert not app.exception and not app.error
    assert "http\\://127.0.0.1\\:9" in texts(app) and "fleetmeter collect" in texts(app)


def test_the_tiles_say_what_analytics_say(run, fleet_db):
    app = run("oncall", {"range": "1h"}, db=fleet_db)
    since = reads.clock() - timedelta(hours=1)
    counted = "SELECT count(*) AS n FROM requests WHERE started_at >= $since::TIMESTAMP"
    rows = reads.client(reads.source()).query(counted, {"since": since}).to_pylist()
    rate = float(metrics(app)["Requests/s"])
    assert rate == pytest.approx(rows[0]["n"] / 3600, rel=0.2)
    assert metrics(app)["Waiting max"] not in ("0", "nan", "None")


def test_a_number_over_its_limit_is_coloured_by_the_limit_and_not_by_the_sign_of_its_change(run, fleet_db):
    app = run("oncall", {"range": "1h", "model": SLOW_MODEL}, db=fleet_db)
    tile = next(metric for metric in app.metric if metric.label.startswith("TTFT p95"))
    assert tile.proto.color == type(tile.proto).MetricColor.RED


def test_a_window_without_requests_says_no_traffic_and_never_zero(run, fleet_db):
    app = run("oncall", {"from": "2020-01-01T00:00", "to": "2020-01-01T01:00"}, db=fleet_db)
    assert not app.exception and not app.error
    assert [metrics(app)[name] for name in ("Error ratio", "Requests/s")] == ["No traffic", "No traffic"]
    assert "nan" not in str(metrics(app)).lower()


def test_a_link_that_is_no_time_is_told_and_the_newest_data_shown(run, fleet_db):
    app = run("oncall", {"from": "yesterday-ish", "to": "now"}, db=fleet_db)
    assert not app.exception
    assert "is not a time" in texts(app)
    assert metrics(app)["Requests/s"] != "No traffic"


def test_a_link_to_a_model_that_is_gone_shows_all_models(run, fleet_db):
    app = run("oncall", {"model": "no-such-model"}, db=fleet_db)
    assert not app.exception and not app.error
    assert app.selectbox(key="model").options == ["All models", *sorted(MODELS)]


def test_alerts_that_can_not_be_asked_are_told_and_take_nothing_else_down(run, fleet_db):
    app = run("oncall", db=fleet_db)
    assert "alerts unreachable" in texts(app) and "fleetmeter alert run" in texts(app)
    assert len(app.metric) == 6


def test_no_alert_means_something_only_after_the_rules_were_evaluated_and_not_long_after(run, fleet_db, tmp_path):
    store = StateStore(tmp_path / "state.sqlite")
    now = datetime.now(UTC).replace(tzinfo=None)
    seen = []
    for judged_at in (None, now, now - timedelta(minutes=10)):
        store.commit(TickWrite(judged_at, now))
        app = run("oncall", db=fleet_db, alerts_url=str(store.path))
        assert not app.exception
        seen.append(texts(app))
        st.cache_data.clear()
    store.close()
    assert "being evaluated for the first time" in seen[0] and "not judged yet" in seen[0]
    assert "0 paging" not in seen[0] and "No alert is" not in seen[0]
    assert "No alert is pending or firing." in seen[1] and "0 paging" in seen[1]
    assert "No alert was pending or firing 10" in seen[2]


def test_what_is_not_judged_yet_is_not_counted_as_none():
    page, ticket = SimpleNamespace(severity="page"), SimpleNamespace(severity="ticket")
    said = [" ".join(alert_strip.counted(found, judged=False)) for found in ([], [page], [ticket])]
    assert [" 0 " in text or "[0 " in text for text in said] == [False] * 3
    assert ["not judged yet" in text for text in said] == [True] * 3
    assert "1 paging" in said[1] and "1 ticket]" in said[2]
    assert [badge.split("[")[1] for badge in alert_strip.counted([ticket, ticket], judged=True)][1] == "2 tickets]"


def test_one_failing_panel_leaves_the_rest_of_the_page(run, fleet_db, monkeypatch, caplog):
    def broken(view):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(oncall_board, "replicas", broken)
    app = run("oncall", db=fleet_db)
    assert not app.exception
    assert "ZeroDivisionError" in texts(app) and len(app.metric) == 6
    assert "a defect" in caplog.text


def test_the_worst_slo_stands_first_and_its_numbers_below(run, fleet_db):
    app = run("slos", db=fleet_db)
    table = app.dataframe[0].value
    assert table["model"].iloc[0] == SLOW_MODEL
    left = app.selectbox(key="slo").value
    assert left.endswith(SLOW_MODEL)
    assert {"Objective, 30 d", "Attained", "Budget left"} <= set(metrics(app))


def test_a_link_opens_one_slo(run, fleet_db):
    app = run("slos", {"slo": "tpot qwen-32b"}, db=fleet_db)
    assert app.selectbox(key="slo").value == "tpot qwen-32b"


def test_a_trace_of_the_link_is_opened_with_its_phases_and_its_rank(run, fleet_db):
    trace = f"{4000:032x}"
    app = run("requests", {"trace": trace}, db=fleet_db)
    assert not app.exception and not app.error
    assert trace in texts(app)
    assert metrics(app)["Outcome"] in ("ok", "client_disconnect", "error")


def test_an_unknown_trace_says_so(run, fleet_db):
    app = run("requests", {"trace": "e" * 32}, db=fleet_db)
    assert not app.exception and "No span of this trace has landed" in texts(app)


def test_requests_are_narrowed_by_the_link(run, fleet_db):
    app = run("requests", {"team": "ads", "range": "24h"}, db=fleet_db)
    table = app.dataframe[0].value
    assert set(table["team"]) == {"ads"}
    assert list(table["ttft_seconds"].dropna()) == sorted(table["ttft_seconds"].dropna(), reverse=True)


def test_the_cost_of_teams_and_buckets_sums_to_the_bill(run, fleet_db):
    month = datetime.now(UTC) - timedelta(hours=1)  # at the start of a month the one before: that one has a bill
    app = run("cost", {"month": f"{month:%Y-%m}"}, db=fleet_db)
    bill = metrics(app)["Fleet cost, month to date"].replace("\\", "").strip("$").replace(",", "")
    table = app.dataframe[0].value
    assert float(sum(table["cost"])) == pytest.approx(float(bill), abs=0.01 * len(table))


def test_a_month_without_rates_says_what_is_missing(run, tmp_path):
    import pyarrow as pa

    file = tmp_path / "no-rates.duckdb"
    client = FileClient(file, write=True)
    now = datetime.now(UTC).replace(tzinfo=None)
    row = {"trace_id": "a" * 32, "span_id": "b" * 16, "outcome": "ok", "source": "test", "estimated": False}
    client.land("requests", pa.Table.from_pylist([{**row, "started_at": now}]))
    client.close()
    app = run("cost", db=file)
    assert not app.exception and not app.error
    assert "No GPU-hour of this month has a price yet" in texts(app)


def test_old_data_is_shown_from_its_own_end(run, tmp_path):
    import pyarrow as pa

    file = tmp_path / "old.duckdb"
    client = FileClient(file, write=True)
    row = {"trace_id": "a" * 32, "span_id": "b" * 16, "outcome": "ok", "source": "import", "estimated": False}
    client.land("requests", pa.Table.from_pylist([{**row, "started_at": datetime(2023, 11, 16, 18, 15)}]))
    client.close()
    app = run("oncall", {"range": "1h"}, db=file)
    assert not app.exception and not app.error
    assert "as of 2023-11-16" in texts(app)
    assert metrics(app)["Requests/s"] != "No traffic"


def test_drift_says_what_it_could_not_judge(run, fleet_db):
    app = run("drift", db=fleet_db)
    assert not app.exception and not app.error
    verdicts = {word for words in app.dataframe[0].value["verdict"] for word in words}
    assert verdicts <= {"drifted", "steady", "not judged"}
