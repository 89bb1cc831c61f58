"""A bill in FOCUS becomes invoice lines that add up to it, and what is doubtful is told."""

from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from analytics.errors import AnalyticsError
from analytics.focus_files import place_by_table, read_focus

ROW = {
    "BilledCost": "1.5",
    "EffectiveCost": "1.25",
    "BillingCurrency": "USD",
    "ChargePeriodStart": "2026-11-01T00:00:00Z",
    "ChargePeriodEnd": "2026-11-01T01:00:00Z",
    "ChargeCategory": "Usage",
    "ResourceId": "i-1",
    "SkuId": "gpu",
}
ONES = place_by_table([("i-*", "r"), ("fleet", "")])


def bill(tmp_path, *rows, place=ONES, parquet=False, **how):
    table = pa.Table.from_pylist([{**ROW, **row} for row in rows])
    path = tmp_path / ("bill.parquet" if parquet else "bill.csv")
    (pyarrow.parquet.write_table if parquet else pyarrow.csv.write_csv)(table, path)
    return read_focus(path, place, **how)


@pytest.mark.parametrize("parquet", [False, True])
def test_lines_of_the_fleet_are_taken_and_others_told(tmp_path, parquet):
    found = bill(tmp_path, {}, {"ResourceId": "disk"}, {"ResourceId": "fleet"}, {"ResourceId": None}, parquet=parquet)
    assert [(line["replica"], line["amount_units"]) for line in found.lines] == [("r", 15 * 10**8), (None, 15 * 10**8)]
    assert found.left_out == {"disk": Fraction(3, 2), "": Fraction(3, 2)}


def test_effective_cost_spreads_what_was_paid_ahead(tmp_path):
    (line,) = bill(tmp_path, {}, cost="effective").lines
    assert line["amount_units"] == 125 * 10**7


def test_amounts_finer_than_a_unit_add_up_to_the_rounded_sum(tmp_path):
    found = bill(tmp_path, *({"BilledCost": "0.00000000040", "SkuId": str(k)} for k in range(10)))
    assert sum(line["amount_units"] for line in found.lines) == 4
    assert found.lines[-1]["description"] == "rounding of 10 lines to 1e-9 USD"


def test_typed_cells_of_parquet_are_read_exactly(tmp_path):
    found = bill(tmp_path, {"BilledCost": Decimal("1.50000000001")}, parquet=True)
    assert found.exact == Fraction(Decimal("1.50000000001"))
    assert bill(tmp_path, {"BilledCost": 0.1}, parquet=True).exact == Fraction(1, 10)


def test_a_row_twice_is_doubtful_unless_both_are_meant(tmp_path):
    assert bill(tmp_path, {}, {}).doubtful == ["line 3 is the same as an earlier one in every column"]
    kept = bill(tmp_path, {}, {}, keep_duplicates=True)
    assert kept.doubtful == []
    assert len({line["invoice_id"] for line in kept.lines}) == 2


def test_a_negative_charge_is_told_and_a_credit_is_not(tmp_path):
    assert "a charge of Usage is negative" in bill(tmp_path, {"BilledCost": "-1"}).negative[0]
    assert "a quantity of Usage is negative" in bill(tmp_path, {"ConsumedQuantity": "-1"}).negative[0]
    credit, correction = (
        {"BilledCost": "-1", "ChargeCategory": "Credit"},
        {"BilledCost": "-1", "ChargeClass": "Correction"},
    )
    for row, category in ((credit, "credit"), (correction, "adjustment")):
        found = bill(tmp_path, row)
        assert found.negative == []
        assert found.lines[0]["charge_category"] == category


def test_several_currencies_are_doubtful(tmp_path):
    assert bill(tmp_path, {}, {"BillingCurrency": "EUR", "SkuId": "b"}).doubtful == [
        "its lines are in EUR, USD; amounts are not converted"
    ]


def test_a_corrected_bill_names_its_lines_as_before(tmp_path):
    first, second = (bill(tmp_path, {"BilledCost": cost}).lines[0] for cost in ("1.5", "1.4"))
    assert first["invoice_id"] == second["invoice_id"]
    assert first["amount_units"] != second["amount_units"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"BilledCost": "a lot"}, "line 2, BilledCost: 'a lot' is no amount"),
        ({"BilledCost": "nan"}, "is no amount"),
        ({"ChargePeriodStart": "yesterday"}, "is no time"),
        ({"ChargePeriodEnd": "2026-10-01T00:00:00Z"}, "ends .* before it begins"),
    ],
)
def test_a_cell_that_can_not_be_read_is_named(tmp_path, row, says):
    with pytest.raises(AnalyticsError, match=says):
        bill(tmp_path, row)


def test_a_file_that_is_no_focus_bill_says_what_it_lacks(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(AnalyticsError, match="no column BilledCost, BillingCurrency"):
        read_focus(tmp_path / "x.csv", ONES)
    with pytest.raises(AnalyticsError, match="no file at"):
        read_focus(tmp_path / "absent.csv", ONES)


@pytest.mark.shared
def test_the_focus_sample_adds_up_to_the_cent_and_beyond(shared, tmp_path):
    path = shared / "data/focus_sample/focus_sample.csv"
    found = read_focus(path, lambda resource: "")
    costs = pyarrow.csv.read_csv(
        path, convert_options=pyarrow.csv.ConvertOptions(column_types={"BilledCost": pa.string()})
    )
    exact = sum(Fraction(Decimal(text)) for text in costs["BilledCost"].to_pylist())
    assert (found.rows_count, found.exact) == (1000, exact)
    assert sum(line["amount_units"] for line in found.lines) == int(exact * 10**9 + Fraction(1, 2))
    assert found.doubtful == []
    assert len(found.negative) == 12
