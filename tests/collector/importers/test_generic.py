"""Anybody's log lands by a mapping: units are converted, texts checked, and what was not asked for stays out."""

from datetime import datetime

import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.client import FileClient

LOG = """when_ms;tenant;prompt_len;completion_len;first_token_ms;total_ms;prompt;region_tag
1700000000123;search;120;30;250;1250.5;secret words;eu
1700000001123;;80;;;;more secret words;
"""
MAPPING = [
    word
    for pair in (
        "started_at=when_ms:ms",
        "team=tenant",
        "input_tokens=prompt_len",
        "output_tokens=completion_len",
        "ttft_seconds=first_token_ms:ms",
        "e2e_seconds=total_ms:ms",
    )
    for word in ("--map", pair)
]


def landed(db):
    client = FileClient(db)
    try:
        return client.query("SELECT * FROM requests ORDER BY started_at").to_pylist()
    finally:
        client.close()


def test_a_mapped_csv_lands_with_its_units_converted(cli, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    words = (tmp_path / "log.csv", "--db", tmp_path / "x.duckdb", *MAPPING, "--keep", "region_tag", "--team", "nobody")
    assert cli("import", "generic", *words).code == 0
    first, second = landed(tmp_path / "x.duckdb")
    assert first["started_at"] == datetime(2023, 11, 14, 22, 13, 20, 123_000)
    assert (first["team"], first["input_tokens"], first["output_tokens"]) == ("search", 120, 30)
    assert (first["ttft_seconds"], first["e2e_seconds"]) == (0.25, 1.2505)
    assert first["tpot_seconds"] == pytest.approx((1.2505 - 0.25) / 29)
    assert first["ended_at"] == datetime(2023, 11, 14, 22, 13, 21, 373_500)
    assert dict(first["attributes"]) == {"region_tag": "eu"}
    assert (second["team"], second["output_tokens"], second["e2e_seconds"]) == ("nobody", None, None)
    assert second["attributes"] is None
    assert "secret" not in str((first, second))


def test_columns_that_bear_their_names_need_no_mapping(cli, tmp_path):
    table = pa.table(
        {
            "started_at": pa.array([datetime(2025, 1, 1)], pa.timestamp("us")),
            "ended_at": pa.array([datetime(2025, 1, 1, 0, 0, 2)], pa.timestamp("us")),
            "trace_id": ["AB" * 16],
            "span_id": ["cd" * 8],
            "stream": [True],
            "outcome": ["client_disconnect"],
            "estimated": [True],
            "preemptions_count": [2],
        }
    )
    parquet.write_table(table, tmp_path / "log.parquet")
    assert cli("import", "generic", tmp_path / "log.parquet", "--db", tmp_path / "x.duckdb").code == 0
    (row,) = landed(tmp_path / "x.duckdb")
    assert (row["trace_id"], row["span_id"]) == ("ab" * 16, "cd" * 8)
    assert (row["stream"], row["outcome"], row["estimated"], row["preemptions_count"]) == (
        True,
        "client_disconnect",
        True,
        2,
    )
    assert (row["e2e_seconds"], row["source"]) == (2.0, "import_generic")


def test_columns_of_json_lines_may_first_appear_in_any_row(cli, tmp_path):
    rows = ('{"at": "2025-01-01"}', '{"at": "2025-01-02", "team": "search", "prompt_len": 7, "output_tokens": 3}')
    (tmp_path / "log.jsonl").write_text("\n".join(rows))
    words = ("--map", "started_at=at", "--map", "input_tokens=prompt_len")
    assert cli("import", "generic", tmp_path / "log.jsonl", "--db", tmp_path / "x.duckdb", *words).code == 0
    tokens = [(row["team"], row["input_tokens"], row["output_tokens"]) for row in landed(tmp_path / "x.duckdb")]
    assert tokens == [(None, None, None), ("search", 7, 3)]


def test_a_source_that_no_json_line_has_is_refused(cli, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"started_at": "2025-01-01"}\n{"started_at": "2025-01-01", "tenant": "a"}\n')
    ran = cli("import", "generic", tmp_path / "log.jsonl", "--db", tmp_path / "x.duckdb", "--map", "team=tenat")
    assert ran.code == 2 and "no column tenat; did you mean tenant?" in ran.err


def test_numeric_times_count_from_the_start_where_one_is_given(cli, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"at": 1.5}\n')
    words = ("--map", "started_at=at:s", "--start", "2025-01-06")
    assert cli("import", "generic", tmp_path / "log.jsonl", "--db", tmp_path / "x.duckdb", *words).code == 0
    assert landed(tmp_path / "x.duckdb")[0]["started_at"] == datetime(2025, 1, 6, 0, 0, 1, 500_000)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tokens", "write column=source_column"),
        ("input_token=prompt_len", "no column input_token to fill; did you mean input_tokens?"),
        ("input_tokens=promt_len", "no column promt_len; did you mean prompt_len?"),
        ("input_tokens=prompt_len:ms", "is no time"),
        ("e2e_seconds=total_ms:hours", "unknown unit hours"),
        ("source=tenant", "no column source to fill"),
    ],
)
def test_a_mapping_that_can_not_be_is_refused_with_the_nearest(cli, tmp_path, word, said):
    (tmp_path / "log.csv").write_text(LOG)
    ran = cli("import", "generic", tmp_path / "log.csv", "--db", tmp_path / "x.duckdb", "--map", word)
    assert ran.code == 2 and said in ran.err


