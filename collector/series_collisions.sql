-- one incoming series whose id belongs to another series
SELECT
    incoming.series_id,
    incoming.name || incoming.labels::VARCHAR AS incoming_series,
    there.name || there.labels::VARCHAR AS series_there
FROM incoming_series AS incoming
INNER JOIN metric_series AS there ON there.series_id = incoming.series_id
WHERE there.name <> incoming.name OR there.labels IS DISTINCT FROM incoming.labels
