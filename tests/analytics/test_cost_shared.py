"""The real multi-tenant run of VTC (29 tenants, measured requests), billed at a made-up invoice."""

from contextlib import closing
from datetime import date, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest

from analytics.allocation.idle import POLICIES, with_idle_policy
from analytics.cost import cost_report, team_costs
from analytics.ledger import METHODS
from collector.client import FileClient

START = datetime(2026, 11, 1)
INVOICE_UNITS = 12_345_678_901_234_567


@pytest.fixture
def rows(shared):
    """One replica a recorded run, its requests as our importer would land them."""
    measured = pl.read_parquet(shared / "data" / "vtc_multitenant" / "requests.parquet").with_row_index("number")
    runs = measured.select("path", "line").unique(maintain_order=True).with_row_index("run")
    at = pl.lit(START) + pl.duration(microseconds=(pl.col("req_time_s") * 1e6).cast(pl.Int64))
    served = pl.col("e2e_s") >= 0
    return measured.join(runs, on=["path", "line"]).select(
        trace_id=pl.format("{}", pl.col("number")).str.zfill(32),
        span_id=pl.format("{}", pl.col("number")).str.zfill(16),
        started_at=at,
        ended_at=at + pl.duration(microseconds=(pl.max_horizontal("e2e_s", 0) * 1e6).cast(pl.Int64)),
        team="tenant",
        replica=pl.format("run-{}", "run"),
        outcome=pl.when(served).then(pl.lit("ok")).otherwise(pl.lit("rejected")),
        input_tokens="prompt_len",
        output_tokens=pl.when(served).then("output_len"),
        ttft_seconds=pl.when(pl.col("ttft_s") >= 0).then("ttft_s"),
        e2e_seconds=pl.when(served).then("e2e_s"),
        queue_seconds=pl.when(served).then(pl.max_horizontal(pl.col("ttft_s") - 0.2, 0)),
        prefill_seconds=pl.when(served).then(pl.min_horizontal(pl.col("ttft_s"), 0.2)),
        decode_seconds=pl.when(served).then(pl.col("e2e_s") - pl.col("ttft_s")),
        source=pl.lit("import_vtc"),
        estimated=pl.lit(False),
    )


@pytest.mark.shared
def test_the_real_run_sums_to_its_invoice_under_every_method_and_idle_policy(rows, tmp_path):
    replicas = rows["replica"].unique(maintain_order=True).to_list()
    assert rows["team"].n_unique() == 29, "the tenants of the run"
    with closing(FileClient(tmp_path / "vtc.duckdb", write=True)) as client:
        client.land("requests", rows.to_arrow())
        inventory = [
            {"replica": name, "valid_from": START, "valid_to": START + timedelta(hours=5), "gpu_type": "A10G",
             "gpu_count": 1 + place % 3, "model": "llama-7b"}
            for place, name in enumerate(replicas)
        ]  # fmt: skip
        client.land("replicas", pa.Table.from_pylist(inventory))
        invoice = {
            "invoice_id": "made up", "period_from": START, "period_to": START + timedelta(hours=5), "currency": "USD",
            "amount_units": INVOICE_UNITS,
        }  # fmt: skip
        client.land("invoices", pa.Table.from_pylist([invoice]))
        for method in METHODS:
            report = cost_report(client, date(2026, 11, 1), date(2026, 11, 2), method=method)
            assert report.bill_units == INVOICE_UNITS
            assert report.entries["amount_units"].min() >= 0
            for policy in POLICIES:
                shared_out = with_idle_policy(client, report, policy)
                assert shared_out.entries["amount_units"].sum() == INVOICE_UNITS
                assert team_costs(shared_out)["team"].drop_nulls().n_unique() == 29
