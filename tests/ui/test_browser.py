"""The boards in a real browser: every page, light and dark, no complaint, and the numbers of `fleetmeter query`."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from dashboards import formats
from tests.dashboards.synthetic import SLOW_MODEL
from tests.ui.watching import PAGES, watched

pytestmark = pytest.mark.chromium

SUMMARY = """
SELECT count(*) AS n,
    count(*) FILTER (WHERE outcome IN ('rejected', 'error', 'engine_dead')) / count(*) AS errors,
    quantile_cont(ttft_seconds, 0.95) FILTER (WHERE outcome = 'ok') AS ttft,
    quantile_cont(tpot_seconds, 0.95) FILTER (WHERE outcome = 'ok') AS tpot
FROM requests WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_each_page_draws_in_both_themes_without_a_complaint(chromium, boards, name, theme):
    with watched(chromium, theme) as seen:
        seen.open(f"{boards}/{PAGES[name]}")
        assert "ingest lag" in seen.text() and "as of" in seen.text()
        assert "This part of the page failed" not in seen.text()
        background = seen.page.evaluate(
            "() => getComputedStyle(document.querySelector('[data-testid=\"stApp\"]')).backgroundColor"
        )
        assert background == {"light": "rgb(251, 251, 250)", "dark": "rgb(14, 17, 22)"}[theme]
        assert seen.unknown() == []


def test_the_page_asks_nobody_but_us(chromium, boards):
    with watched(chromium, "light") as seen:
        hosts = set()
        seen.page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        seen.open(boards)
        assert hosts == {boards.split("/")[2]}


def test_fonts_are_our_own(chromium, boards):
    with watched(chromium, "light") as seen:
        seen.open(boards)
        assert seen.page.evaluate("() => document.fonts.check('14px Inter')")
        assert "Inter" in seen.page.evaluate("() => getComputedStyle(document.body).fontFamily")


def test_the_tiles_of_a_window_are_what_query_says(chromium, boards, query, now):
    start, end = now - timedelta(hours=2), now
    row = query(SUMMARY, start=start, end=end)
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/?from={start.isoformat()}&to={end.isoformat()}")
        tiles = seen.tiles()
    assert tiles["TTFT p95 · SLO 2 s"] == formats.seconds(row["ttft"])
    assert tiles["TPOT p95 · SLO 100 ms"] == formats.seconds(row["tpot"])
    assert tiles["Error ratio"] == formats.ratio(row["errors"])
    assert tiles["Requests/s"] == formats.rate(row["n"] / 7200)


def test_a_model_in_the_link_narrows_every_number(chromium, boards, query, now):
    start, end = now - timedelta(minutes=40), now
    row = query(SUMMARY + " AND model = $model", start=start, end=end, model=SLOW_MODEL)
    with watched(chromium, "dark") as seen:
        seen.open(f"{boards}/?from={start.isoformat()}&to={end.isoformat()}&model={SLOW_MODEL}")
        assert seen.tiles()["TTFT p95 · SLO 2 s"] == formats.seconds(row["ttft"])


def test_the_trace_of_a_link_shows_what_its_row_holds(chromium, boards, query):
    row = query("SELECT * FROM requests WHERE outcome = 'ok' ORDER BY ttft_seconds DESC, trace_id LIMIT 1")
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/requests?trace={row['trace_id']}")
        tiles = seen.tiles()
        assert seen.unknown() == []
    assert tiles["TTFT"] == formats.seconds(row["ttft_seconds"])
    assert tiles["E2E"] == formats.seconds(row["e2e_seconds"])
    assert tiles["Output tokens"] == formats.count(row["output_tokens"])


def test_a_click_on_a_row_opens_its_trace_and_puts_it_into_the_link(chromium, boards):
    with watched(chromium, "light", height=1200) as seen:
        seen.open(f"{boards}/requests?range=24h")
        box = seen.page.locator(".st-key-request-list canvas").first.bounding_box()
        seen.page.mouse.click(box["x"] + 15, box["y"] + 45)
        seen.page.wait_for_url("**/requests?**trace=**")
        seen.page.get_by_text("What the span carried").wait_for()


