"""Every wrong file has a clear message and its exit code; a bad row is kept out, counted and takes no other with it."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.client import FileClient

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = "2023-11-16 18:17:03.9799600,4808,10\n"


def test_an_unknown_format_is_told_with_the_nearest_and_all_others(cli):
    ran = cli("import", "azur", "x.csv")
    assert ran.code == 2
    assert "unknown format 'azur'. Did you mean 'azure'?" in ran.err
    assert "azure, generic, mooncake, servegen, vtc" in ran.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no file at"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        (HEADER, "has columns and no rows"),
        ("a,b\n1,2\n", "lacks TIMESTAMP, ContextTokens, GeneratedTokens; found: a, b"),
        ('[{"TIMESTAMP": 1}]', "one object a line"),
        ("\x00\x01\x02", "not text and not Parquet"),
        (b"PAR1 and then nonsense", "broken Parquet"),
        (b"\x1f\x8b and then nonsense", "can't be"),
    ],
)
def test_a_file_that_is_no_trace_exits_2_and_says_why(cli, tmp_path, content, said):
    file = tmp_path / "x.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = cli("import", "azure", file, "--db", tmp_path / "x.duckdb")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_folder_is_told_apart_from_a_missing_file(cli, tmp_path):
    assert "is a folder" in cli("import", "azure", tmp_path, "--db", tmp_path / "x.duckdb").err


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("yesterday,1,2", "'yesterday' is not an ISO 8601 time"),
        ("1700000000,1,2", "a number needs its unit"),
        ("2023-11-16 18:17:03,-1,2", "'-1' is not a whole number"),
        ("2023-11-16 18:17:03,1.5,2", "'1.5' is not a whole number"),
        ("2023-11-16 18:17:03,,2", "ContextTokens is empty"),
        ("2023-11-16 18:17:03,99999999999999999999,2", "is not a whole number from 0 to"),
        ("2023-11-16 18:17:03,1", "2 cells where the header has 3"),
        ("2023-13-16 18:17:03,1,2", "TIMESTAMP: '2023-13-16 18:17:03' is not an ISO 8601 time"),
        ("1712121231530,1,2", "a number needs its unit"),
        ("1999-12-31,1,2", "started_at: 1999-12-31 00:00:00 is before 2000"),
        ("2200-01-01,1,2", "started_at: 2200-01-01 00:00:00 is before 2000 or more than a day ahead"),
        ('"2023-11-16 18:17:03"x,1,2', "not CSV"),
    ],
)
def test_a_bad_row_is_kept_out_counted_and_told_with_its_number(cli, tmp_path, row, reason):
    (tmp_path / "x.csv").write_text(HEADER + GOOD + row + "\n" + GOOD)
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert ran.code == 1
    assert "kept out row 2 (line 3): " in ran.err and reason in ran.err
    report = json.loads(ran.out)[0]
    assert (report["rows_read"], report["rows_landed"], report["rows_skipped"]) == (3, 2, 1)
    assert report["input_tokens"] == 2 * 4808


def test_strict_lands_nothing_when_one_row_is_bad(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + GOOD + "yesterday,1,2\n")
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb", "--strict")
    assert (ran.code, ran.out) == (1, "")
    assert "row 2 (line 3)" in ran.err and "1 of 2 rows can't be read; with --strict none was landed" in ran.err
    assert not (tmp_path / "x.duckdb").exists()
    (tmp_path / "x.csv").write_text(HEADER + GOOD)
    assert cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb", "--strict").code == 0


def test_only_the_first_bad_rows_are_told_and_the_rest_counted(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + "yesterday,1,2\n" * 50)
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1
    assert ran.err.count("kept out row") == 20 and "kept out 30 more" in ran.err


def test_a_quote_that_is_not_closed_is_told_with_the_line_where_it_begins(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + GOOD + '2023-11-16 18:17:03,1,"2\n' + GOOD * 3)
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert ran.code == 1
    assert "row 2 (line 3): not CSV: a quote is not closed: the rest of the file is in it" in ran.err
    assert json.loads(ran.out)[0]["rows_landed"] == 1


def test_a_row_of_several_lines_is_told_with_its_first(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + GOOD + '"yester\nday",1,2\n' + "today,1,2\n")
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb")
    assert "row 2 (line 3): TIMESTAMP: 'yester" in ran.err and "row 3 (line 5): TIMESTAMP: 'today'" in ran.err


def test_a_long_cell_is_cut_where_it_is_quoted(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + f"2023-11-16,{'9' * 5000},2\n")
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1 and "ContextTokens: '999" in ran.err and "9" * 100 not in ran.err


def test_sums_of_tokens_may_be_larger_than_a_column_holds(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + f"2023-11-16,{2**63 - 1},2\n" * 2)
    ran = cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert (ran.code, json.loads(ran.out)[0]["input_tokens"]) == (0, 2 * (2**63 - 1))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"timestamp": 0, "input_length": 1}', "no output_length"),
        ('{"timestamp": null, "input_length": 1, "output_length": 1}', "timestamp is empty"),
        ('{"timestamp": -5, "input_length": 1, "output_length": 1}', "before the trace's own beginning"),
        ('{"timestamp": 1e300, "input_length": 1, "output_length": 1}', "not a time"),
        ('{"timestamp": 1, "input_length": true, "output_length": 1}', "not a"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ["a"]}', "hash_ids"),
    ],
)
def test_a_bad_json_line_is_kept_out(cli, tmp_path, line, reason):
    good = '{"timestamp": 0, "input_length": 5, "output_length": 7}'
    (tmp_path / "x.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    ran = cli("import", "mooncake", tmp_path / "x.jsonl", "--db", tmp_path / "x.duckdb", "--format", "json")
    assert ran.code == 1
    assert "kept out row 2 (line 3)" in ran.err and reason in ran.err
    assert json.loads(ran.out)[0]["rows_landed"] == 2


def test_a_file_may_be_packed_and_may_begin_with_a_byte_order_mark(cli, tmp_path):
    content = ("\ufeff" + HEADER + GOOD * 3).encode()
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "x.csv.zst").write_bytes(pa.Codec("zstd").compress(content, asbytes=True))
    for name in ("x.csv.gz", "x.csv.zst"):
        ran = cli("import", "azure", tmp_path / name, "--db", tmp_path / f"{name}.duckdb", "--format", "json")
        assert (ran.code, json.loads(ran.out)[0]["rows_landed"]) == (0, 3)


def test_parquet_rows_have_numbers_too(cli, tmp_path):
    table = pa.table({"timestamp": [0, 1], "input_length": [1, None], "output_length": [1, 1]})
    parquet.write_table(table, tmp_path / "x.parquet")
    ran = cli("import", "mooncake", tmp_path / "x.parquet", "--db", tmp_path / "x.duckdb")
    assert ran.code == 1 and "kept out row 2: input_length is empty" in ran.err


def test_no_collector_at_the_address_exits_3(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + GOOD)
    ran = cli("import", "azure", tmp_path / "x.csv", "--url", "http://127.0.0.1:1")
    assert ran.code == 3
    assert "0 rows had landed; the same command lands the rest and none twice" in ran.err


def test_a_bad_anchor_is_refused(cli, tmp_path):
    ran = cli("import", "mooncake", tmp_path / "x", "--start", "monday")
    assert ran.code == 2 and "'monday' is not an ISO 8601 time" in ran.err


def test_the_good_rows_of_a_bad_file_are_in_the_table(cli, tmp_path):
    (tmp_path / "x.csv").write_text(HEADER + GOOD + "yesterday,1,2\n" + GOOD)
    cli("import", "azure", tmp_path / "x.csv", "--db", tmp_path / "x.duckdb")
    client = FileClient(tmp_path / "x.duckdb")
    assert client.query("SELECT sum(input_tokens)::BIGINT AS n FROM requests").to_pylist() == [{"n": 9616}]
    client.close()
