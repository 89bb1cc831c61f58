"""Looks into a built wheel: everything that runs is in it and nothing else. usage: wheel_contents.py CHECKOUT WHEEL"""

import fnmatch
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

PACKAGES = ("engine_exporter", "collector", "analytics", "alerts", "dashboards", "stack", "sample_data")
PRESENT = {
    "the tables": "collector/schema/*.sql",
    "the queries": "analytics/queries/*.sql",
    "the data files of the analytics": "analytics/data/*",
    "the names of engines": "engine_exporter/data/engines/*.yaml",
    "the names of GPU exporters": "engine_exporter/data/gpus/*.yaml",
    "the catalogue of XIDs": "engine_exporter/data/xids.yaml",
    "the presets of the simulator": "sample_data/presets/*",
    "the recording": "sample_data/vllm_recording/*",
    "the typing markers": "*/py.typed",
}
"""Patterns that must match something, in case a folder vanishes from both sides of the comparison."""


def main(root: Path, wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata_file,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        (entries_file,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        metadata = Parser().parsestr(archive.read(metadata_file).decode())
        entries = archive.read(entries_file).decode()
    faults = [*contents(root, names), *described(root, metadata)]
    faults += [
        f"no entry point {word}"
        for word in ("fleetmeter = fleetmeter:main", "vllm.stat_logger_plugins")
        if word not in entries
    ]
    for fault in faults:
        print(f"wheel: {fault}", file=sys.stderr)
    print(f"{len(names)} files", file=sys.stderr)
    return 1 if faults else 0


def contents(root: Path, names: set[str]) -> list[str]:
    """Compare the wheel with the checkout."""
    own = {name for name in names if ".dist-info/" not in name}
    expected = {"fleetmeter.py"} | {
        str(file.relative_to(root))
        for package in PACKAGES
        for file in (root / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.endswith((".duckdb", ".wal"))
    }
    faults = [f"{name} is missing" for name in sorted(expected - own)]
    faults += [f"{name} does not belong there" for name in sorted(own - expected)]
    faults += [f"{what}: nothing like {like}" for what, like in PRESENT.items() if not fnmatch.filter(own, like)]
    if not any(name.endswith("licenses/LICENSE") for name in names):
        faults.append("no licence")
    return faults


def described(root: Path, metadata) -> list[str]:
    """Compare the metadata with pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    faults = []
    if metadata["Name"] != "fleetmeter" or metadata["Version"] != project["version"]:
        faults.append(f"it calls itself {metadata['Name']} {metadata['Version']}")
    if missing := set(project["optional-dependencies"]) - set(metadata.get_all("Provides-Extra", [])):
        faults.append(f"no extra {', '.join(sorted(missing))}")
    if metadata["Requires-Python"] != project["requires-python"]:
        faults.append(f"Requires-Python is {metadata['Requires-Python']}")
    base = [item for item in metadata.get_all("Requires-Dist", []) if "extra ==" not in item]
    if len(base) != len(project["dependencies"]):
        faults.append(f"the base needs {base}")
    return faults


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
