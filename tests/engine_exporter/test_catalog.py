"""Which names an engine serves: known, renamed, kept, missing, unknown."""

from engine_exporter import semconv
from engine_exporter.catalog import compare, served_names

PAGE = """\
# HELP vllm:kv_cache_usage_perc KV
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0"} 5
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0"} 1.7e9
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 1
vllm:time_to_first_token_seconds_sum 1
vllm:time_to_first_token_seconds_count 1
# TYPE vllm:time_to_first_token_seconds_created gauge
vllm:time_to_first_token_seconds_created 1.7e9
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{le="+Inf"} 1
vllm:iteration_tokens_total_sum 1
vllm:iteration_tokens_total_count 1
# TYPE vllm:brand_new_thing gauge
vllm:brand_new_thing 1
# TYPE python_info gauge
python_info 1
"""


def test_histograms_count_once_and_start_times_not_at_all():
    assert served_names(PAGE) == {
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:time_to_first_token_seconds",
        "vllm:iteration_tokens_total",
        "vllm:brand_new_thing",
    }


def test_every_name_is_in_one_list():
    found = compare(served_names(PAGE))
    assert dict(found.known)["vllm:kv_cache_usage_perc"] == "infer.engine.kv_cache_usage_ratio"
    assert found.kept == ("vllm:iteration_tokens_total",)
    assert found.unknown == ("vllm:brand_new_thing",)
    assert "vllm:generation_tokens_total" in dict(found.missing)
    assert "vllm:gpu_cache_usage_perc" not in dict(found.missing)


def test_an_old_engine_is_renamed_not_missing():
    found = compare({"vllm:gpu_cache_usage_perc", "vllm:gpu_prefix_cache_hits_total"})
    assert dict(found.renamed)["vllm:gpu_cache_usage_perc"] == "vllm:kv_cache_usage_perc"
    assert "vllm:kv_cache_usage_perc" not in dict(found.missing)
    assert "vllm:prefix_cache_hits_total" not in dict(found.missing)


def test_the_lists_of_names_agree_with_each_other():
    canonical = {metric.name for metric in semconv.METRICS}
    assert set(semconv.VLLM_METRICS.values()) <= canonical
    for old, today in semconv.VLLM_RENAMED.items():
        assert semconv.VLLM_METRICS[old] == semconv.VLLM_METRICS[today]
    assert not semconv.VLLM_KEPT & semconv.VLLM_METRICS.keys()
