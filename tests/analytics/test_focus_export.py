"""The chargeback as FOCUS rows: exact, clean under our own checker; and a broken file for every rule of the checker."""

import csv
import json
from datetime import date, datetime
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.allocation.entries import entry_schema
from analytics.focus_export.checking import absent, check, version_of
from analytics.focus_export.columns import columns, holds
from analytics.focus_export.rows import Chargeback, as_version, csv_text, focus_rows
from analytics.focus_files import place_by_table, read_focus, read_table
from analytics.ledger import CostReport, units_to_usd
from analytics.replica_intervals import ReplicaInterval

FIRST, LAST = date(2026, 11, 1), date(2026, 12, 1)
ABOUT = Chargeback("Platform", "platform", FIRST, LAST)
PLACE = ReplicaInterval("r0", datetime(2026, 10, 1), None, "m", "aws", "us-east-1", "reserved", "H100", 1)
BUCKETS = ("request", "wasted", "warm_idle", "unattributed", "fault")
names = st.sampled_from([None, "a", "b"])
units = st.integers(-(10**12), 10**15)


def report(*rows):
    full = []
    for day, replica, bucket, team, app, amount in rows:
        entry = dict.fromkeys(entry_schema(), 0)
        entry |= {"day": FIRST.replace(day=day), "replica": replica, "model": "m", "bucket": bucket, "team": team}
        full.append({**entry, "app": app, "method": "tokens" if team else None, "amount_units": amount})
    entries = pl.DataFrame(full, schema=entry_schema(), orient="row")
    return CostReport(FIRST, LAST, "USD", int(entries["amount_units"].sum()), entries, [])


SMALL = report(
    (1, "r0", "request", "a", "x", 7), (1, "r0", "request", "b", None, 5), (1, "r0", "warm_idle", None, None, 1)
)


def table(version="1.3", **changes):
    """A clean file of text; `changes` replaces the cells of the first row, None takes a column away."""
    made = as_version(focus_rows(SMALL, [PLACE], ABOUT), version)
    header, *lines = csv.reader(csv_text(made).splitlines())
    rows = [{name: cell or None for name, cell in zip(header, line, strict=True)} for line in lines]
    for name, cell in changes.items():
        rows[0][name] = cell
    wanted = [*header, *(name for name in changes if name not in header)]
    kept = {name: [row.get(name) for row in rows] for name in wanted}
    return pa.table({name: pa.array(cells, pa.string()) for name, cells in kept.items()})


@given(
    st.lists(
        st.tuples(st.integers(1, 28), st.sampled_from(["r0", "r1"]), st.sampled_from(BUCKETS), names, names, units)
    )
)
def test_rows_sum_to_the_bill_and_the_shares_of_a_replicas_day_to_one(rows):
    found = report(*rows)
    written = focus_rows(found, [PLACE], ABOUT)
    for cost in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum((row[cost] for row in written), Decimal(0)) == units_to_usd(found.bill_units)
    assert check(as_version(written, "1.3"), version="1.3", total=units_to_usd(found.bill_units)) == []


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_an_export_is_clean_as_csv_and_as_parquet(tmp_path, version):
    made = as_version(focus_rows(SMALL, [PLACE], ABOUT), version)
    (tmp_path / "f.csv").write_text(csv_text(made))
    pyarrow.parquet.write_table(made, tmp_path / "f.parquet")
    for file in ("f.csv", "f.parquet"):
        read = read_table(tmp_path / file)
        assert version_of(read.column_names) == version
        assert check(read, total=Decimal("0.000000013")) == []


def test_later_columns_are_custom_ones_in_an_older_version():
    older, newer = (set(as_version([], version).column_names) for version in ("1.2", "1.3"))
    assert {name.removeprefix("x_") for name in older} == {name.removeprefix("x_") for name in newer}
    assert {"x_AllocatedMethodId", "x_ServiceProviderName"} <= older
    assert {"AllocatedMethodId", "AllocatedTags", "ServiceProviderName"} <= newer
    assert sum(column.since <= "1.2" for column in columns()) == 57
    assert len(columns()) == 65


def test_a_row_says_who_bears_what_of_which_replica():
    first, second, idle = focus_rows(SMALL, [PLACE], ABOUT)
    assert (first["ResourceId"], first["AllocatedResourceId"], first["SubAccountId"]) == ("r0", "a/x", "a")
    assert (second["AllocatedResourceId"], idle["AllocatedResourceId"]) == ("b", None)
    assert (first["PricingCategory"], first["HostProviderName"], first["RegionId"]) == ("Committed", "aws", "us-east-1")
    shares = [
        json.loads(row["AllocatedMethodDetails"])["Elements"][0]["AllocatedRatio"] for row in (first, second, idle)
    ]
    assert shares == [0.538461538461, 0.384615384615, 0.076923076924]


def test_our_own_import_reads_our_own_export(tmp_path):
    (tmp_path / "f.csv").write_text(csv_text(as_version(focus_rows(SMALL, [PLACE], ABOUT), "1.2")))
    read = read_focus(tmp_path / "f.csv", place_by_table([("r0", "r0")]))
    assert sum(line["amount_units"] for line in read.lines) == SMALL.bill_units


