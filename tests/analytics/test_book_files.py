"""Inventory, prices, invoices and budgets come from CSV files, to the unit, and once."""

from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from analytics.bill_sources import read_inventory
from analytics.book_files import read_book
from analytics.books import load_book
from analytics.errors import AnalyticsError
from collector.client import FileClient

RATES = (
    "gpu_type,provider,usd_per_gpu_hour,valid_from\nH100,acme,3.385318751,2026-11-01T00:00:00Z\nL40S,,1.10,2026-11-01\n"
)
REPLICAS = "replica,model,gpu_type,gpu_count,provider,valid_from\nr-0,m,H100,8,acme,2026-11-01 00:00:00\n"
BUDGETS = "team,month,usd\nsearch,2026-11-01,950\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "book.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(("table", "text"), [("rate_cards", RATES), ("replicas", REPLICAS), ("budgets", BUDGETS)])
def test_a_file_is_loaded_once(cli, tmp_path: Path, table: str, text: str) -> None:
    db = str(tmp_path / "f.duckdb")
    file = str(written(tmp_path, text))
    first, second = (cli("cost", "load", table, file, "--db", db) for _ in range(2))
    count = text.count("\n") - 1
    assert (first.code, second.code) == (0, 0), first.err
    assert f"read, {count} new" in first.out + first.err
    assert f"read, 0 new, {count} there already" in second.out + second.err


def test_prices_are_exact_and_times_are_utc(tmp_path: Path) -> None:
    client = FileClient(tmp_path / "f.duckdb", write=True)
    load_book(client, "rate_cards", read_book("rate_cards", written(tmp_path, RATES)), now=datetime(2026, 11, 2))
    rows = client.query("SELECT rate_id, provider, currency, gpu_hour_units, valid_from FROM rate_cards ORDER BY 1")
    client.close()
    first, second = rows.to_pylist()
    assert first["gpu_hour_units"] == 3_385_318_751
    assert first["valid_from"] == second["valid_from"] == datetime(2026, 11, 1)
    assert (second["provider"], second["currency"], second["gpu_hour_units"]) == (None, "USD", 1_100_000_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "gpu_type,usd_per_gpu_hour,valid_from\nH100,three,2026-11-01\n",
            "line 2, usd_per_gpu_hour: 'three' is no amount",
        ),
        ("gpu_type,usd_per_gpu_hour,valid_from\nH100,0.0000000001,2026-11-01\n", "finer than 1e-9"),
        ("gpu_type,usd_per_gpu_hour,valid_from\nH100,inf,2026-11-01\n", "no amount"),
        ("gpu_type,usd_per_gpu_hour,valid_from\n", "no rows"),
        ("", "not a CSV"),
    ],
)
def test_a_file_that_does_not_fit_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AnalyticsError, match=words):
        read_book("rate_cards", written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match=r"no file at .*absent\.csv"):
        read_book("replicas", tmp_path / "absent.csv")


def test_who_reserved_a_replica_is_loaded_and_restated(cli, tmp_path: Path) -> None:
    db = str(tmp_path / "f.duckdb")
    owned = "replica,model,gpu_type,gpu_count,valid_from,owner,deployment\nr,m,H100,8,2026-11-01,{owner},{deployment}\n"
    first = cli("cost", "load", "replicas", written(tmp_path, owned.format(owner="x", deployment="d")), "--db", db)
    assert first.code == 0, first.err
    again = ("cost", "load", "replicas", written(tmp_path, owned.format(owner="y", deployment="")), "--db", db)
    refused = cli(*again)
    assert refused.code == 1
    assert "owner x -> y" in refused.err
    assert cli(*again, "--restate").code == 0
    with closing(FileClient(tmp_path / "f.duckdb")) as client:
        (interval,) = read_inventory(client, datetime(2026, 11, 1), datetime(2026, 11, 2))
    assert (interval.owner, interval.deployment) == ("y", "d")
