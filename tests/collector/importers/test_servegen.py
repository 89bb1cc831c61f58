"""ServeGen's rows are samples: seeded, true to the published rates and distributions, and the same in any slice."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from collector.client import FileClient
from collector.importers.arrivals import draw_arrivals
from collector.importers.lengths import LengthTables
from collector.importers.servegen import Choice, ServeGen


@pytest.fixture
def dataset(tmp_path):
    """Two clients of one model over two windows; client 1 has no distributions."""
    windows = [(client, at) for client in (0, 1) for at in (0, 600)]
    rates = {
        "category": ["reason"] * 4,
        "model": ["m"] * 4,
        "client_id": [client for client, _ in windows],
        "t_s": [at for _, at in windows],
        "rate_rps": [1.0, 0.5, 2.0, 0.0],
        "pattern": ["Gamma", "Weibull", "Gamma", None],
        "p1": [0.5, 0.7, 1.0, 0.0],
    }
    bins = [("input_tokens", 10, 0.25), ("input_tokens", 20, 0.75), ("output_tokens", 5, 1.0)]
    pdfs = {
        "category": ["reason"] * 3,
        "model": ["m"] * 3,
        "client_id": pa.array([0] * 3, pa.int16()),
        "window_s": [0] * 3,
        "field": [field for field, _, _ in bins],
        "bin": [value for _, value, _ in bins],
        "prob": [share for _, _, share in bins],
    }
    parquet.write_table(pa.table(rates), tmp_path / "client_rates.parquet")
    parquet.write_table(pa.table(pdfs), tmp_path / "client_token_pdfs.parquet")
    return tmp_path / "client_rates.parquet"


def sample(file, **choice):
    data = ServeGen(file, file.parent / "client_token_pdfs.parquet", Choice("reason", **choice))
    return [row for _, rows in data.rows() for row in rows]


@pytest.mark.parametrize(("pattern", "shape"), [("Gamma", 0.05), ("Gamma", 4.0), ("Weibull", 0.3), ("Weibull", 2.0)])
def test_a_window_holds_its_rate_on_average_however_bursty(pattern, shape):
    random = np.random.default_rng(1)
    counts = [len(draw_arrivals(random, pattern, shape, 0.5, 60.0)) for _ in range(4000)]
    assert abs(np.mean(counts) - 30.0) < 4 * np.std(counts) / len(counts) ** 0.5


def test_a_smaller_shape_is_burstier():
    def spread(shape):
        random = np.random.default_rng(2)
        return np.std([len(draw_arrivals(random, "Gamma", shape, 1.0, 60.0)) for _ in range(300)])

    assert spread(0.1) > 2 * spread(1.0) > 4 * spread(16.0)


def test_arrivals_ascend_within_their_window():
    times = draw_arrivals(np.random.default_rng(3), "Weibull", 0.4, 5.0, 60.0)
    assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] < 60.0


@pytest.mark.parametrize(
    ("pattern", "shape", "rate"), [("Poisson", 1.0, 1.0), ("Gamma", 0.0, 1.0), ("Gamma", 1.0, 0.0)]
)
def test_arrivals_that_can_not_be_are_refused(pattern, shape, rate):
    with pytest.raises(ValueError, match="arrivals"):
        draw_arrivals(np.random.default_rng(4), pattern, shape, rate, 60.0)


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(dataset):
    assert sample(dataset, seed=7) == sample(dataset, seed=7)
    ids = {row["trace_id"] for row in sample(dataset, seed=7)}
    assert not ids & {row["trace_id"] for row in sample(dataset, seed=8)}


def test_a_slice_of_time_or_clients_holds_the_requests_of_the_whole(dataset):
    whole = {row["trace_id"]: row for row in sample(dataset, seed=7)}
    of_client = sample(dataset, seed=7, clients=frozenset([0]))
    assert of_client and all(whole[row["trace_id"]] == row for row in of_client)
    of_time = sample(dataset, seed=7, from_seconds=300.0, to_seconds=700.0)
    assert of_time and all(whole[row["trace_id"]] == row for row in of_time)
    assert len(of_client) == sum(row["team"] == "client-0" for row in whole.values())


def test_tokens_come_from_the_clients_distribution_and_are_absent_without_one(dataset):
    rows = sample(dataset, seed=7, scale_ratio=4.0)
    of_one = [row for row in rows if row["team"] == "client-1"]
    assert of_one and not any("input_tokens" in row for row in of_one)
    drawn = Counter(row["input_tokens"] for row in rows if row["team"] == "client-0")
    assert set(drawn) == {10, 20}
    assert drawn[20] / drawn.total() == pytest.approx(0.75, abs=0.05)
    assert {row["output_tokens"] for row in rows if row["team"] == "client-0"} == {5}


def test_rows_are_marked_as_estimates_and_land_once(cli, dataset, tmp_path):
    words = ("import", "servegen", dataset, "--db", tmp_path / "x.duckdb", "--category", "reason", "--format", "json")
    first, again = cli(*words), cli(*words)
    (report,), (second,) = json.loads(first.out), json.loads(again.out)
    assert first.code == 0 and report["rows_landed"] == report["rows_read"] > 1000
    assert (second["rows_landed"], second["rows_duplicate"]) == (0, report["rows_read"])
    assert "have no token counts" in first.err
    client = FileClient(tmp_path / "x.duckdb")
    (row,) = client.query("SELECT DISTINCT source, estimated, model, outcome FROM requests").to_pylist()
    client.close()
    assert row == {"source": "import_servegen", "estimated": True, "model": "m", "outcome": "ok"}


def test_it_stops_after_max_rows_in_order_of_time_and_says_so(cli, dataset, tmp_path):
    words = ("--category", "reason", "--max-rows", "50", "--format", "json")
    ran = cli("import", "servegen", dataset, "--db", tmp_path / "x.duckdb", *words)
    (report,) = json.loads(ran.out)
    assert report["rows_landed"] == 50
    assert "stopped after 50 rows" in ran.err
    assert report["last_started_at"] < "2024-01-01T00:01:00"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--category", "poems"], "no category poems; there are: reason"),
        (["--category", "reason", "--model", "x"], "reason has no model x with --model; there are: m"),
        (["--category", "reason", "--clients", "0,9"], "m has no client 9; its clients are 0 to 1"),
        (["--category", "reason", "--clients", "a"], "'a' is no client id"),
        (["--category", "reason", "--from", "2d"], "the data of m ends at 1200 s"),
        (["--category", "reason", "--from", "soon"], "'soon' is no span of time"),
        (["--category", "reason", "--to", "1h", "--days", "1"], "exclude each other"),
        (["--pdfs", "absent.parquet"], "no file at absent.parquet"),
    ],
)
def test_a_choice_that_the_data_has_not_is_told_with_what_it_has(cli, dataset, tmp_path, words, said):
    ran = cli("import", "servegen", dataset, "--db", tmp_path / "x.duckdb", *words)
    assert ran.code == 2 and said in ran.err


@pytest.mark.shared
def test_the_published_rates_are_met(shared):
    folder = shared / "data/servegen"
    choice = Choice("multimodal", None, None, 0.0, 3600.0, 1.0, 5)
    data = ServeGen(folder / "client_rates.parquet", folder / "client_token_pdfs.parquet", choice)
    rows = [row for _, rows in data.rows() for row in rows]
    expected = sum(window.rate_per_second * 600 for window in data.windows)
    assert len(rows) == pytest.approx(expected, rel=0.05)
    pdfs = parquet.read_table(
        folder / "client_token_pdfs.parquet",
        filters=[
            ("model", "=", "mm-image"),
            ("field", "=", "output_tokens"),
            ("window_s", "=", 0),
            ("client_id", "=", 0),
        ],
    )
    drawn = [row["output_tokens"] for row in rows if row["team"] == "client-0"]
    mean = np.average(pdfs["bin"], weights=pdfs["prob"])
    assert np.mean(drawn) == pytest.approx(mean, abs=5 * np.std(drawn) / len(drawn) ** 0.5)


def test_clients_and_windows_are_drawn_independently(tmp_path):
    columns = {"category": ["c"] * 4, "model": ["m"] * 4, "client_id": [0, 0, 1, 1], "t_s": [0, 600, 0, 600]}
    rates = columns | {"rate_rps": [1.0] * 4, "pattern": ["Gamma"] * 4, "p1": [1.0] * 4}
    parquet.write_table(pa.table(rates), tmp_path / "r.parquet")
    none = {
        "category": ["c"],
        "model": ["m"],
        "client_id": [9],
        "window_s": [0],
        "field": ["x"],
        "bin": [1],
        "prob": [1.0],
    }
    parquet.write_table(pa.table(none), tmp_path / "p.parquet")
    rows = [
        row for _, rows in ServeGen(tmp_path / "r.parquet", tmp_path / "p.parquet", Choice("c")).rows() for row in rows
    ]
    offsets = [
        [
            row["started_at"].timestamp() % 600
            for row in rows
            if row["team"] == team and (row["started_at"].minute >= 10) == late
        ]
        for team in ("client-0", "client-1")
        for late in (False, True)
    ]
    assert len({tuple(times[:5]) for times in offsets}) == 4


def test_lengths_are_of_the_time_or_else_of_the_last_before_it_or_of_the_first(tmp_path):
    known = [(21600, 1), (64800, 2)]
    pdfs = {
        "category": ["c"] * 2, "model": ["m"] * 2, "client_id": [0] * 2, "window_s": [at for at, _ in known],
        "field": ["input_tokens"] * 2, "bin": [value for _, value in known], "prob": [1.0] * 2,
    }  # fmt: skip
    parquet.write_table(pa.table(pdfs), tmp_path / "p.parquet")
    lengths = LengthTables(tmp_path / "p.parquet", "c", "m")
    random = np.random.default_rng(1)
    drawn = {at: lengths.draw(random, 0, at, "input_tokens", 1).tolist() for at in (0, 21600, 43200, 64800, 900000)}
    assert drawn == {0: [1], 21600: [1], 43200: [1], 64800: [2], 900000: [2]}
    assert lengths.draw(random, 0, 0, "output_tokens", 1) is None


def test_a_requests_image_tokens_are_the_sum_over_its_images(tmp_path):
    pdfs = {
        "category": ["c"], "model": ["m"], "client_id": [0], "window_s": [0], "field": ["image_tokens"], "bin": [7],
        "prob": [1.0],
    }  # fmt: skip
    parquet.write_table(pa.table(pdfs), tmp_path / "p.parquet")
    lengths = LengthTables(tmp_path / "p.parquet", "c", "m")
    sums = lengths.draw_sums(np.random.default_rng(1), 0, 0, "image_tokens", np.array([0, 2, 1]))
    assert sums.tolist() == [0, 14, 7]
