-- cost_requests_hour: one hour in which requests arrived: how many, what tells whether they are the same as before, their last end
-- $start, $end: range of arrivals. Hours before it are those of requests that were under way at $start, and of these alone.
-- Rows land once and don't change, so count and sum of times of receipt change whenever a set of requests does.
-- Nearly all requests have an end, and few reach into the range: zone maps find the others. Hours are sums of microseconds,
-- and each branch is summed by itself: three times as fast over ten million requests.
WITH endless AS (
    SELECT
        started_at,
        received_at,
        started_at + to_microseconds((least(greatest(e2e_seconds, 0), 1e9) * 1000000)::BIGINT) AS ended_at
    FROM requests
    WHERE ended_at IS NULL AND isfinite(e2e_seconds) AND started_at < $end::TIMESTAMP
),
arrived AS (
    SELECT
        epoch_us(started_at) // 3600000000 AS hour,
        count(*) AS requests_count,
        sum(coalesce(epoch_us(received_at), 0) % 4294967296) AS received_sum,
        max(ended_at) AS last_end_at
    FROM requests
    WHERE started_at >= $start::TIMESTAMP AND started_at < $end::TIMESTAMP
    GROUP BY hour
),
earlier AS (
    SELECT
        epoch_us(started_at) // 3600000000 AS hour,
        count(*) AS requests_count,
        sum(coalesce(epoch_us(received_at), 0) % 4294967296) AS received_sum,
        max(ended_at) AS last_end_at
    FROM (
        SELECT started_at, received_at, ended_at
        FROM requests
        WHERE started_at < $start::TIMESTAMP AND ended_at >= $start::TIMESTAMP
        UNION ALL
        SELECT started_at, received_at, ended_at
        FROM endless
        WHERE started_at < $start::TIMESTAMP AND ended_at >= $start::TIMESTAMP
    ) AS under_way
    GROUP BY hour
),
arrived_endless AS (
    SELECT epoch_us(started_at) // 3600000000 AS hour, 0 AS requests_count, 0 AS received_sum, max(ended_at) AS last_end_at
    FROM endless
    WHERE started_at >= $start::TIMESTAMP
    GROUP BY hour
)
SELECT
    make_timestamp(hour * 3600000000) AS hour_at,
    sum(requests_count)::BIGINT AS requests_count,
    sum(received_sum)::BIGINT AS received_sum,
    max(last_end_at) AS last_end_at
FROM (SELECT * FROM arrived UNION ALL SELECT * FROM earlier UNION ALL SELECT * FROM arrived_endless) AS by_hour
GROUP BY hour
ORDER BY hour
