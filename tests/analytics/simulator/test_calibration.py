"""The engine profiles against the measured runs that they were fitted to in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analytics.simulator.calibrate import (
    Agreement,
    compare,
    fit,
    fit_batches,
    read_batches,
    read_run,
    replay,
    replay_batches,
)
from analytics.simulator.errors import SimulatorError
from analytics.simulator.hit_rate import lru_hit_ratio
from analytics.simulator.presets import find_profile, load_profiles
from analytics.simulator.traces import read_mooncake

BATCHES = [
    ("a100x4_llama2-70b_fp16", "llama2-70b", "a100-80gb", 4),
    ("a100x8_llama2-70b_fp16", "llama2-70b", "a100-80gb", 8),
    ("h100x2_llama2-70b_fp16", "llama2-70b", "h100-80gb", 2),
    ("h100x4_llama2-70b_fp16", "llama2-70b", "h100-80gb", 4),
    ("h100x8_llama2-70b_fp16", "llama2-70b", "h100-80gb", 8),
    ("a100x8_bloom-176b_fp16", "bloom-176b", "a100-80gb", 8),
    ("h100x8_bloom-176b_fp16", "bloom-176b", "h100-80gb", 8),
]


def worst(agreements: list[Agreement]) -> float:
    return max(abs(agreement.error_ratio) for agreement in agreements)


@pytest.mark.shared
@pytest.mark.parametrize("gpu", ["RTX4090", "RTXPRO6000"])
def test_a_measured_vllm_run_comes_out_within_ten_percent(shared: Path, gpu: str) -> None:
    run = read_run(shared / "data" / "llmservingsim_vllm_runs" / f"{gpu}__Llama-3.1-8B")
    replayed = replay(run, find_profile(f"{gpu.lower()}_llama-3.1-8b_bf16"))
    assert worst(compare(run, replayed)) < 0.10
    later = run.last >= np.median(run.last)
    assert worst(compare(run, replayed, later)) < 0.05, "the half that was not fitted"
    seconds = run.gauges["t"].astype(int) - 1
    running = replayed.telemetry.running[seconds]
    assert np.abs(running - run.gauges["running"]).mean() < 0.08 * run.gauges["running"].max()
    waiting = replayed.telemetry.waiting[seconds]
    assert np.abs(waiting - run.gauges["waiting"]).mean() < 0.05 * max(run.gauges["waiting"].max(), 1)


@pytest.mark.shared
def test_the_profile_of_the_measured_run_is_what_the_fit_finds(shared: Path) -> None:
    run = read_run(shared / "data" / "llmservingsim_vllm_runs" / "RTX4090__Llama-3.1-8B")
    profile = find_profile("rtx4090_llama-3.1-8b_bf16")
    found = fit(run, profile, run.last < np.median(run.last))
    refitted = profile.model_copy(update={"seconds": found})
    assert worst(compare(run, replay(run, refitted), run.last >= np.median(run.last))) < 0.05


@pytest.mark.shared
@pytest.mark.parametrize(("name", "model", "hardware", "parallel"), BATCHES)
def test_measured_batches_come_out_within_fifteen_percent(
    shared: Path, name: str, model: str, hardware: str, parallel: int
) -> None:
    measured = read_batches(shared / "data" / "splitwise_sim" / "perf_model.csv", model, hardware, parallel)
    profile = find_profile(name)
    ttft, tpot = replay_batches(measured, profile)
    fitted = np.arange(measured.prompt.size) % 2 == 0
    for which in (~fitted, fitted | ~fitted):
        for simulated, truth in ((ttft[which], measured.ttft[which]), (tpot[which], measured.tpot[which])):
            assert simulated.mean() / truth.mean() == pytest.approx(1, abs=0.10)
            assert np.percentile(simulated, 95) / np.percentile(truth, 95) == pytest.approx(1, abs=0.15)
    again = fit_batches(measured, fitted).model_dump()
    for key, value in profile.seconds.model_dump().items():
        assert value == pytest.approx(again[key], rel=0.01, abs=1e-9), key


@pytest.mark.shared
def test_mooncakes_published_hit_rates_come_out(shared: Path) -> None:
    trace = read_mooncake(shared / "data" / "mooncake_fast25" / "conversation_trace.jsonl")
    rates = [lru_hit_ratio(trace, blocks) for blocks in (None, 50_000, 10_000, 5_000, 1_000)]
    assert rates == pytest.approx([0.3664, 0.3546, 0.2112, 0.1104, 0.0445], abs=1e-4)


def test_every_profile_is_whole_and_names_its_origin() -> None:
    for name, profile in load_profiles().items():
        assert profile.origin, name
        assert profile.power.idle_watts < profile.power.decode_watts < profile.power.limit_watts, name


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=r"no run with requests\.jsonl"):
        read_run(tmp_path)
    with pytest.raises(SimulatorError, match="no Splitwise profile"):
        read_batches(tmp_path / "none.csv", "m", "h", 1)
