"""Who may do what at a real collector: rights, a team's own rows, quotas, and the audit log that tells of it."""

import contextlib
import hashlib
import json
from datetime import datetime
from typing import Any

import grpc
import httpx
import pyarrow as pa
import pytest

from collector.audit import Audit
from collector.client import HttpClient
from collector.errors import PermanentError, RetryableError
from collector.file_store import FileStore
from collector.self_metrics import SelfMetrics
from collector.sql_door import Asker, SqlDoor
from collector.sql_route import SqlRoute
from collector.testing import running_collector, span_message, traces_body
from collector.tokens import Bearer

PROTOBUF = {"Content-Type": "application/x-protobuf"}
TOKENS = {
    "writer": "may: [write]",
    "reader": "may: [read]",
    "search": "may: [read], team: search",
    "o'brien": 'may: [read], team: "o\'brien"',
    "slow": "may: [write, read], write_bytes_per_second: 100, queries_per_minute: 2",
}


def tokens_file(folder):
    lines = (
        f"  - {{name: the {word}, sha256: {hashlib.sha256(word.encode()).hexdigest()}, {rights}}}\n"
        for word, rights in TOKENS.items()
    )
    file = folder / "tokens.yaml"
    file.write_text("tokens:\n" + "".join(lines))
    return str(file)


def request(number, team):
    return span_message(number, {"infer.request.outcome": "ok", "infer.team": team, "gen_ai.request.model": "m"})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    with running_collector(folder / "data", "--tokens-file", tokens_file(folder)) as collector:
        spans = [request(1, "search"), request(2, "search"), request(3, "ads"), request(4, "o'brien")]
        assert send(collector, "writer", traces_body(*spans)).status_code == 200
        with client(collector, "reader") as reader:
            while reader.query("SELECT count(*) AS n FROM requests").to_pylist() != [{"n": 4}]:
                pass
        yield collector


def send(collector, token, body=None):
    headers = {**PROTOBUF, **({"Authorization": f"Bearer {token}"} if token else {})}
    content = body if body is not None else traces_body(span_message(1))
    return httpx.post(collector.otlp_http + "/v1/traces", content=content, headers=headers, timeout=60)


def client(collector, token):
    return contextlib.closing(HttpClient(collector.api, token=token))


def ask(collector, token, sql):
    with client(collector, token) as asking:
        return asking.query(sql).to_pylist()


def test_each_door_asks_for_its_right(guarded):
    assert [send(guarded, token).status_code for token in (None, "wrong", "reader", "writer")] == [401, 401, 403, 200]
    for path in ("/api/v1/write", "/api/v1/tables/events", "/api/v1/scrapes?target=t"):
        answers = [
            httpx.post(guarded.api + path, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code
            for token in ("wrong", "reader")
        ]
        assert answers == [401, 403], path


def test_a_query_that_fails_in_an_unknown_way_is_no_success_in_the_audit_log(tmp_path):
    def no_cursor():
        raise MemoryError("of another kind")

    audit = Audit(tmp_path, 10_000)
    unused: Any = None
    route = SqlRoute(unused, SqlDoor(no_cursor), unused, 1, unused, SelfMetrics(), audit, unused)
    with pytest.raises(MemoryError):
        route.answer("SELECT 1", {}, False, Bearer(None), None, Asker())
    audit.close()
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert (json.loads(line)["status"], json.loads(line)["error"]) == (500, "MemoryError: of another kind")


def test_grpc_tells_unknown_from_forbidden(guarded):
    with grpc.insecure_channel(guarded.otlp_grpc) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        body = traces_body(span_message(1))
        export(body, metadata=(("authorization", "Bearer writer"),), timeout=10)
        codes = []
        for metadata in ((), (("authorization", "Bearer reader"),)):
            with pytest.raises(grpc.RpcError) as caught:
                export(body, metadata=metadata, timeout=10)
            codes.append(caught.value.code())
    assert codes == [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED]


def test_the_doors_for_probes_are_open(guarded):
    guarded.wait_ready()
    for path in ("/readyz", "/healthz", "/metrics", "/openapi.json"):
        assert httpx.get(guarded.api + path, timeout=60).status_code == 200


def test_a_team_sees_its_rows_alone(guarded):
    assert ask(guarded, "reader", "SELECT count(*) AS n FROM requests") == [{"n": 4}]
    by_team = "SELECT team, count(*) AS n FROM requests GROUP BY ALL"
    assert ask(guarded, "search", by_team) == [{"team": "search", "n": 2}]
    assert ask(guarded, "o'brien", by_team) == [{"team": "o'brien", "n": 1}]
    for sql in (
        "SELECT count(*) AS n FROM judged_requests",
        "WITH r AS (SELECT * FROM requests) SELECT count(*) AS n FROM r",
        "SELECT count(*) AS n FROM requests r JOIN judged_requests j USING (trace_id, span_id)",
        "SELECT (SELECT count(*) FROM requests) AS n",
        "SELECT count(*) AS n FROM Requests",
        "SELECT n FROM (FROM requests SELECT count(*) AS n)",
        "SELECT count(requests.team) AS n FROM requests",
        "SELECT len(list(DISTINCT r.trace_id)) AS n FROM requests AS r",
        "WITH RECURSIVE t AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM t WHERE k < 2) "
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM requests), t",
        "SELECT count(*) AS n FROM requests UNION SELECT count(*) FROM judged_requests",
    ):
        assert ask(guarded, "search", sql) == [{"n": 2}], sql
    assert ask(guarded, "search", "SELECT sum(amount_units) AS n FROM ledger_entries") == [{"n": None}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM main.requests",
        "SELECT * FROM fleetmeter.main.requests",
        "SELECT (SELECT count(*) FROM main.requests)",
        'SELECT * FROM "main"."requests"',
        "SELECT * FROM gpu_samples",
        "SELECT * FROM spans",
        "WITH spans AS (SELECT * FROM spans) SELECT * FROM spans",
        "SELECT * FROM replicas",
        "SELECT * FROM duckdb_tables()",
        "SELECT * FROM duckdb_tables",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM pg_catalog.pg_class",
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "DESCRIBE main.requests",
        "SUMMARIZE main.requests",
        "SELECT * FROM query_table('requests')",
        "WITH requests AS (SELECT 1) SELECT * FROM requests",
        "SELECT * FROM query('SELECT 1')",
        "PIVOT main.requests ON team USING count(*)",
        "SELECT * FROM requests UNION ALL SELECT * FROM main.requests",
        "SELECT * FROM requests WHERE EXISTS (SELECT 1 FROM main.requests)",
        "FROM (VALUES (1)) v, LATERAL (SELECT count(*) FROM main.requests)",
    ],
)
def test_a_team_reaches_nothing_else(guarded, sql):
    with pytest.raises(PermanentError):
        ask(guarded, "search", sql)


