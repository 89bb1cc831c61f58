import pytest

from analytics.error_budget import budget_left_ratio, burn_rate, exhausted_in_seconds, ratio

DAY = 86400.0


def test_no_event_is_no_data_in_every_figure():
    assert ratio(0, 0) is None
    assert burn_rate(0, 0, 0.001) is None
    assert budget_left_ratio(0, 0, 0.001) is None
    assert exhausted_in_seconds(None, None, 30 * DAY) is None


def test_burning_at_one_spends_the_budget_in_the_window():
    assert burn_rate(1, 1000, 0.001) == 1
    assert budget_left_ratio(1, 1000, 0.001) == 0
    assert budget_left_ratio(3, 1000, 0.001) == pytest.approx(-2)


def test_a_burn_of_35_empties_a_30_day_budget_in_20_6_hours():
    assert exhausted_in_seconds(1.0, 35.0, 30 * DAY) == pytest.approx(20.57 * 3600, rel=1e-3)


@pytest.mark.parametrize(
    ("left", "burn", "seconds"),
    [(0.0, 5.0, 0.0), (-1.0, 0.0, 0.0), (0.5, 0.0, None), (0.5, None, None), (0.5, 0.4, None), (0.5, 2.0, 7.5 * DAY)],
    ids=["spent", "overspent", "nothing burns", "not measured", "outlasts the window", "half left at burn 2"],
)
def test_time_to_exhaustion(left, burn, seconds):
    assert exhausted_in_seconds(left, burn, 30 * DAY) == seconds
