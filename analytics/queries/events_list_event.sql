-- events_list_event: one event of one window of time; with a model, its own and those of the whole fleet
SELECT event_id, occurred_at, kind, model, deployment, replica, gpu_uuid, title, attributes
FROM events
WHERE occurred_at >= $start::TIMESTAMP
    AND occurred_at < $end::TIMESTAMP
    AND ($model::VARCHAR IS NULL OR model IS NULL OR model = $model::VARCHAR)
ORDER BY occurred_at, event_id
