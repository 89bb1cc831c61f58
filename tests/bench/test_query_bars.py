"""A read of a board is over the bar when its p95 is, or when the API costs more than the query itself explains."""

import math

import pytest

from bench.queries import Figure


@pytest.mark.parametrize(
    ("api", "asked", "bare", "says"),
    [
        ([0.1] * 20, [0.12], [0.1], ""),
        ([0.1] * 20, [0.14], [0.1], "1.40 of bare DuckDB (100 ms)"),
        ([0.1] * 20, [0.1, 0.05], [0.1, 0.03], "1.67 of bare DuckDB (30 ms)"),
        ([0.1] * 20, [0.006], [0.002], ""),
        ([0.1] * 20, [0.008], [0.002], "6.0 ms more"),
        ([0.1] * 20, [0.019], [0.002], "17.0 ms more"),
        ([0.1] * 18 + [0.6] * 2, [0.1], [0.1], "over the bar"),
    ],
)
def test_every_statement_is_held_against_bare_duckdb(api, asked, bare, says):
    over = Figure("a read", 9.0, 9.0, api, asked, bare).over
    assert (says in over) if says else over == ""


def test_a_read_is_compared_by_all_its_statements():
    assert Figure("a read", 9.0, 9.0, [0.1], [0.2, 0.1], [0.1, 0.1]).ratio == pytest.approx(1.5)
    assert math.isnan(Figure("a read that asks nothing", 9.0, 9.0, [0.1], [], []).ratio)
