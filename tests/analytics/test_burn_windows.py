import pytest

from analytics.burn_windows import FILE, WINDOW_SECONDS, load_burn_windows


def counts(bad, total=100):
    return dict.fromkeys(WINDOW_SECONDS, (bad, total))


def test_windows_are_those_of_the_workbook():
    found = [(w.severity, w.factor, w.long_window, w.short_window) for w in load_burn_windows()]
    assert found == [("page", 14.4, "1h", "5m"), ("page", 6, "6h", "30m"), ("ticket", 1, "3d", "6h")]
    assert "Site Reliability Workbook" in FILE.read_text()


@pytest.mark.parametrize("window", load_burn_windows(), ids=lambda window: window.name)
def test_factor_spends_the_stated_budget_within_the_long_window(window):
    spent = window.factor * WINDOW_SECONDS[window.long_window] / (30 * 86400)
    assert spent == pytest.approx(window.budget_ratio)
    assert WINDOW_SECONDS[window.short_window] * 12 == WINDOW_SECONDS[window.long_window]


def test_both_windows_must_burn():
    fast = load_burn_windows()[0]
    rates = dict.fromkeys(WINDOW_SECONDS, 20.0)
    assert fast.holds(rates, counts(2)) is True
    assert fast.holds({**rates, "5m": 14.3}, counts(2)) is False
    assert fast.holds({**rates, "1h": 14.3}, counts(2)) is False


def test_one_bad_event_is_never_enough():
    fast = load_burn_windows()[0]
    assert fast.holds(dict.fromkeys(WINDOW_SECONDS, 1000.0), counts(1, 1)) is False


def test_a_window_without_an_event_can_not_be_judged():
    fast = load_burn_windows()[0]
    assert fast.holds({**dict.fromkeys(WINDOW_SECONDS, 20.0), "5m": None}, counts(2)) is None
