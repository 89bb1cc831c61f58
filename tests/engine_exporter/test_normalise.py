"""Contract tests: each engine's page, recorded or built, gives the canonical numbers in our labels and units."""

import math
from pathlib import Path

import pytest

from engine_exporter import semconv
from engine_exporter.normalise import normalise
from engine_exporter.page_text import read_page

DATA = Path(__file__).parent / "data"
PAGES = sorted(DATA.glob("*.txt"))
CANONICAL = {one.name for one in semconv.METRICS}


def page_of(name, **named):
    lines, types = read_page((DATA / f"{name}.txt").read_text())
    return normalise(lines, types, **named)


def totals(page):
    """Canonical name -> sum over labels, of numbers and of the histograms' sums and counts."""
    found = {}
    for line in page.lines:
        if line.name in CANONICAL and line.suffix != "_bucket":
            key = line.name + line.suffix
            found[key] = found.get(key, 0.0) + line.value
    return found


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_every_page_says_where_it_comes_from(file):
    first = file.read_text().split("\n", 1)[0]
    assert first.startswith(("# Recorded from a real ", "# Built from ", "# Made with "))
    assert ("real" in first) != ("not recorded" in first or "no server ran" in first)


EXPECTED = {
    "vllm_0_32_busy": {"infer.engine.requests_running": 6, "infer.engine.requests_waiting": 8},
    "vllm_0_32_saturated": {
        "infer.engine.kv_cache_usage_ratio": 0.9798657718120806,
        "infer.engine.requests_waiting": 8,
        "infer.engine.preemptions": 15,
    },
    "vllm_0_32_two_servers": {
        "infer.engine.output_tokens": 12 * 24,
        "infer.engine.requests_finished": 12,
        "gen_ai.server.time_to_first_token_count": 12,
        "infer.engine.requests_running": 0,
    },
    "vllm_0_32_end": {
        "infer.engine.input_tokens": 174_934,
        "infer.engine.cached_tokens": 91_840,
        "infer.engine.output_tokens": 71_684,
        "infer.engine.kv_block_size_tokens": 32,
        "infer.engine.kv_cache_capacity_tokens": 32 * 120,
    },
    "vllm_0_8_5": {
        "infer.engine.kv_cache_usage_ratio": 0.25,
        "infer.engine.prefix_cache_queries": 1500,
        "infer.engine.inter_token_latency_sum": 3.5,
        "infer.engine.requests_finished": 4,
        "infer.engine.kv_cache_capacity_tokens": 16 * 2048,
    },
    "sglang_0_5_23": {
        "infer.engine.requests_running": 3,
        "infer.engine.requests_waiting": 2,
        "infer.engine.kv_cache_usage_ratio": 0.25,
        "infer.engine.input_tokens": 350,
        "infer.engine.cached_tokens": 192,
        "infer.engine.output_tokens": 60,
        "infer.engine.prefill_time_count": 2,
        "infer.engine.prefill_time_sum": 0.35,
        "infer.engine.kv_transfer_time_sum": 0.012,
        "infer.engine.kv_transfer_failures": 2,
        "infer.engine.requests_aborted": 1,
        "gen_ai.server.time_to_first_token_count": 2,
        "gen_ai.server.request.duration_sum": 2.8,
    },
    "tensorrt_llm": {
        "infer.engine.input_tokens": 1000,
        "infer.engine.cached_tokens": 640,
        "infer.engine.prefix_cache_hits": 20 * 32,
        "infer.engine.prefix_cache_queries": 32 * 32,
        "infer.engine.kv_cache_capacity_tokens": 500 * 32,
        "infer.engine.requests_failed": 2,
        "gen_ai.server.time_to_first_token_count": 4,
    },
    "tgi": {
        "infer.engine.input_tokens": 1800,
        "infer.engine.output_tokens": 310,
        "infer.engine.request_input_tokens_count": 4,
        "infer.engine.requests_running": 2,
        "infer.engine.requests_waiting": 1,
        "infer.engine.requests_finished": 4,
        "infer.engine.requests_failed": 2,
        "gen_ai.server.request.duration_sum": 3.5,
    },
    "llama_cpp_after": {
        "infer.engine.input_tokens": 4 * 177,
        "infer.engine.cached_tokens": 3 * 176,
        "infer.engine.output_tokens": 4 * 24,
        "infer.engine.prefill_busy": 0.00367,
    },
    "llama_cpp_busy": {"infer.engine.requests_running": 2, "infer.engine.requests_waiting": 3},
    "dynamo_1_6_1": {
        "infer.gateway.requests": 5,
        "infer.gateway.requests_running": 3,
        "infer.gateway.input_tokens": 1800,
        "infer.gateway.cached_tokens": 900,
        "infer.gateway.time_to_first_token_sum": 1.5,
        "infer.engine.kv_cache_usage_ratio": 0.3,
    },
    "endpoint_picker": {
        "infer.gateway.requests": 10,
        "infer.gateway.input_tokens": 5000,
        "infer.gateway.request_duration_count": 10,
        "infer.gateway.pool_ready_endpoints": 4,
    },
    "lmcache_0_5_6": {
        "infer.kv_store.requested_tokens": 4096,
        "infer.kv_store.hit_tokens": 3072,
        "infer.kv_store.usage": 2**30,
        "infer.kv_store.retrieve_time_sum": 0.03,
    },
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_page_gives_the_canonical_numbers(name):
    found = totals(page_of(name))
    for metric, value in EXPECTED[name].items():
        assert found[metric] == pytest.approx(value), metric


def test_names_without_a_prefix_are_those_of_early_tensorrt_llm():
    old, new = totals(page_of("tensorrt_llm_1_0")), totals(page_of("tensorrt_llm"))
    assert old == new


def test_of_two_names_for_one_thing_only_one_is_read():
    for name in ("vllm_0_10_2", "endpoint_picker", "dynamo_1_6_1"):
        served = {}
        for line in page_of(name).lines:
            if line.alias is not None and line.alias.to:
                served.setdefault((line.name, line.alias.add), set()).add(line.served)
        assert all(len(names) == 1 for names in served.values()), name
        assert not any(
            "inference_objective" in one or one == "vllm:gpu_cache_usage_perc"
            for names in served.values()
            for one in names
        )


def test_a_gateway_never_adds_to_what_its_engines_count():
    for name in ("dynamo_1_6_1", "endpoint_picker", "lmcache_0_5_6"):
        counted = {line.name for line in page_of(name).lines if line.name in CANONICAL}
        assert counted.isdisjoint({"infer.engine.input_tokens", "gen_ai.server.time_to_first_token"})


def test_hit_rates_that_mislead_are_not_read():
    for name, served in (("sglang_0_5_23", "sglang:cache_hit_rate"), ("tensorrt_llm", "trtllm_kv_cache_hit_rate")):
        assert served not in {line.served for line in page_of(name).lines}


def test_milliseconds_become_seconds_in_bounds_too():
    lines = [line for line in page_of("sglang_0_5_23").lines if line.name == "infer.engine.kv_transfer_time"]
    bounds = [float(line.labels["le"]) for line in lines if line.suffix == "_bucket"]
    assert 0 < min(bounds) < 0.01 and any(math.isinf(bound) for bound in bounds)


def test_labels_are_mapped():
    (line, *_) = [line for line in page_of("sglang_0_5_23").lines if line.name == "infer.engine.cached_tokens"]
    assert line.labels == {
        "engine_type": "unified", "model_name": "meta-llama/Llama-3.1-8B-Instruct", "source": "device",
    }  # fmt: skip


def served(text, **named):
    lines, types = read_page(text)
    return normalise(lines, types, **named)


def test_ranks_that_repeat_each_other_count_once():
    text = "".join(f'sglang:num_running_reqs{{tp_rank="{rank}",dp_rank="1"}} 3\n' for rank in range(4))
    (line,) = served(text).lines
    assert (line.value, line.labels) == (3.0, {"engine": "1"})


def test_underscores_for_colons_are_the_same_names():
    (line,) = served('ray_vllm_num_requests_running{model_name="m"} 2\n').lines
    assert (line.name, line.value) == ("infer.engine.requests_running", 2.0)


def test_cached_tokens_are_part_of_the_input_also_where_the_engine_leaves_them_out():
    old = served("# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 7\n")
    assert totals(old) == {"infer.engine.input_tokens": 7}


def test_what_a_version_counts_wrongly_is_marked():
    lines = page_of("vllm_0_25_1", version=(0, 25, 1)).lines
    marked = {line.name for line in lines if line.labels.get("quality") == "suspect"}
    assert marked == {"infer.engine.prefix_cache_queries", "infer.engine.prefix_cache_hits"}
    assert not any("quality" in line.labels for line in page_of("vllm_0_25_1", version=(0, 28)).lines)


def test_unknown_names_are_passed_or_dropped():
    text = "# TYPE vllm:new_thing gauge\nvllm:new_thing 1\nvllm:num_requests_running 1\n"
    assert {line.name for line in served(text).lines} == {"vllm:new_thing", "infer.engine.requests_running"}
    assert {line.name for line in served(text, keep_unknown=False).lines} == {"infer.engine.requests_running"}


def test_a_page_of_nobody_is_empty():
    assert served("# TYPE python_info gauge\npython_info 1\n").is_empty
