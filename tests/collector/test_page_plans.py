"""Planned texts give the rows that the reference gives, for recorded pages of every engine and any values."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decode_scrape import decode_scrape
from collector.errors import PermanentError
from collector.points.page_plans import PagePlans, Plan

PAGES = sorted((Path(__file__).parents[1] / "engine_exporter" / "data").glob("*.txt"))
META = {"target": "http://10.0.0.1:8000/metrics", "labels": {"replica": "r0"}, "observed_us": 1_790_000_000_000_000}


def outcome(decode):
    try:
        decoded = decode()
    except PermanentError as error:
        return str(error)
    tables = {name: sorted(rows.to_pylist(), key=lambda row: repr(row)) for name, rows in decoded.tables.items()}
    tables = {name: [dict(sorted(row.items())) for row in rows] for name, rows in tables.items()}
    return {name: sorted(rows, key=repr) for name, rows in tables.items()}, decoded.accepted_count, decoded.rejected


def planned(page, meta=META):
    plans = PagePlans()
    for _ in range(2):
        plans.decode(page, meta)
    (held,) = plans._plans.values()
    return plans, isinstance(held, Plan)


def with_other_values(page, seed):
    """The page with every plain value grown, so that buckets stay cumulative."""
    lines, growth = [], random.Random(seed)
    grown = 0
    for line in page.decode().split("\n"):
        head, _, value = line.rpartition(" ")
        if line and not line.startswith("#") and math.isfinite(float(value)):
            grown += growth.randrange(3)
            line = f"{head} {float(value) + grown!r}"
        lines.append(line)
    return "\n".join(lines).encode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recorded_pages_come_out_alike(page):
    text = page.read_bytes()
    plans, _ = planned(text)
    for seed in range(3):
        other = with_other_values(text, seed) if seed else text
        meta = {**META, "observed_us": META["observed_us"] + seed * 15_000_000}
        assert outcome(lambda other=other, meta=meta: plans.decode(other, meta)) == outcome(
            lambda other=other, meta=meta: decode_scrape(other, meta)
        )


def test_vllm_pages_are_planned():
    named = {page.stem: planned(page.read_bytes())[1] for page in PAGES if page.stem.startswith("vllm_0_32")}
    assert named and all(named.values()), named


PAGE = (
    '# TYPE h histogram\nh_bucket{{le="1"}} {}\nh_bucket{{le="2"}} {}\nh_bucket{{le="+Inf"}} {}\nh_sum {}\nh_count {}\n'
    '# TYPE g gauge\ng{{a="1"}} {}\ng{{a="2"}} {}\n# TYPE c counter\nc_total {}\nc_created 1.79e9\nuntyped {}\n'
)
numbers = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**22), 10**22).map(str),
    st.sampled_from(
        ["1", "1.0", "1e3", "+Inf", "NaN", "-Inf", "1e-7", "0x10", "1_0", "nine", "1.5.2", "-", "+7", "1e", ".5"]
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9).map(str),
)
counts = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(sorted)


@settings(max_examples=150, deadline=None)
@given(counts | st.lists(numbers, min_size=3, max_size=3), st.lists(numbers, min_size=6, max_size=6))
def test_any_values_come_out_alike(buckets, others):
    plans = known_plans()
    page = PAGE.format(*buckets, others[0], buckets[2], *others[1:]).encode()
    meta = {**META, "duration_seconds": 0.25}
    assert outcome(lambda: plans.decode(page, meta)) == outcome(lambda: decode_scrape(page, meta))


def known_plans():
    plans, is_planned = planned(PAGE.format(*range(1, 10)).encode(), {**META, "duration_seconds": 0.1})
    assert is_planned
    return plans


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pages_come_out_alike(data):
    plans = known_plans()
    page = bytearray(PAGE.format(*range(1, 10)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(page)))
        if data.draw(st.booleans()):
            page[at:at] = data.draw(st.binary(min_size=1, max_size=2))
        else:
            del page[at : at + data.draw(st.integers(1, 3))]
    meta = {**META, "duration_seconds": 0.25}
    assert outcome(lambda: plans.decode(bytes(page), meta)) == outcome(lambda: decode_scrape(bytes(page), meta))


def test_a_page_with_a_new_series_goes_to_the_reference_and_is_planned_again():
    plans = known_plans()
    page = PAGE.format(*range(1, 10)).encode() + b"new 1\n"
    meta = {**META, "duration_seconds": 0.25}
    for _ in range(3):
        assert outcome(lambda: plans.decode(page, meta)) == outcome(lambda: decode_scrape(page, meta))
    (held,) = plans._plans.values()
    assert isinstance(held, Plan) and held.layout.samples_count == 11


def test_plans_have_a_bound(monkeypatch):
    monkeypatch.setattr("collector.points.page_plans.HELD_BYTES", 10_000)
    plans = PagePlans()
    for number in range(50):
        for _ in range(2):
            plans.decode(PAGE.format(*range(1, 10)).encode(), {**META, "target": f"t{number}"})
    assert 1 < len(plans._plans) < 50
