"""The API beside OTLP: SQL, rows, scrapes, health, self-metrics, tokens."""

import contextlib
import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pyarrow as pa
import pytest

from collector.client import HttpClient, rows_per_body
from collector.errors import PermanentError, RetryableError
from collector.self_metrics import SELF_METRICS
from collector.testing import running_collector

AT = datetime(2026, 1, 1)
ARROW = "application/vnd.apache.arrow.stream"


def events(*ids):
    return pa.table({
        "event_id": list(ids), "occurred_at": [AT] * len(ids), "kind": ["deploy"] * len(ids), "title": ["t"] * len(ids),
    })  # fmt: skip


def sql(collector, body, **headers):
    return httpx.post(collector.api + "/api/v1/sql", json=body, headers=headers, timeout=60)


def test_rows_land_and_are_counted_once(client):
    assert client.land("events", events("api-a", "api-b")) == 2
    assert client.land("events", events("api-b", "api-c")) == 1
    assert client.query("SELECT count(*) AS n FROM events WHERE event_id LIKE 'api-%'").to_pylist() == [{"n": 3}]


def test_no_rows_are_no_rows(client):
    assert client.land("events", events()) == 0


def test_many_rows_go_in_several_bodies(client):
    wide = events(*(f"wide-{number}" for number in range(2000)))
    wide = wide.set_column(3, "title", pa.array(["x" * 20_000] * 2000))
    assert rows_per_body(wide) < 2000
    assert client.land("events", wide) == 2000


def test_parameters_keep_their_types_over_the_wire(client):
    parameters = {
        "at": datetime(2026, 1, 2, 3, 4, 5, 678),
        "zoned": datetime(2026, 1, 2, 5, tzinfo=UTC) + timedelta(hours=1),
        "day": AT.date(),
        "amount": Decimal("1.000000001"),
        "names": ["a", "b"],
        "none": None,
        "flag": True,
        "big": 2**62,
    }
    (row,) = client.query(
        "SELECT $at - INTERVAL 1 DAY AS at, $zoned AS zoned, $day + 1 AS day, $amount AS amount, "
        "list_contains($names, 'b') AS names, $none IS NULL AS none, $flag AS flag, $big AS big",
        parameters,
    ).to_pylist()
    assert row["at"] == datetime(2026, 1, 1, 3, 4, 5, 678)
    assert row["zoned"] == datetime(2026, 1, 2, 6)
    assert (row["day"].isoformat()[:10], row["amount"]) == ("2026-01-02", Decimal("1.000000001"))
    assert (row["names"], row["none"], row["flag"], row["big"]) == (True, True, True, 2**62)


def test_an_empty_answer_keeps_its_columns(client):
    answer = client.query("SELECT event_id, occurred_at FROM events WHERE false")
    assert (answer.num_rows, answer.column_names) == (0, ["event_id", "occurred_at"])


def test_json_comes_where_arrow_is_not_asked_for(collector):
    answer = sql(
        collector, {"sql": "SELECT 1 AS a, 'NaN'::DOUBLE AS b, TIMESTAMP '2026-01-01' AS c, sum(3::BIGINT) AS d"}
    )
    assert answer.headers["content-type"] == "application/json"
    assert [column["name"] for column in answer.json()["columns"]] == ["a", "b", "c", "d"]
    assert answer.json()["rows"] == [[1, None, "2026-01-01T00:00:00", 3]]


def test_times_that_python_does_not_have_are_text(collector):
    answer = sql(collector, {"sql": "SELECT 'infinity'::TIMESTAMP AS a, '9000-01-01 (BC)'::DATE AS b, 1 AS c"})
    assert answer.json()["rows"] == [["infinity", "-8999-01-01", 1]]
    nested = sql(collector, {"sql": "SELECT ['infinity'::TIMESTAMP] AS a"})
    assert (nested.status_code, "as JSON" in nested.json()["error"]) == (400, True)


def nested(levels):
    """A list in a list in a list."""
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_json_that_is_nested_without_end_is_refused(collector):
    answer = httpx.post(collector.api + "/api/v1/sql", content=b"[" * 100_000, timeout=60)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"sql": "SELEC 1"}, "syntax error"),
        ({"sql": "DELETE FROM events"}, "read-only"),
        ({"sql": "SELECT nonsense FROM events"}, "nonsense"),
        ({"sql": "SELECT $x", "parameters": {"x": {"type": "timestamp", "value": "soon"}}}, "no timestamp"),
        ({"sql": "SELECT $x", "parameters": {"x": {"type": "nonsense", "value": "1"}}}, "type"),
        ({"sql": "SELECT 1", "parameters": [1]}, "object"),
        ({"sql": "SELECT $x", "parameters": {"x": nested(600)}}, "the body is JSON"),
        ({"sql": 1}, "string"),
        ({}, "the body is JSON"),
        ([], "the body is JSON"),
    ],
)
def test_a_bad_question_is_a_400_that_says_why(collector, body, says):
    answer = sql(collector, body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("table", "content", "status", "says"),
    [
        ("events", b"garbage", 400, "Arrow IPC stream"),
        ("events", b"", 400, "Arrow IPC stream"),
        ("nonsense", b"", 400, "no table 'nonsense'"),
        ("spool_progress", b"", 400, "no table"),
        ("requests", events("a"), 400, "requests has no column"),
        ("spans", pa.table({"trace_id": ["t"]}), 400, "needs"),
    ],
)
def test_rows_that_fit_no_table_are_a_400_that_says_why(collector, table, content, status, says):
    if isinstance(content, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, content.schema) as writer:
            writer.write_table(content)
        content = sink.getvalue().to_pybytes()
    answer = httpx.post(
        f"{collector.api}/api/v1/tables/{table}", content=content, headers={"Content-Type": ARROW}, timeout=60
    )
    assert answer.status_code == status
    assert says in answer.json()["error"]