def test_telemetry_health_is_what_query_says(chromium, boards, query):
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/health")
        tiles = seen.tiles()
    replicas = query("SELECT count(DISTINCT replica) AS n FROM metric_series WHERE name = 'up'")
    assert tiles["Scrapes up"] == f"{replicas['n']} of {replicas['n']}"
    estimated = query("SELECT avg(estimated::INTEGER) AS share FROM requests")
    assert tiles["Estimated"] == formats.ratio(estimated["share"])


def test_an_slo_counts_what_query_counts(chromium, boards, query):
    row = query(
        "SELECT count(*) AS n, count(*) FILTER (WHERE outcome IN ('rejected', 'error', 'engine_dead')) AS bad"
        " FROM requests WHERE model = $model",
        model=SLOW_MODEL,
    )
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/slos?slo=availability+{SLOW_MODEL}")
        assert f"{row['bad']:,} bad of {row['n']:,}" in seen.text()


def test_a_range_button_moves_the_window_and_the_link(chromium, boards):
    with watched(chromium, "light") as seen:
        seen.open(boards)
        before = seen.tiles()["TTFT p95 · SLO 2 s"]
        seen.page.get_by_role("radio", name="24h").click()
        seen.page.wait_for_url("**range=24h**")
        changed = "before => document.querySelector('[data-testid=\"stMetricValue\"]').innerText.trim() !== before"
        seen.page.wait_for_function(changed, arg=before)
        seen.settle()
        assert "vs 24 h before" in seen.text()
        assert seen.unknown() == []


def test_a_brush_across_the_chart_fixes_the_window_in_the_link(chromium, boards):
    with watched(chromium, "light", height=1200) as seen:
        seen.open(boards)
        box = seen.page.locator(".st-key-fleet canvas").first.bounding_box()
        seen.page.mouse.click(box["x"] + box["width"] - 116, box["y"] + 19)  # arms the brush
        seen.page.mouse.move(box["x"] + 200, box["y"] + 70)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 400, box["y"] + 75, steps=8)
        seen.page.mouse.up()
        seen.page.wait_for_url("**from=**")
        seen.page.get_by_text("Back to the newest").wait_for()
        assert seen.unknown() == []


def test_a_live_page_reads_again_without_a_reload(chromium, boards):
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/?live=true")
        first = seen.page.get_by_text("as of").first.inner_text()
        others = "first => ![...document.querySelectorAll('[data-testid=\"stMain\"] span')]"
        seen.page.wait_for_function(others + ".some(one => one.innerText === first)", arg=first, timeout=60_000)
        assert seen.unknown() == []


BILL = """
WITH counted AS (
    SELECT $until::TIMESTAMP AS until, date_trunc('month', $until::TIMESTAMP - INTERVAL 1 SECOND) AS since
),
billed AS (
    SELECT r.gpu_count, c.gpu_hour_units, greatest(r.valid_from, since) AS begun,
        least(until, coalesce(r.valid_to, until)) AS ended
    FROM replicas AS r INNER JOIN rate_cards AS c USING (gpu_type), counted
)
SELECT sum(gpu_count * gpu_hour_units * (epoch(ended) - epoch(begun))) / 3600 / 1e9 AS usd
FROM billed WHERE ended > begun
"""


def test_the_bill_of_the_month_is_what_query_says(chromium, boards, query):
    month = datetime.now(UTC) - timedelta(hours=1)  # at the start of a month the one before: that one has a bill
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/cost?month={month:%Y-%m}")
        shown = seen.tiles()["Fleet cost, month to date"]
        until = re.search(r"up to (\S+ \S+) UTC", seen.text()).group(1)
    bill = query(BILL, until=f"{until}:00")
    assert float(shown.strip("$").replace(",", "")) == pytest.approx(bill["usd"], abs=0.0101)


STREAMS = """
SELECT count(DISTINCT model) + count(DISTINCT (model, team)) FILTER (WHERE team IS NOT NULL) AS n
FROM requests
WHERE started_at >= $until::TIMESTAMP - INTERVAL 6 HOUR AND started_at < $until::TIMESTAMP
"""


def test_the_streams_of_the_drift_page_are_those_of_query(chromium, boards, query):
    with watched(chromium, "light") as seen:
        seen.open(f"{boards}/drift")
        until = re.search(r"as of (\S+ \S+) UTC", seen.text()).group(1)
        shown = re.search(r"(\d+) streams", seen.text()).group(1)
    assert int(shown) == query(STREAMS, until=until)["n"]
