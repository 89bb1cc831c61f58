"""Whole hours of a bill, split: folders of small tables in `cases/`, with the entries that are expected.

A case holds `requests.csv` where there are any, `parameters.yaml` (the bill as parallel lists, the token weights) and
`expected.csv` with the entries in order; columns that it leaves out are not compared.
"""

from contextlib import closing
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
import yaml
from polars.testing import assert_frame_equal

from analytics.allocation.sharing import Rules
from analytics.bill import BillHour
from analytics.ledger import split_bill
from collector.client import FileClient
from collector.table_contracts import table_contracts

CASES = sorted(case for case in (Path(__file__).parent / "cases").iterdir() if case.is_dir())


def read_csv(file, schema):
    options = pyarrow.csv.ConvertOptions(
        column_types={field.name: field.type for field in schema}, strings_can_be_null=True, null_values=[""]
    )
    return pyarrow.csv.read_csv(file, convert_options=options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bill_is_split_as_expected(case, tmp_path):
    given = yaml.safe_load((case / "parameters.yaml").read_text())
    lists = (given[name] for name in ("replicas", "hours", "models", "bill_units", "billed_microseconds"))
    bill = [
        BillHour(replica, datetime.fromisoformat(str(hour)), model, units, billed)
        for replica, hour, model, units, billed in zip(*lists, strict=True)
    ]
    weights = (given["weight_input"], given["weight_cached"], given["weight_output"])
    start, end = (datetime.fromisoformat(str(given[name])) for name in ("start", "end"))
    known_at = given.get("known_at") and datetime.fromisoformat(str(given["known_at"]))
    with closing(FileClient(tmp_path / "case.duckdb", write=True)) as client:
        if (case / "requests.csv").is_file():
            schema = table_contracts()["requests"].schema
            rows = read_csv(case / "requests.csv", schema)
            for column in schema:
                if column.name not in rows.column_names:
                    rows = rows.append_column(column, pa.nulls(rows.num_rows, column.type))
            client.land("requests", rows)
        found, _ = split_bill(client, bill, start, end, Rules("tokens", weights, known_at=known_at))
    expected = pl.from_arrow(read_csv(case / "expected.csv", found.to_arrow().schema))
    assert_frame_equal(found.select(expected.columns).sort(pl.all()), expected.sort(pl.all()))
    assert found["amount_units"].sum() == sum(given["bill_units"])
