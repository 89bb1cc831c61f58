-- replicas_inventory_interval: one interval of one replica that touches one range of time
SELECT replica, valid_from, valid_to, model, provider, region, purchase_type, gpu_type, gpu_count
FROM replicas
WHERE valid_from < $end::TIMESTAMP
    AND (valid_to IS NULL OR valid_to > $start::TIMESTAMP)
ORDER BY replica, valid_from
