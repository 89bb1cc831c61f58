-- invoices_currency_fleet: one currency that rates or invoice lines of the store are in
SELECT currency, sum(rows_count)::BIGINT AS rows_count
FROM (
    SELECT currency, count(*) AS rows_count FROM rate_cards GROUP BY currency
    UNION ALL
    SELECT currency, count(*) AS rows_count FROM invoices GROUP BY currency
)
GROUP BY currency
ORDER BY currency
