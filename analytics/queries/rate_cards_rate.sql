-- rate_cards_rate: one dated price of one GPU type
SELECT rate_id, gpu_type, provider, region, purchase_type, currency, gpu_hour_units, valid_from, valid_to, origin
FROM rate_cards
ORDER BY gpu_type, valid_from, rate_id
