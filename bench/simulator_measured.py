"""The engine model beside measured runs: errors of mean and 95th percentile, and with --pictures the plots of the docs.

Needs the public data of `../shared` (FLEETMETER_SHARED names another place).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analytics.simulator.calibrate import (
    Agreement,
    MeasuredRun,
    Replay,
    compare,
    read_batches,
    read_run,
    replay,
    replay_batches,
)
from analytics.simulator.hit_rate import Order, lru_hit_ratio
from analytics.simulator.presets import find_profile
from analytics.simulator.traces import read_mooncake

RUNS = {"RTX4090": "rtx4090_llama-3.1-8b_bf16", "RTXPRO6000": "rtxpro6000_llama-3.1-8b_bf16"}
BATCHES = {
    "a100x4_llama2-70b_fp16": ("llama2-70b", "a100-80gb", 4),
    "a100x8_llama2-70b_fp16": ("llama2-70b", "a100-80gb", 8),
    "h100x2_llama2-70b_fp16": ("llama2-70b", "h100-80gb", 2),
    "h100x4_llama2-70b_fp16": ("llama2-70b", "h100-80gb", 4),
    "h100x8_llama2-70b_fp16": ("llama2-70b", "h100-80gb", 8),
    "a100x8_bloom-176b_fp16": ("bloom-176b", "a100-80gb", 8),
    "h100x8_bloom-176b_fp16": ("bloom-176b", "h100-80gb", 8),
}


def main() -> int:
    """Print the tables; draw where asked to."""
    parser = argparse.ArgumentParser(prog="bench simulator_measured", description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder for the plots")
    given = parser.parse_args()
    named = os.environ.get("FLEETMETER_SHARED")
    data = (Path(named) if named else Path(__file__).parents[2] / "shared") / "data"
    if not data.is_dir():
        print(f"no public data at {data}; name it with FLEETMETER_SHARED", file=sys.stderr)
        return 0
    for gpu, name in RUNS.items():
        run = read_run(data / "llmservingsim_vllm_runs" / f"{gpu}__Llama-3.1-8B")
        profile = find_profile(name)
        replayed = replay(run, profile)
        fitted = run.last < np.median(run.last)
        for label, which in (("all 300 requests", fitted | ~fitted), ("fitted half", fitted), ("other half", ~fitted)):
            print_agreement(f"{gpu}, {label}", compare(run, replayed, which))
        if given.pictures:
            draw(given.pictures / f"simulator_{gpu.lower()}.png", gpu, run, replayed, profile.kv_blocks)
    for name, key in BATCHES.items():
        measured = read_batches(data / "splitwise_sim" / "perf_model.csv", *key)
        ttft, tpot = replay_batches(measured, find_profile(name))
        fitted = np.arange(measured.prompt.size) % 2 == 0
        for label, which in (("all", fitted | ~fitted), ("other half", ~fitted)):
            print_agreement(
                f"{name}, {label}", agreements(measured.ttft[which], ttft[which], measured.tpot[which], tpot[which])
            )
    trace = read_mooncake(data / "mooncake_fast25" / "conversation_trace.jsonl")
    orders: tuple[Order, ...] = ("in_order", "tail_first")
    for order in orders:
        rates = [lru_hit_ratio(trace, blocks, order) for blocks in (None, 50_000, 10_000, 5_000, 1_000)]
        listed = ", ".join(f"{rate:.4f}" for rate in rates if rate)
        print(f"Mooncake conversation, LRU of inf/50k/10k/5k/1k blocks, {order}: {listed}")
    return 0


def agreements(*pairs: np.ndarray) -> list[Agreement]:
    """Mean and 95th percentile of TTFT and TPOT: measured, simulated, measured, simulated."""
    return [
        Agreement(f"{name}_{label}_seconds", float(statistic(pairs[k])), float(statistic(pairs[k + 1])))
        for k, name in ((0, "ttft"), (2, "tpot"))
        for label, statistic in (("mean", np.mean), ("p95", lambda values: np.percentile(values, 95)))
    ]


def print_agreement(title: str, rows: Sequence[Agreement]) -> None:
    """One line a run: measured -> simulated (error) for each statistic."""
    cells = [
        f"{row.name.removesuffix('_seconds')} {row.measured:.4g} -> {row.simulated:.4g} s ({row.error_ratio:+.1%})"
        for row in rows
    ]
    print(f"{title}: {'; '.join(cells)}")


def draw(file: Path, gpu: str, run: MeasuredRun, replayed: Replay, blocks: int) -> None:
    """Running, waiting and KV use over time, measured and simulated."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    t = run.gauges["t"]
    seconds = np.arange(1, int(t.max()) + 1)
    known = run.gauges["kv_cache_pct"].max() > 0
    figure, axes = pyplot.subplots(3, 1, figsize=(7.5, 5.6), sharex=True, layout="constrained")
    for axis, name, simulated in (
        (axes[0], "running", replayed.telemetry.running),
        (axes[1], "waiting", replayed.telemetry.waiting),
        (axes[2], "kv_cache_pct", replayed.telemetry.blocks / blocks * 100),
    ):
        if name != "kv_cache_pct" or known:
            axis.plot(t, run.gauges[name], color="#1f2937", linewidth=1.6, label="measured")
        axis.plot(seconds, simulated[: seconds.size], color="#ea580c", linewidth=1.3, linestyle="--", label="simulated")
        axis.set_ylabel({"running": "running", "waiting": "waiting", "kv_cache_pct": "KV in use, %"}[name])
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, ncols=2)
    axes[2].set_xlabel("s after the first request")
    if not known:
        axes[2].set_title("(the measured run reports no KV use)", fontsize=8, loc="right")
    axes[0].set_title(f"Llama-3.1-8B on {gpu}, vLLM 0.19.0, 300 ShareGPT requests at 10/s", fontsize=10, loc="left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
