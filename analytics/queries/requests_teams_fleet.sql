-- requests_teams_fleet: one team that any request was charged to
SELECT DISTINCT team
FROM requests
WHERE team IS NOT NULL
ORDER BY team
