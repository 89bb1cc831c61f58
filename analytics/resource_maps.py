"""Reads which of a provider's resources are which replicas."""

from __future__ import annotations

import csv
from pathlib import Path

from analytics.errors import AnalyticsError


def read_resources(path: Path) -> list[tuple[str, str]]:
    """Read a CSV of resource_id and replica; an empty replica is the whole fleet.

    Raises:
        AnalyticsError: the file is missing or has other columns, or names a resource twice.
    """
    if not path.is_file():
        raise AnalyticsError(f"no file at {path}; name a CSV with the columns resource_id, replica")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"resource_id", "replica"} <= set(reader.fieldnames or ()):
            raise AnalyticsError(f"{path} needs the columns resource_id and replica; it has {reader.fieldnames}")
        pairs = [((row["resource_id"] or "").strip(), (row["replica"] or "").strip()) for row in reader]
    names = [resource for resource, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise AnalyticsError(f"{path} names {', '.join(twice[:5])} twice")
    return [(resource, replica) for resource, replica in pairs if resource]
