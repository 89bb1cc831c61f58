-- cost_inventory_fleet: the moment at which the inventory begins; null without one
SELECT min(valid_from) AS first_at
FROM replicas
