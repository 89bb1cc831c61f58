"""Numbers as people read them."""

from decimal import Decimal

import pytest

from dashboards import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0042, "4.2 ms"),
        (0.84, "840 ms"),
        (0.9996, "1 s"),
        (3.14159, "3.14 s"),
        (119, "119 s"),
        (750, "12.5 min"),
        (11520, "3.2 h"),
        (4.1 * 86400, "4.1 d"),
        (None, "—"),
        (float("nan"), "—"),
        (float("inf"), "—"),
    ],
)
def test_a_duration_has_the_unit_that_fits(value, text):
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0239, "2.39 %"), (0.125, "12.5 %"), (0.83, "83 %"), (0, "0.00 %"), (None, "—")]
)
def test_a_ratio_is_a_percentage(value, text):
    assert formats.ratio(value) == text


@pytest.mark.parametrize(("value", "text"), [(169, "169"), (4655, "4,655"), (1_240_000, "1.24 M"), (2.5e9, "2.5 G")])
def test_a_count_is_short(value, text):
    assert formats.count(value) == text


@pytest.mark.parametrize(
    ("units", "text"),
    [("4655.885", "$4,655.88"), ("4655.895", "$4,655.90"), ("-0.5", "−$0.50"), ("0.004", "$0.00")],
)
def test_money_is_rounded_half_even_from_the_exact_amount(units, text):
    assert formats.usd(Decimal(units)) == text


def test_money_keeps_nine_places_where_asked():
    assert formats.usd(Decimal("21041.844272316"), places=9) == "$21,041.844272316"
    assert formats.usd(Decimal(1), currency="EUR") == "EUR 1.00"


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [
        (6.88, 1, "+588%"),
        (0.5, 1, "-50%"),
        (1.001, 1, 0),
        (0.999, 1, 0),
        (17, 1, "×17"),
        (1, 0, "from 0"),
        (0, 0, 0),
        (1, None, None),
        (None, 1, None),
    ],
)
def test_a_change_of_nothing_is_the_number_zero_and_not_a_string_with_a_sign(now, before, text):
    assert formats.change(now, before) == text


@pytest.mark.parametrize(("value", "text"), [(4, "4 s"), (-1, "0 s"), (240, "4 min"), (1e6, "12 d"), (None, "no data")])
def test_an_age_is_short(value, text):
    assert formats.age(value) == text


@pytest.mark.parametrize(("value", "text"), [(10800, "3 h"), (14 * 86400, "14 d"), (3005, "50 min"), (172800, "48 h")])
def test_a_window_is_named_by_its_length(value, text):
    assert formats.span(value) == text