def test_a_log_without_a_time_is_refused(cli, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    ran = cli("import", "generic", tmp_path / "log.csv", "--db", tmp_path / "x.duckdb")
    assert ran.code == 2 and "nothing fills started_at" in ran.err and "when_ms" in ran.err


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("outcome", "fine", "'fine' is none of ok, client_disconnect, rejected, error, engine_dead"),
        ("mode", "slow", "'slow' is none of live, async, batch"),
        ("stream", "maybe", "neither true nor false"),
        ("trace_id", "xyz", "not 32 hex digits"),
        ("preemptions_count", str(2**31), "whole number from 0 to 2147483647"),
        ("ttft_seconds", "-1", "not a duration"),
        ("ttft_seconds", "inf", "not a duration"),
        ("ended_at", "2024-12-31", "it ended before it started"),
        ("ended_at", "9999-12-31", "ended_at: 9999-12-31 00:00:00 is before 2000 or more than a day ahead"),
        ("ended_at", "0001-01-01T00:00+05:00", "ended_at: date value out of range"),
        ("ttft_seconds", "9" * 400, "ttft_seconds: "),
        ("e2e_seconds", "1e30", "e2e_seconds: 1e+30 seconds lead beyond any calendar"),
    ],
)
def test_a_cell_that_the_column_can_not_hold_keeps_its_row_out(cli, tmp_path, column, cell, said):
    (tmp_path / "log.csv").write_text(f"started_at,{column}\n2025-01-01,{cell}\n")
    ran = cli("import", "generic", tmp_path / "log.csv", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1 and said in ran.err


def test_raw_names_and_keys_are_refused_without_being_repeated(cli, tmp_path):
    (tmp_path / "log.csv").write_text(
        "started_at,api_key_hash\n2025-01-01,sk-live-secret\n2025-01-01," + "ab" * 32 + "\n"
    )
    ran = cli("import", "generic", tmp_path / "log.csv", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1
    assert "not a hash" in ran.err and "sk-live-secret" not in ran.err
    assert [row["api_key_hash"] for row in landed(tmp_path / "x.duckdb")] == ["ab" * 32]


def test_a_number_of_json_without_a_unit_is_no_time(cli, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"started_at": 1712121231530}\n')
    ran = cli("import", "generic", tmp_path / "log.jsonl", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1 and "started_at: 1712121231530 is not an ISO 8601 time; a number needs its unit" in ran.err


def test_text_that_is_not_unicode_keeps_its_row_out(cli, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"started_at": "2025-01-01", "team": "\\ud800"}\n')
    ran = cli("import", "generic", tmp_path / "log.jsonl", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1 and "not valid Unicode" in ran.err
