"""Which names an engine serves: known, renamed, missing for its version, suspect."""

import re
from pathlib import Path

import pytest

from engine_exporter.catalog import examine
from engine_exporter.page_text import read_page

DATA = Path(__file__).parent / "data"


def examined(text, version=None, later=None):
    lines, types = read_page(text)
    return examine(lines, types, version=version, later=read_page(later)[0] if later is not None else ())


def page_of(name):
    return (DATA / f"{name}.txt").read_text()


def without(text, name):
    return "\n".join(line for line in text.split("\n") if name not in line)


def test_a_real_server_misses_nothing_and_nothing_of_it_is_suspect():
    found = examined(page_of("vllm_0_32_busy"), "0.32.0")
    assert (found.engines, found.missing, found.unknown, found.has_findings) == (("vllm",), {}, (), False)
    assert found.known["vllm:kv_cache_usage_perc"] == "infer.engine.kv_cache_usage_ratio"
    assert "vllm:iteration_tokens_total" in found.kept
    assert not any("_created" in name for name in (*found.kept, *found.unknown))


@pytest.mark.parametrize(
    ("name", "version"),
    [("vllm_0_8_5", "0.8.5"), ("vllm_0_10_2", "0.10.2"), ("vllm_0_25_1", "0.25.1"), ("vllm_0_32_fresh", "0.32.1")],
)
def test_a_version_is_asked_only_for_what_it_has(name, version):
    assert examined(page_of(name), version).missing == {}


def test_what_a_version_should_have_and_lacks_is_missing():
    text = without(page_of("vllm_0_32_end"), "vllm:generation_tokens_total")
    found = examined(text, "0.32.0")
    assert found.missing == {"vllm:generation_tokens_total": "infer.engine.output_tokens"}
    assert found.has_findings


def test_old_names_are_renamed_not_missing():
    found = examined(page_of("vllm_0_8_5"), "0.8.5")
    assert found.renamed["vllm:gpu_cache_usage_perc"] == "vllm:kv_cache_usage_perc"
    assert "vllm:kv_cache_usage_perc" not in found.missing


def test_a_version_that_is_not_told_is_inferred_from_the_names():
    found = examined(page_of("vllm_0_32_end"))
    assert (found.version, found.at_least) == (None, "0.32.0")


def suspects(found):
    return {doubt.name: doubt for doubt in found.suspect if doubt.is_finding}


def test_look_ups_below_0_28_are_suspect_and_later_ones_are_not():
    assert "vllm:prefix_cache_hits_total" in suspects(examined(page_of("vllm_0_25_1"), "0.27.1"))
    assert suspects(examined(page_of("vllm_0_25_1"), "0.28.0")) == {}


@pytest.mark.parametrize(
    ("line", "name", "why"),
    [
        ('vllm:kv_cache_usage_perc{engine="0",model_name="llama"} 54.6', "vllm:kv_cache_usage_perc", "percentage"),
        (
            'vllm:time_to_first_token_seconds_sum{engine="0",model_name="llama"} NaN',
            "vllm:time_to_first_token_seconds",
            "nan",
        ),
        ('vllm:e2e_request_latency_seconds_bucket{engine="0",model_name="llama",le="1.0"} 1', None, "fewer"),
        ('vllm:num_preemptions_total{engine="0",model_name="llama"} -1', "vllm:num_preemptions_total", "counter"),
    ],
)
def test_what_cannot_be_right_is_suspect(line, name, why):
    key = line.rpartition(" ")[0]
    text = "\n".join(line if one.startswith(key) else one for one in page_of("vllm_0_25_1").split("\n"))
    assert line in text
    found = suspects(examined(text, "0.28.0"))
    name = name or "vllm:e2e_request_latency_seconds"
    assert why in found[name].why


def test_an_engine_that_runs_requests_and_counts_nothing_is_frozen():
    busy, end = page_of("vllm_0_32_busy"), page_of("vllm_0_32_end")
    assert "stuck" in suspects(examined(busy, "0.32.0", later=busy))["vllm:num_requests_running"].why
    assert suspects(examined(busy, "0.32.0", later=end)) == {}
    moved = re.sub(r"^(vllm:generation_tokens_total\{.*\}) .*$", r"\1 99999999.0", busy, flags=re.MULTILINE)
    assert suspects(examined(busy, "0.32.0", later=moved)) == {}
    assert suspects(examined(end, "0.32.0", later=end)) == {}, "an idle engine stands still"


def test_a_name_that_nobody_has_heard_of_is_told():
    found = examined(page_of("vllm_0_32_end") + "vllm:brand_new_thing 1\n", "0.32.0")
    assert found.unknown == ("vllm:brand_new_thing",)
    assert not found.has_findings


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("sglang_0_5_23", "sglang"),
        ("tensorrt_llm", "tensorrt_llm"),
        ("tensorrt_llm_1_0", "tensorrt_llm"),
        ("tgi", "tgi"),
        ("llama_cpp_after", "llama_cpp"),
        ("dynamo_1_6_1", "dynamo"),
        ("endpoint_picker", "endpoint_picker"),
        ("lmcache_0_5_6", "lmcache"),
        ("dcgm", "dcgm"),
        ("amd", "amd"),
    ],
)
def test_every_engine_is_told_by_its_names_and_all_of_them_are_known(name, engine):
    found = examined(page_of(name))
    assert found.engines == (engine,)
    assert found.unknown == ()
    assert found.missing == {}
    assert suspects(found) == {}


def test_of_two_names_for_one_thing_the_older_is_renamed():
    found = examined(page_of("endpoint_picker"))
    assert found.renamed["inference_pool_ready_pods"] == "inference_pool_ready_endpoints"