def test_over_its_quota_a_sender_is_told_when_to_come_back(guarded):
    body = traces_body(*[span_message(number) for number in range(50)])
    answers = [send(guarded, "slow", body) for _ in range(3)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert send(guarded, "writer", body).status_code == 200
    with grpc.insecure_channel(guarded.otlp_grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        export(body, metadata=(("authorization", "Bearer slow"),), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(guarded, "slow", "SELECT 1 AS a") == ask(guarded, "slow", "SELECT 1 AS a") == [{"a": 1}]
    with pytest.raises(RetryableError, match=r"429.*queries_per_minute"):
        ask(guarded, "slow", "SELECT 1 AS a")


def test_the_audit_log_tells_who_read_what(guarded):
    ask(guarded, "search", "SELECT 'the audited one' AS a")
    with pytest.raises(PermanentError):
        ask(guarded, "search", "SELECT 'refused' FROM main.requests")
    file = guarded.data_dir / "audit" / "audit.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    good = next(line for line in lines if "the audited one" in line.get("sql", ""))
    assert good["who"] == "the search"
    assert (good["team"], good["action"], good["status"], good["rows"]) == ("search", "query", 200, 1)
    assert good["remote"] == "127.0.0.1"
    assert good["seconds"] >= 0
    assert good["at"].endswith("+00:00")
    refused = next(line for line in lines if "'refused'" in line.get("sql", ""))
    assert refused["status"] == 400
    assert "main" in refused["sql"]
    assert not any("Bearer" in line or "writer'" in line for line in file.read_text().splitlines())


def test_a_client_without_a_token_is_told_where_it_takes_one_from(guarded):
    with pytest.raises(PermanentError, match=r"401: .*FLEETMETER_TOKEN"):
        ask(guarded, None, "SELECT 1")


def test_a_team_s_rows_are_its_own_in_the_archive_too(tmp_path):
    started = [datetime(2026, 1, 1, 12), datetime(2026, 1, 1, 13), datetime(2026, 1, 30)]
    rows = pa.table({
        "trace_id": ["1" * 32, "2" * 32, "3" * 32], "span_id": ["1" * 16] * 3, "started_at": started,
        "team": ["search", "ads", "search"], "outcome": ["ok"] * 3, "source": ["test"] * 3, "estimated": [False] * 3,
    })  # fmt: skip
    with contextlib.closing(FileStore(tmp_path / "f.duckdb")) as store:
        store.land({"requests": rows})
        assert store.compact(datetime(2026, 1, 31), archive_after_days=5) == 2
        door = SqlDoor(store.cursor)
        assert door.query("SELECT count(*) AS n FROM requests").to_pylist() == [{"n": 3}]
        for table in ("requests", "judged_requests"):
            assert door.query(f"SELECT count(*) AS n FROM {table}", team="search").to_pylist() == [{"n": 2}]
        counted = door.query("SELECT sum(requests_count)::INT AS n FROM request_hours", team="search")
        assert counted.to_pylist() == [{"n": 2}]
        for hidden in ("whole.requests", "main.requests", "archive_files"):
            with pytest.raises(PermanentError, match="alone"):
                door.query(f"SELECT * FROM {hidden}", team="search")
        files = f"{tmp_path}/archive/requests/*/*.parquet"
        for sql in (
            f"SELECT team FROM '{files}'",
            f'FROM "{files.removesuffix(".parquet")}".parquet',
            f"SELECT (SELECT max(team) FROM '{files}')",
            f"WITH \"{files}\" AS (SELECT 1) SELECT * FROM '{files}', (WITH x AS (FROM '{files}') FROM x)",
            "SELECT json_serialize_plan('SELECT max(team) FROM main.requests', optimize := true)",
            "SELECT stats(team) FROM requests",
        ):
            for team in ("search", None):
                with pytest.raises(PermanentError, match=r"no file is read here|is not to be had"):
                    door.query(sql, team=team)
