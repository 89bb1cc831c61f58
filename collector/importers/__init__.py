"""Public traces and anybody's request logs, landed as rows of `requests`."""
