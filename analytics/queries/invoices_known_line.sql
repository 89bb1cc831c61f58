-- invoices_known_line: one invoice line as it is known now, with the number of the rows that said something of it
SELECT
    coalesce(restates, invoice_id) AS invoice_id,
    period_from,
    period_to,
    replica,
    currency,
    amount_units,
    charge_category,
    resource_id,
    sku,
    description,
    origin,
    coalesce(withdrawn, false) AS withdrawn,
    versions_count
FROM (
    SELECT *, count(*) OVER (PARTITION BY coalesce(restates, invoice_id)) AS versions_count
    FROM invoices
    QUALIFY row_number() OVER (
        PARTITION BY coalesce(restates, invoice_id)
        ORDER BY known_from DESC NULLS LAST, restates IS NULL, invoice_id DESC
    ) = 1
)
ORDER BY invoice_id
