-- token_prices_price: one list price of one model at one external API as it was known at one time; without $known_at as known now
SELECT
    price_id, provider, model, currency, input_units, output_units, cache_read_units, cache_write_units, valid_from, valid_to,
    known_from, origin
FROM (
    SELECT *
    FROM token_prices
    WHERE $known_at::TIMESTAMP IS NULL OR known_from IS NULL OR known_from <= $known_at::TIMESTAMP
    QUALIFY row_number() OVER (
        PARTITION BY provider, model, valid_from
        ORDER BY known_from DESC NULLS LAST, price_id DESC
    ) = 1
)
WHERE withdrawn IS NOT TRUE
ORDER BY provider, model, valid_from