@pytest.mark.parametrize(
    ("rule", "column", "changes"),
    [
        ("name", "Owner", {"Owner": "x"}),
        ("name", "billedcost", {"billedcost": "1"}),
        ("type", "BilledCost", {"BilledCost": "$1"}),
        ("type", "BilledCost", {"BilledCost": "1,000"}),
        ("type", "ListUnitPrice", {"ListUnitPrice": "-1", "PricingQuantity": None, "PricingUnit": None}),
        ("type", "ChargePeriodStart", {"ChargePeriodStart": "2026-11-01 00:00:00"}),
        ("type", "ChargePeriodStart", {"ChargePeriodStart": "2026-11-31T00:00:00Z"}),
        ("type", "BillingCurrency", {"BillingCurrency": "dollars"}),
        ("type", "Tags", {"Tags": '{"a": {"b": 1}}'}),
        ("type", "Tags", {"Tags": '{"a": 1, "a": 2}'}),
        ("type", "AllocatedTags", {"AllocatedTags": "[1]"}),
        ("null", "BilledCost", {"BilledCost": None}),
        ("null", "SkuId", {"SkuId": None, "SkuMeter": None, "SkuPriceId": None}),
        ("null", "RegionName", {"RegionName": None}),
        ("null", "SubAccountName", {"SubAccountId": None, "SubAccountType": None}),
        ("null", "AllocatedMethodId", {"AllocatedMethodId": None}),
        ("allowed", "ChargeCategory", {"ChargeCategory": "Tip", "ConsumedQuantity": None, "ConsumedUnit": None}),
        ("allowed", "ChargeClass", {"ChargeClass": "Correct"}),
        ("period", "ChargePeriodEnd", {"ChargePeriodEnd": "2026-11-01T00:00:00Z"}),
        ("product", "ListCost", {"PricingQuantity": "2", "ContractedUnitPrice": "0.0000000035"}),
        ("one", "ServiceSubcategory", {"ServiceSubcategory": "Containers"}),
        ("one", "SkuPriceId", {"SkuId": "other"}),
        ("ratio", "AllocatedMethodDetails", {"AllocatedMethodDetails": '{"Elements":[{"AllocatedRatio":0.5}]}'}),
        ("ratio", "AllocatedMethodDetails", {"AllocatedMethodDetails": '{"Elements":[]}'}),
    ],
)  # fmt: skip
def test_a_broken_file_is_found(rule, column, changes):
    found = check(table(**changes), version="1.3")
    assert (rule, column) in {(finding.rule, finding.column) for finding in found}
    assert {finding.rule for finding in found} <= {rule, "ratio", "null"}


def test_a_column_that_must_be_there_is_missed_and_one_that_may_is_named():
    made = table().drop_columns(["BilledCost", "RegionId", "RegionName"])
    assert [(finding.rule, finding.column) for finding in check(made)] == [("present", "BilledCost")]
    assert {"RegionId", "RegionName"} <= set(absent(made.column_names, "1.3"))


def test_a_sum_that_is_off_by_a_unit_is_found():
    (found,) = check(table(), total=Decimal("0.000000014"))
    assert (found.rule, found.told) == ("total", "sums to 0.000000013, not to 0.000000014")


def test_conditions_of_the_table_are_read():
    for column in columns():
        for condition in (column.null_when, column.given_when):
            holds(condition, dict.fromkeys(("ChargeCategory", "ChargeClass")))
            for part in condition.replace(" or ", " and ").split(" and "):
                assert not part or part.split(" ")[0] in {known.column for known in columns()}
    assert holds("A in x|y and B is null", {"A": "y", "B": None})
    assert not holds("A not in x", {"A": "x"})
    assert not holds("", {})


@pytest.mark.shared
def test_the_published_sample_of_1_0_is_told_what_it_lacks(shared):
    read = read_table(shared / "data" / "focus_sample" / "focus_sample.csv")
    assert version_of(read.column_names) == "1.0"
    told = {(finding.rule, finding.column): finding for finding in check(read, version="1.2")}
    assert told["type", "ChargePeriodStart"].rows_count == 1000  # 2024-09-18 22:00:00, without T and Z
    assert told["allowed", "ChargeFrequency"].told.startswith("'Usage-based'")
    assert ("name", "Id") in told
    assert {"BillingAccountType", "InvoiceId", "PricingCurrency"} <= set(absent(read.column_names, "1.2"))


@pytest.mark.parametrize("closed", [False, True])
def test_the_commands_write_and_check_a_month(october, cost, tmp_path, closed):
    if closed:
        assert cost("close", "--month", "2026-10").code == 0
    out = tmp_path / "october.csv"
    ran = cost("focus", "--month", "2026-10", "--out", str(out), "--version", "1.2", "--now", "2026-11-01T09:00")
    assert ran.code == 0, ran.err
    assert "BilledCost 1488.000000000 USD, which is the bill" in ran.err
    rows = read_table(out).to_pylist()
    assert {row["InvoiceId"] is not None for row in rows} == {closed}
    assert {row["SubAccountId"] for row in rows} == {"x", "y", None}


def test_the_check_command_says_what_is_wrong(cli, tmp_path):
    path = tmp_path / "f.csv"
    path.write_text(csv_text(as_version(focus_rows(SMALL, [PLACE], ABOUT), "1.2")).replace("Usage,", "Tip,", 1))
    ran = cli("cost", "focus", "check", str(path), "--format", "json")
    assert ran.code == 1
    assert "allowed" in {finding["rule"] for finding in json.loads(ran.out)}
    path.write_text(csv_text(as_version(focus_rows(SMALL, [PLACE], ABOUT), "1.2")))
    assert cli("cost", "focus", "check", str(path), "--total", "0.000000013").code == 0
    assert cli("cost", "focus", "check", str(path), "--total", "much").code == 2
    assert cli("cost", "focus", "check", str(tmp_path / "none.csv")).code == 2
