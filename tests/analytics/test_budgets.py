"""Budgets of teams, apps and models: what was used, what is told, and another forecast in place of the plain one."""

from datetime import date, timedelta

import pytest

from analytics.budgets import budgets_used, findings

MONTH = date(2026, 11, 1)


@pytest.fixture
def fleet(store, now):
    """A replica at 2 USD/h since midnight; two apps of team x share one hour of it."""
    begins = now.replace(hour=0)
    store.rows(
        "rate_cards",
        {"rate_id": "a", "gpu_type": "H100", "currency": "USD", "gpu_hour_units": 2 * 10**9, "valid_from": begins},
    )
    store.rows("replicas", {"replica": "r", "valid_from": begins, "gpu_type": "H100", "gpu_count": 1, "model": "m"})
    hour = {
        "started_at": now - timedelta(hours=2),
        "ended_at": now - timedelta(hours=1),
        "replica": "r",
        "model": "m",
        "team": "x",
    }
    store.requests({**hour, "app": "chat", "output_tokens": 300}, {**hour, "app": "mail", "output_tokens": 100})
    scopes = [
        ("t", "x", None, None),
        ("a", "x", "chat", None),
        ("b", None, "mail", None),
        ("m", None, None, "m"),
        ("n", "y", None, None),
    ]
    for name, team, app, model in scopes:
        row = {"budget_id": name, "team": team, "app": app, "model": model, "month": MONTH, "currency": "USD"}
        store.rows("budgets", {**row, "amount_units": 10**10})
    return store


def test_each_scope_counts_its_own_use(fleet, now):
    rows = budgets_used(fleet.client, MONTH, now, every_scope=True).to_dicts()
    used = {(row["team"], row["app"], row["model"]): row["used_units"] for row in rows}
    assert used == {
        ("x", None, None): 2 * 10**9,
        ("x", "chat", None): 15 * 10**8,
        (None, "mail", None): 5 * 10**8,
        (None, None, "m"): 24 * 10**9,  # all of its replica, idle time too
        ("y", None, None): 0,
    }


def test_teams_alone_add_up_and_are_what_is_asked_for_by_default(fleet, now):
    frame = budgets_used(fleet.client, MONTH, now)
    assert frame["team"].to_list() == ["x", "y"]
    assert "app" not in frame.columns


def test_another_forecast_can_take_the_place(fleet, now):
    seen = []

    def doubled(used, week, days):
        seen.append((used, week, days))
        return used, 2 * used, 3 * used

    rows = budgets_used(fleet.client, MONTH, now, forecaster=doubled).to_dicts()
    assert seen[0] == (2 * 10**9, [], 20.5)
    assert [row["forecast_units"] for row in rows] == [4 * 10**9, 0]


@pytest.mark.parametrize(
    ("ratio", "forecast", "told"),
    [
        (0.49, 60, []),
        (0.5, 60, ["50% used"]),
        (0.8, 101, ["80% used", "will be overspent"]),
        (1.0, 100, ["100% used"]),
        (1.01, 200, ["overspent"]),
        (None, None, []),
    ],
)
def test_levels_and_breaches_are_told(ratio, forecast, told):
    assert findings({"used_ratio": ratio, "forecast_units": forecast, "budget_units": 100}) == told
