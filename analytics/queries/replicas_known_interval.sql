-- replicas_known_interval: one interval of one replica as the inventory and its restatements have it now, ends as they are written
SELECT
    replica, valid_from, valid_to, deployment, model, cluster, region, provider, purchase_type, engine, engine_version, gpu_type,
    gpu_count, owner, withdrawn, versions_count
FROM (
    SELECT *, count(*) OVER (PARTITION BY replica, valid_from) AS versions_count
    FROM (
        SELECT
            replica, valid_from, valid_to, deployment, model, cluster, region, provider, purchase_type, engine, engine_version,
            gpu_type, gpu_count, owner, known_from, '' AS restatement_id, false AS withdrawn
        FROM replicas
        UNION ALL
        SELECT
            replica, valid_from, valid_to, deployment, model, NULL, region, provider, purchase_type, NULL, NULL,
            gpu_type, gpu_count, owner, known_from, restatement_id, coalesce(withdrawn, false)
        FROM replica_restatements
    )
    QUALIFY row_number() OVER (
        PARTITION BY replica, valid_from
        ORDER BY restatement_id = '', known_from DESC NULLS LAST, restatement_id DESC
    ) = 1
)
ORDER BY replica, valid_from
