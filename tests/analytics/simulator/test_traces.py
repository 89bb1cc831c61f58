"""Public traces as arrivals, and what they say of prefixes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analytics.simulator.config import TraceConfig
from analytics.simulator.errors import SimulatorError
from analytics.simulator.fleet import simulate
from analytics.simulator.hit_rate import lru_hit_ratio
from analytics.simulator.presets import parse_fleet
from analytics.simulator.traces import TraceRequests, read_mooncake, read_trace

START = datetime(2026, 3, 4, 10, 30)
RNG = np.random.default_rng(0)


def azure(folder: Path) -> Path:
    file = folder / "azure.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n2023-11-16 18:17:10.0000000,110,27\n"
    )
    return file


def mooncake(folder: Path, rows: list[tuple[int, list[int]]]) -> Path:
    file = folder / "mooncake.jsonl"
    lines = [
        {"timestamp": at, "input_length": 512 * len(ids) - 5, "output_length": 4, "hash_ids": ids} for at, ids in rows
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def fleet_of(trace: dict[str, object]) -> dict[str, object]:
    return {
        "name": "t",
        "models": [{"model": "m", "deployment": "d", "profile": "h100_qwen3-32b_fp8"}],
        "streams": [
            {
                "team": "a",
                "app": "b",
                "model": "m",
                "disconnect_ratio": 0,
                "error_ratio": 0,
                "rejected_ratio": 0,
                "trace": trace,
            }
        ],
    }


def test_an_azure_trace_keeps_its_times_and_lengths(tmp_path: Path) -> None:
    config = parse_fleet(fleet_of({"format": "azure", "path": str(azure(tmp_path))}), "t")
    rows = simulate(config, 1, START, START + timedelta(minutes=10)).tables["requests"].sort_by("started_at")
    assert rows["input_tokens"].to_pylist() == [4808, 3180, 110]
    assert rows["output_tokens"].to_pylist() == [10, 8, 27]
    assert [(at - START).total_seconds() for at in rows["started_at"].to_pylist()] == pytest.approx([0, 0.052, 6.02004])


def test_a_trace_is_sped_up_repeated_and_cut(tmp_path: Path) -> None:
    path = str(azure(tmp_path))
    fast = read_trace(TraceConfig(format="azure", path=path, speed=2), 100, RNG)
    assert fast.at[-1] == pytest.approx(6.02004 / 2)
    again = read_trace(TraceConfig(format="azure", path=path, repeat=True), 30, RNG)
    assert again.at.size > 9 and again.at[-1] < 30 and (np.diff(again.at) >= 0).all()
    assert read_trace(TraceConfig(format="azure", path=path), 3, RNG).at.size == 2


def test_a_mooncake_trace_shares_the_blocks_that_it_names(tmp_path: Path) -> None:
    rows = [(0, [0, 1, 2]), (60_000, [0, 1, 3, 4]), (120_000, [5]), (180_000, [0, 1, 2])]
    config = parse_fleet(fleet_of({"format": "mooncake", "path": str(mooncake(tmp_path, rows))}), "t")
    got = simulate(config, 1, START, START + timedelta(minutes=10)).tables["requests"].sort_by("started_at")
    assert got["cached_tokens"].to_pylist() == [
        0,
        1024,
        0,
        1520,
    ]  # the last block of a prompt is not whole: 1531 = 95.7 * 16


def test_a_servegen_client_comes_at_its_rates_with_its_lengths(tmp_path: Path) -> None:
    pl.DataFrame({
        "category": ["language"] * 3, "model": ["m"] * 3, "client_id": [7] * 3, "t_s": [0, 600, 1200],
        "rate_rps": [2.0, 0.0, 4.0],
        "cv": [1.0] * 3, "pattern": ["Gamma", None, "Weibull"], "p1": [0.5, 0.0, 0.8], "p2": [1.0, 0.0, 1.0],
    }).write_parquet(tmp_path / "client_rates.parquet")  # fmt: skip
    pl.DataFrame({
        "category": ["language"] * 3, "model": ["m"] * 3, "client_id": [7] * 3, "window_s": [0] * 3,
        "field": ["input_tokens", "input_tokens", "output_tokens"], "bin": [100, 200, 30], "prob": [0.25, 0.75, 1.0],
    }).write_parquet(tmp_path / "client_token_pdfs.parquet")  # fmt: skip
    config = TraceConfig(format="servegen", path=str(tmp_path))
    trace = read_trace(config, 1800, np.random.default_rng(5))
    counts = np.histogram(trace.at, [0, 600, 1200, 1800])[0]
    assert counts == pytest.approx([1200, 0, 2400], rel=0.12, abs=0)
    assert (trace.input_tokens == 200).mean() == pytest.approx(0.75, abs=0.03)
    assert set(trace.output_tokens) == {30}
    with pytest.raises(SimulatorError, match="no ServeGen client nobody; the busiest are language/m/7"):
        read_trace(config.model_copy(update={"clients": ("nobody",)}), 1800, RNG)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("azure", "a,b\n1,2\n", "no column ContextTokens, GeneratedTokens, TIMESTAMP"),
        (
            "azure",
            "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n",
            "as a trace of format azure",
        ),
        ("mooncake", "{broken", "as a trace of format mooncake"),
        ("mooncake", "", "holds no request"),
        ("mooncake", '{"timestamp": 0}', "as a trace of format mooncake"),
    ],
)
def test_a_file_that_is_no_trace_says_so(tmp_path: Path, kind: str, text: str, says: str) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(SimulatorError, match=says):
        read_trace(TraceConfig.model_validate({"format": kind, "path": str(file)}), 10, RNG)
    with pytest.raises(SimulatorError, match="does not exist"):
        read_trace(TraceConfig.model_validate({"format": kind, "path": str(tmp_path / "none")}), 10, RNG)


def test_hit_rates_of_a_trace_small_enough_to_count(tmp_path: Path) -> None:
    trace = read_mooncake(mooncake(tmp_path, [(0, [0, 1]), (1, [0, 2]), (2, [0, 1])]))
    assert lru_hit_ratio(trace, None) == 3 / 6
    assert lru_hit_ratio(trace, 3) == 3 / 6
    assert lru_hit_ratio(trace, 2) == 2 / 6
    assert lru_hit_ratio(trace, 1) == 0, "the end of each prompt pushes its beginning out"
    assert lru_hit_ratio(trace, 1, "tail_first") == 2 / 6, "freed from the end, beginnings stay"
    none = np.zeros(0, np.int64)
    assert lru_hit_ratio(TraceRequests(np.zeros(0), none, none, np.zeros(1, np.int64), none), 5) is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("trace", "least"),
    [
        ({"format": "azure", "path": "data/azure_llm_2023/AzureLLMInferenceTrace_code.csv"}, 8000),
        ({"format": "mooncake", "path": "data/mooncake_fast25/conversation_trace.jsonl"}, 5000),
        ({"format": "servegen", "path": "data/servegen"}, 300),
    ],
)
def test_a_fleet_can_be_asked_by_a_real_trace(shared: Path, trace: dict[str, str], least: int) -> None:
    config = parse_fleet(fleet_of({**trace, "path": str(shared / trace["path"])}), "t")
    roomy = config.models[0].model_copy(update={"replicas": 4, "max_model_len": 131072, "kv_blocks": 12_000})
    fleet = simulate(config.model_copy(update={"models": (roomy,)}), 1, START, START + timedelta(minutes=90))
    rows = pl.from_arrow(fleet.tables["requests"])
    assert isinstance(rows, pl.DataFrame)
    assert rows.height >= least
    assert (rows["cached_tokens"].sum() > 0) == (trace["format"] == "mooncake")
