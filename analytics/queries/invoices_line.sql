-- invoices_line: one invoice line whose period touches one range of time, as it was known at one time
-- Of a line and the rows that restate it, the one known last holds; it may take the line back. Without $known_at: as known now.
-- covers: whether the line stands in for the rates of its period; taxes, credits and adjustments don't.
SELECT
    coalesce(restates, invoice_id) AS invoice_id,
    period_from,
    period_to,
    replica,
    currency,
    amount_units,
    CASE
        WHEN charge_category IS NULL THEN amount_units >= 0
        ELSE lower(charge_category) IN ('usage', 'purchase')
    END AS covers
FROM (
    SELECT *
    FROM invoices
    WHERE $known_at::TIMESTAMP IS NULL OR known_from IS NULL OR known_from <= $known_at::TIMESTAMP
    QUALIFY row_number() OVER (
        PARTITION BY coalesce(restates, invoice_id)
        ORDER BY known_from DESC NULLS LAST, restates IS NULL, invoice_id DESC
    ) = 1
)
WHERE withdrawn IS NOT TRUE
    AND period_from < $end::TIMESTAMP
    AND period_to > $start::TIMESTAMP
    AND period_from < period_to
ORDER BY invoice_id
