"""Imports an installed fleetmeter with its base dependencies only. usage: wheel_imports.py ENVIRONMENT"""

import importlib
import sys
from importlib import metadata
from pathlib import Path

NAMES = ("fleetmeter", "engine_exporter", "collector", "analytics", "alerts", "dashboards", "stack")


def main(environment: Path) -> int:
    owners = metadata.packages_distributions()
    for name in NAMES:
        module = importlib.import_module(name)
        place = Path(module.__file__ or "")
        assert place.is_relative_to(environment), f"{name} comes from {place}"
        assert set(owners[name]) == {"fleetmeter"}, f"{name} belongs to {owners[name]}"
    from engine_exporter import semconv

    assert semconv.BY_COLUMN["team"].name == semconv.TEAM
    import fleetmeter

    for target, _ in fleetmeter.COMMANDS.values():
        importlib.import_module(target.partition(":")[0])
    heavy = {"vllm", "streamlit", "duckdb", "polars", "sklearn", "numba", "pyarrow"} & set(sys.modules)
    assert not heavy, heavy
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
