-- invoices_line: one invoice line whose period touches one range of time
SELECT invoice_id, period_from, period_to, replica, currency, amount_units
FROM invoices
WHERE period_from < $end::TIMESTAMP
    AND period_to > $start::TIMESTAMP
    AND period_from < period_to
ORDER BY invoice_id
