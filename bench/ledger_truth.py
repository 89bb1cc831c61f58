"""The cost methods against the truth of simulated fleets: how far each team's share of the busy bill is off."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import closing
from datetime import datetime, time, timedelta
from pathlib import Path

import polars as pl

from analytics.ledger import cost_report
from analytics.simulator.config import FleetConfig
from analytics.simulator.fleet import SimulatedFleet, simulate
from analytics.simulator.presets import load_preset, parse_fleet
from collector.client import FileClient

METHODS = ("step_share", "phase_time", "shapley", "kv_token_seconds", "tokens")
END = datetime(2026, 11, 20, 15)
DAY = timedelta(days=1)
ONE_PRICE = "3.6"
"""The same for each GPU, so that a share of the bill is a share of GPU time."""


def one_price(config: FleetConfig) -> FleetConfig:
    """The same fleet with one price for all its GPUs."""
    data = config.model_dump(mode="json")
    gpus = sorted({model.gpu_type for model in config.models if model.gpu_type} | {"H100-SXM5-80GB", "L40S"})
    gpus += [gpu for gpu in ("RTX4090", "RTXPRO6000", "A100-SXM4-80GB") if gpu not in gpus]
    data["rates"] = [
        {"gpu_type": gpu, "usd_per_gpu_hour": ONE_PRICE, "valid_from": "2020-01-01", "origin": "one price"}
        for gpu in gpus
    ]
    return parse_fleet(data, config.name)


def crowded(config: FleetConfig) -> FleetConfig:
    """The same fleet on a third of its replicas: queues, large batches, preemptions."""
    data = config.model_dump(mode="json")
    for model in data["models"]:
        model["replicas"] = max(1, model["replicas"] // 3)
    data["incidents"] = []
    data["name"] = f"{config.name}, a third of its replicas"
    return parse_fleet(data, config.name)


def measured_profiles(config: FleetConfig) -> FleetConfig:
    """The same requests on engines whose step times were measured, and are not linear in the prompt tokens."""
    data = config.model_dump(mode="json")
    names = ("h100x4_llama2-70b_fp16", "rtxpro6000_llama-3.1-8b_bf16", "rtx4090_llama-3.1-8b_bf16")
    for model, name in zip(data["models"], names, strict=False):
        model.update(profile=name, max_model_len=8192, gpu_type=None, gpu_count=None)
    data["incidents"] = []
    data["name"] = f"{config.name} on measured engines"
    return parse_fleet(data, config.name)


def errors(fleet: SimulatedFleet, methods: tuple[str, ...]) -> dict[str, tuple[float, float, float]]:
    """By method: mean and largest relative error of a team's share, and half the sum of absolute differences.

    Whole days are compared, the first one (which has no past) left out; a team's share is its part of the busy bill,
    wasted requests included; requests without a team count as a team.
    """
    first, last = (fleet.start + DAY).date(), fleet.end.date()
    low, high = datetime.combine(first, time()), datetime.combine(last, time())
    found = {}
    with tempfile.TemporaryDirectory() as folder, closing(FileClient(Path(folder) / "f.duckdb", write=True)) as client:
        for table, rows in fleet.tables.items():
            client.land(table, rows)
        teams = pl.DataFrame(fleet.tables["requests"].select(["trace_id", "span_id", "team"]))
        truth = (
            pl.DataFrame(fleet.truth["truth_shares"])
            .filter((pl.col("bucket") == "request") & (pl.col("hour_at") >= low) & (pl.col("hour_at") < high))
            .join(teams, on=["trace_id", "span_id"])
            .group_by("team")
            .agg(pl.col("gpu_microseconds").sum())
            .with_columns(true=pl.col("gpu_microseconds") / pl.col("gpu_microseconds").sum())
        )
        for method in methods:
            entries = cost_report(client, first, last, method=method).entries
            sums = entries.filter(pl.col("method").is_not_null()).group_by("team").agg(pl.col("amount_units").sum())
            both = truth.join(sums, on="team", how="left", nulls_equal=True).with_columns(
                share=pl.col("amount_units").fill_null(0) / pl.col("amount_units").sum()
            )
            off = (both["share"] / both["true"] - 1).abs()
            found[method] = (
                float(off.mean() or 0.0),  # type: ignore[arg-type]
                float(off.max() or 0.0),  # type: ignore[arg-type]
                float((both["share"] - both["true"]).abs().sum()) / 2,
            )
    return found


def main() -> int:
    """Print a table: rows are fleets and seeds, columns methods."""
    parser = argparse.ArgumentParser(prog="bench ledger_truth", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--days", type=float, default=3.0)
    given = parser.parse_args()
    demo = one_price(load_preset("demo"))
    print("mean over teams of |share / true share - 1| (largest; share of the busy bill on the wrong team)\n")
    print("| fleet | seed | " + " | ".join(METHODS) + " |")
    print("|---|---:|" + "---:|" * len(METHODS))
    for config in (demo, crowded(demo), measured_profiles(demo)):
        for seed in given.seeds:
            found = errors(simulate(config, seed, END - given.days * DAY, END), METHODS)
            cells = (f"{mean:.2%} ({most:.1%}; {moved:.2%})" for mean, most, moved in found.values())
            print(f"| {config.name} | {seed} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
