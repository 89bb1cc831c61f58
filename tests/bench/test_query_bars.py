"""A read of a board is over the bar when its p95 is, or when the API costs more than the query itself explains."""

import math

import pytest

from bench.queries import Figure


@pytest.mark.parametrize(
    ("api", "asked", "bare", "says"),
    [
        ([0.1] * 20, [0.12], [0.1], ""),
        ([0.1] * 20, [0.14], [0.1], "ratio over the bar"),
        ([0.1] * 20, [0.1, 0.004], [0.1, 0.002], ""),
        ([0.1] * 20, [0.006], [0.002], "ratio over the bar"),
        ([0.1] * 18 + [0.6] * 2, [0.1], [0.1], "p95 over the bar"),
        ([0.6], [0.2], [0.1], "p95 over the bar; ratio over the bar"),
        ([0.1], [], [], ""),
    ],
)
def test_a_read_is_held_against_both_bars(api, asked, bare, says):
    assert Figure("a read", 9.0, 9.0, api, asked, bare).over == says


def test_a_read_is_compared_by_all_its_statements():
    assert Figure("a read", 9.0, 9.0, [0.1], [0.2, 0.1], [0.1, 0.1]).ratio == pytest.approx(1.5)
    assert math.isnan(Figure("a read that asks nothing", 9.0, 9.0, [0.1], [], []).ratio)
