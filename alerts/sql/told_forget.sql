-- Forget what receivers were told of alerts that are long over.
DELETE FROM told
WHERE
    json_extract(document, '$.at') < $before
    AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.fingerprint = told.fingerprint)
