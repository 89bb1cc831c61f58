"""Receives telemetry, makes it durable, lands it in DuckDB and answers read-only SQL. Owns the tables."""