def test_a_recorded_metrics_text_is_replayed_at_its_time(collector, client):
    text = '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name="tiny"} 3\n'
    for _ in range(2):
        answer = httpx.post(
            collector.api + "/api/v1/scrapes",
            params={
                "target": "http://engine:8000/metrics",
                "observed_at": "2026-01-01T00:00:00Z",
                "label.replica": "rec-0",
            },
            content=gzip.compress(text.encode()),
            headers={"Content-Encoding": "gzip"},
            timeout=60,
        )
        assert answer.json() == {"accepted": 2, "rejected": 0}
    collector.wait_until("SELECT count(*) FROM metric_series WHERE replica = 'rec-0'", 2)
    rows = client.query(
        "SELECT name, model, value, observed_at FROM metric_points JOIN metric_series USING (series_id) "
        "WHERE replica = 'rec-0' ORDER BY name"
    ).to_pylist()
    assert rows == [
        {"name": "infer.engine.requests_running", "model": "tiny", "value": 3.0, "observed_at": AT},
        {"name": "up", "model": None, "value": 1.0, "observed_at": AT},
    ]


@pytest.mark.parametrize(
    ("params", "content", "says"),
    [
        ({"target": "t"}, b"<html>", "no Prometheus sample"),
        ({"target": "t"}, b"\xff\xfe", "UTF-8"),
        ({"target": "t", "observed_at": "soon"}, b"a 1", "observed_at"),
        ({"target": "t", "observed_at": "0001-01-01T00:00:00+14:00"}, b"a 1", "before 2000"),
        ({"target": "t", "observed_at": "1990-01-01"}, b"a 1", "before 2000"),
        ({"target": "t", "observed_at": "9999-12-31T23:59:59"}, b"a 1", "more than a day ahead"),
        ({"target": "t", "observed_at": "1e300"}, b"a 1", "neither"),
        ({}, b"a 1", "target"),
    ],
)
def test_a_text_that_is_no_scrape_is_a_400_that_says_why(collector, params, content, says):
    answer = httpx.post(collector.api + "/api/v1/scrapes", params=params, content=content, timeout=60)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_it_tells_about_itself_in_one_closed_list(collector):
    text = httpx.get(collector.api + "/metrics", timeout=60).text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE fleetmeter_")}
    told = {name.removesuffix("_total").removesuffix("_created") for name in names}
    assert told == {metric.name for metric in SELF_METRICS}


def test_rows_and_scrapes_are_counted_as_received_refused_and_landed(collector, client):
    def counted():
        names = (
            'fleetmeter_received_bodies_total{door="rows"}', 'fleetmeter_received_bodies_total{door="scrapes"}',
            'fleetmeter_refused_bodies_total{door="rows",status="400"}',
            'fleetmeter_refused_bodies_total{door="scrapes",status="400"}',
            "fleetmeter_landed_after_seconds_count",
        )  # fmt: skip
        return [collector.metric(name) for name in names]

    before = counted()
    client.land("events", events("counted"))
    scrapes = collector.api + "/api/v1/scrapes?target=t"
    assert httpx.post(scrapes, content=b"counted 1\n", timeout=60).status_code == 200
    assert httpx.post(scrapes, content=b"<html>", timeout=60).status_code == 400
    assert httpx.post(collector.api + "/api/v1/tables/events", content=b"garbage", timeout=60).status_code == 400
    collector.wait_until("SELECT count(*) FROM metric_series WHERE name = 'counted'", 1)
    after = [now - then for now, then in zip(counted(), before, strict=True)]
    assert after[:4] == [2, 2, 1, 1]
    assert after[4] >= 2
    assert collector.metric('fleetmeter_received_bytes_total{door="rows"}') > 0
    assert collector.metric("fleetmeter_free_disk_bytes ") > 0


def test_it_is_healthy_ready_and_described(collector):
    assert httpx.get(collector.api + "/healthz", timeout=60).json() == {"healthy": True}
    assert httpx.get(collector.api + "/readyz", timeout=60).json() == {"ready": True, "reason": None}
    paths = set(httpx.get(collector.api + "/openapi.json", timeout=60).json()["paths"])
    assert {"/v1/traces", "/api/v1/sql", "/api/v1/tables/{table}", "/api/v1/scrapes", "/metrics"} <= paths


def test_an_unknown_route_is_a_404_in_json(collector):
    answer = httpx.get(collector.api + "/nonsense", timeout=60)
    assert (answer.status_code, "openapi" in answer.json()["error"]) == (404, True)


def test_no_collector_is_an_error_that_a_retry_may_help():
    with (
        contextlib.closing(HttpClient("http://127.0.0.1:1")) as client,
        pytest.raises(RetryableError, match="fleetmeter collect"),
    ):
        client.query("SELECT 1")


def test_an_address_that_is_none_is_a_usage_error():
    for address in ("127.0.0.1:8320", "ftp://x", ""):
        with pytest.raises(PermanentError, match="--url"):
            HttpClient(address)


def test_a_question_that_takes_too_long_is_stopped_and_says_so(data_dir):
    with (
        running_collector(data_dir, FLEETMETER__COLLECTOR__QUERY_TIMEOUT_SECONDS="0.3") as hasty,
        contextlib.closing(HttpClient(hasty.api)) as client,
    ):
        with pytest.raises(RetryableError, match=r"over 0\.3 s"):
            client.query("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
        assert client.query("SELECT 1 AS a").num_rows == 1
