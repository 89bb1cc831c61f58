-- Rows of an answer of requests_latency_bucket that can't be right.
SELECT *
FROM answer
WHERE requests_count < 1
    OR ok_count + error_count + disconnect_count > requests_count
    OR error_ratio NOT BETWEEN 0 AND 1
    OR cache_hit_ratio NOT BETWEEN 0 AND 1
    OR ttft_p50_seconds > ttft_p95_seconds
    OR ttft_p95_seconds > ttft_p99_seconds
    OR isnan(ttft_p50_seconds)
