"""The public traces land whole: every row once, sums and times exact, absent things null."""

import csv
import gzip
import json
import shutil
from datetime import datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.client import FileClient

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0319600,3180,8
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, 14, 15]}
{"timestamp": 27482, "input_length": 7322, "output_length": 490, "hash_ids": []}
"""


def rows(db, columns="*"):
    client = FileClient(db)
    try:
        return client.query(f"SELECT {columns} FROM requests ORDER BY started_at, trace_id").to_pylist()
    finally:
        client.close()


def test_azure_rows_land_with_exact_times_and_tokens_and_identical_rows_stay_two(cli, tmp_path):
    (tmp_path / "azure.csv").write_text(AZURE)
    ran = cli("import", "azure", tmp_path / "azure.csv", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert ran.code == 0
    (report,) = json.loads(ran.out)
    assert (report["rows_read"], report["rows_landed"], report["input_tokens"], report["output_tokens"]) == (
        3,
        3,
        11168,
        26,
    )
    landed = rows(tmp_path / "x.duckdb")
    assert [row["started_at"].isoformat() for row in landed] == ["2023-11-16T18:17:03.979960"] + [
        "2023-11-16T18:17:04.031960"
    ] * 2
    first = landed[0]
    assert (first["source"], first["estimated"], first["outcome"]) == ("import_azure", False, "ok")
    unknown = {
        "team",
        "model",
        "replica",
        "cached_tokens",
        "ttft_seconds",
        "e2e_seconds",
        "ended_at",
        "attributes",
        "mode",
    }
    assert {name for name in unknown if first[name] is not None} == set()


def test_the_2024_azure_times_with_an_offset_become_utc(cli, tmp_path):
    (tmp_path / "a.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 01:00:00.009930+01:00,1,2\n")
    assert cli("import", "azure", tmp_path / "a.csv", "--db", tmp_path / "x.duckdb").code == 0
    assert rows(tmp_path / "x.duckdb")[0]["started_at"] == datetime(2024, 5, 10, 0, 0, 0, 9930)


def test_importing_twice_lands_nothing_new_and_a_changed_file_lands_beside_it(cli, tmp_path):
    file, db = tmp_path / "azure.csv", tmp_path / "x.duckdb"
    file.write_text(AZURE)
    cli("import", "azure", file, "--db", db)
    shutil.copy(file, tmp_path / "other-name.csv")
    again = cli("import", "azure", tmp_path / "other-name.csv", "--db", db, "--format", "json")
    assert json.loads(again.out)[0] | {"rows_landed": 0, "rows_duplicate": 3} == json.loads(again.out)[0]
    file.write_text(AZURE.replace("4808", "4809"))
    changed = cli("import", "azure", file, "--db", db, "--format", "json")
    assert json.loads(changed.out)[0]["rows_landed"] == 3
    assert len(rows(db)) == 6


def test_constants_fill_only_what_the_trace_does_not_say(cli, tmp_path):
    table = pa.table(
        {"tenant": ["a"], "prompt_len": [3], "output_len": [5], "req_time_s": [1.5], "ttft_s": [0.25], "e2e_s": [1.25]}
    )
    parquet.write_table(table, tmp_path / "vtc.parquet")
    stamps = ("--team", "ignored", "--model", "llama-7b", "--app", "chat")
    assert cli("import", "vtc", tmp_path / "vtc.parquet", "--db", tmp_path / "x.duckdb", *stamps).code == 0
    (row,) = rows(tmp_path / "x.duckdb")
    assert (row["team"], row["model"], row["app"], row["adapter"]) == ("a", "llama-7b", "chat", "a")
    assert (row["ttft_seconds"], row["e2e_seconds"], row["tpot_seconds"]) == (0.25, 1.25, 0.25)
    assert row["started_at"] == datetime(2024, 1, 1, 0, 0, 1, 500_000)
    assert row["ended_at"] - row["started_at"] == timedelta(seconds=1.25)


def test_a_vtc_latency_of_minus_one_is_a_rejection_without_tokens(cli, tmp_path):
    table = pa.table(
        {"tenant": ["a"], "prompt_len": [3], "output_len": [5], "req_time_s": [0.0], "ttft_s": [-1.0], "e2e_s": [-1.0]}
    )
    parquet.write_table(table, tmp_path / "vtc.parquet")
    assert cli("import", "vtc", tmp_path / "vtc.parquet", "--db", tmp_path / "x.duckdb").code == 0
    (row,) = rows(tmp_path / "x.duckdb")
    assert (row["outcome"], row["output_tokens"], row["ttft_seconds"], row["e2e_seconds"]) == (
        "rejected",
        None,
        None,
        None,
    )
    assert dict(row["attributes"]) == {"vtc.output_len": "5"}


def test_mooncake_counts_milliseconds_from_the_start_and_keeps_its_blocks(cli, tmp_path):
    (tmp_path / "m.jsonl").write_text(MOONCAKE)
    start = ("--start", "2025-03-01T12:00:00+01:00", "--model", "kimi")
    assert cli("import", "mooncake", tmp_path / "m.jsonl", "--db", tmp_path / "x.duckdb", *start).code == 0
    first, second = rows(tmp_path / "x.duckdb")
    assert first["started_at"] == datetime(2025, 3, 1, 11)
    assert second["started_at"] == datetime(2025, 3, 1, 11, 0, 27, 482_000)
    assert dict(first["attributes"]) == {"mooncake.hash_ids": "0-2,14-15"}
    assert second["attributes"] is None
    assert (first["model"], first["input_tokens"], first["output_tokens"]) == ("kimi", 6758, 500)


def test_landing_in_chunks_lands_the_same(tmp_path):
    from collector.importers.formats import azure
    from collector.importers.loading import Report, Stamp, land_rows, read_rows
    from collector.importers.records import RecordFile

    (tmp_path / "azure.csv").write_text(AZURE)
    client = FileClient(tmp_path / "x.duckdb", write=True)
    report = Report("azure", "azure.csv")
    land_rows(client, read_rows(RecordFile(tmp_path / "azure.csv"), azure(), Stamp(), report), report, chunk_rows=2)
    client.close()
    assert (report.rows_landed, report.rows_duplicate) == (3, 0)
    assert len(rows(tmp_path / "x.duckdb")) == 3


@pytest.mark.shared
def test_the_azure_code_trace_lands_whole_and_exact(cli, shared, tmp_path):
    file = shared / "data/azure_llm_2023/AzureLLMInferenceTrace_code.csv"
    with file.open(newline="") as source:
        expected = [
            (datetime.fromisoformat(line["TIMESTAMP"]), int(line["ContextTokens"]), int(line["GeneratedTokens"]))
            for line in csv.DictReader(source)
        ]
    assert len(expected) == 8819
    assert cli("import", "azure", file, "--db", tmp_path / "x.duckdb").code == 0
    landed = rows(tmp_path / "x.duckdb", "started_at, trace_id, input_tokens, output_tokens")
    assert sorted((r["started_at"], r["input_tokens"], r["output_tokens"]) for r in landed) == sorted(expected)
    again = cli("import", "azure", file, "--db", tmp_path / "x.duckdb", "--format", "json")
    assert json.loads(again.out)[0]["rows_landed"] == 0


@pytest.mark.shared
def test_the_mooncake_conversation_lands_whole_and_its_blocks_can_be_read_back(cli, shared, tmp_path):
    file = shared / "data/mooncake_fast25/conversation_trace.jsonl"
    source = [json.loads(line) for line in file.read_text().splitlines()]
    assert cli("import", "mooncake", file, "--db", tmp_path / "x.duckdb").code == 0
    landed = rows(tmp_path / "x.duckdb", "started_at, trace_id, input_tokens, output_tokens, attributes")

    def blocks(row):
        runs = (run.split("-") for run in dict(row["attributes"])["mooncake.hash_ids"].split(","))
        return [block for run in runs for block in range(int(run[0]), int(run[-1]) + 1)]

    start = datetime(2024, 1, 1)
    assert sorted(
        ((r["started_at"] - start) // timedelta(milliseconds=1), r["input_tokens"], r["output_tokens"], blocks(r))
        for r in landed
    ) == sorted((s["timestamp"], s["input_length"], s["output_length"], s["hash_ids"]) for s in source)


@pytest.mark.shared
def test_the_vtc_runs_land_whole_with_tenants_as_teams(cli, shared, tmp_path):
    import polars as pl

    file = shared / "data/vtc_multitenant/requests.parquet"
    ran = cli("import", "vtc", file, "--db", tmp_path / "x.duckdb", "--format", "json")
    assert ran.code == 0
    (report,) = json.loads(ran.out)
    source = pl.read_parquet(file)
    served = source.filter(pl.col("ttft_s") >= 0)
    assert report["rows_landed"] == source.height
    assert report["input_tokens"] == source["prompt_len"].sum()
    assert report["output_tokens"] == served["output_len"].sum()
    client = FileClient(tmp_path / "x.duckdb")
    found = client.query(
        "SELECT team, deployment, count(*) AS n, count(*) FILTER (outcome = 'rejected') AS r FROM requests GROUP BY ALL"
    )
    client.close()
    expected = source.group_by("tenant", "path").agg(pl.len(), (pl.col("ttft_s") == -1).sum())
    assert sorted(tuple(row.values()) for row in found.to_pylist()) == sorted(expected.rows())


def test_token_sums_do_not_pass_through_floats(cli, tmp_path):
    big = 2**53 + 1
    (tmp_path / "a.csv").write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 01:00:00,{big},{big}\n")
    ran = cli("import", "azure", tmp_path / "a.csv", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert json.loads(ran.out, parse_float=Decimal)[0]["input_tokens"] == big
    assert rows(tmp_path / "x.duckdb")[0]["input_tokens"] == big


def test_the_same_rows_packed_land_once_and_rows_that_were_added_land_alone(cli, tmp_path):
    def landed_of(name, content):
        (tmp_path / name).write_bytes(content)
        ran = cli("import", "azure", tmp_path / name, "--db", tmp_path / "x.duckdb", "--format", "json")
        (report,) = json.loads(ran.out)
        return report["rows_landed"], report["rows_duplicate"]

    added = "2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:17:05,1,2\n"
    assert landed_of("azure.csv", AZURE.encode()) == (3, 0)
    assert landed_of("azure.csv.gz", gzip.compress(AZURE.encode())) == (0, 3)
    assert landed_of("longer.csv", (AZURE + added).encode()) == (2, 3)
    assert landed_of("cut.csv", (AZURE + added + "2023-11-16 18:").encode()) == (0, 5)
    assert landed_of("whole.csv", (AZURE + added + "2023-11-16 18:17:06,1,2\n").encode()) == (1, 5)
