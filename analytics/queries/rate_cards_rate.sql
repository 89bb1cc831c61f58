-- rate_cards_rate: one dated price of one GPU type as it was known at one time; without $known_at as it is known now
-- Of the rows for one GPU type, provider, region, purchase and start, the one known last holds; it may take the rate back.
SELECT
    rate_id, gpu_type, provider, region, purchase_type, currency, gpu_hour_units, valid_from, valid_to, known_from, terms, origin
FROM (
    SELECT *
    FROM rate_cards
    WHERE $known_at::TIMESTAMP IS NULL OR known_from IS NULL OR known_from <= $known_at::TIMESTAMP
    QUALIFY row_number() OVER (
        PARTITION BY gpu_type, provider, region, purchase_type, valid_from
        ORDER BY known_from DESC NULLS LAST, rate_id DESC
    ) = 1
)
WHERE withdrawn IS NOT TRUE
ORDER BY gpu_type, valid_from, rate_id
