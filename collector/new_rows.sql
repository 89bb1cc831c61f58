-- one incoming row of each key that the table does not have; the names in braces are filled in by keyed_inserts.py
SELECT DISTINCT ON ({key}) {columns}
FROM incoming_rows AS incoming
WHERE NOT EXISTS (SELECT 1 FROM {table} AS there WHERE {same_key} AND {stretch})
