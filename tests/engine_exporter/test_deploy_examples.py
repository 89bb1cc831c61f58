"""The examples of docs/deploy are what they say: they parse, their settings exist, their tools accept them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from collector.config import CollectorConfig
from engine_exporter.config import ENVIRONMENT_PREFIX, ExporterConfig, from_environment
from engine_exporter.targets import parse_targets

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def containers():
    for document in documents("kubernetes.yaml"):
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            yield document["metadata"]["name"], container


def test_the_manifest_holds_what_it_says():
    kinds = [document["kind"] for document in documents("kubernetes.yaml")]
    assert kinds == ["ConfigMap", "Deployment", "DaemonSet"]
    for document in documents("kubernetes.yaml")[1:]:
        spec = document["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        mounted = {mount["name"] for _, one in containers() for mount in one.get("volumeMounts", ())}
        assert mounted <= {"keys"}


@pytest.mark.parametrize(
    ("owner", "container"), list(containers()), ids=lambda one: one if isinstance(one, str) else one["name"]
)
def test_every_variable_is_a_setting(owner, container):
    given = {one["name"]: one.get("value", "from-the-pod") for one in container["env"]}
    ours = {name: value for name, value in given.items() if name.startswith("FLEETMETER")}
    assert ours
    _, problems = from_environment(ours)
    assert problems == ()


def test_every_file_that_an_example_names_is_there():
    for file in DEPLOY.iterdir():
        named = set(re.findall(r"(?<![\w/.-])[a-z][\w-]*\.(?:yaml|yml|service)", file.read_text()))
        ours = {name for name in named if not name.startswith("keys.")}
        assert {name for name in ours if not (DEPLOY / name).is_file()} == set(), file.name


def test_the_key_file_is_one():
    from engine_exporter.api_keys import KeyFile

    (keys,) = [document["data"]["keys.yaml"] for document in documents("kubernetes.yaml") if "data" in document]
    KeyFile.model_validate(yaml.safe_load(keys))


def test_vllms_middleware_is_where_the_examples_say():
    from engine_exporter.vllm_middleware import FleetmeterMiddleware

    path = f"{FleetmeterMiddleware.__module__}.{FleetmeterMiddleware.__qualname__}"
    assert any(f"--middleware={path}" in container.get("args", ()) for _, container in containers())
    assert f"--middleware {path}" in (DEPLOY / "vllm.service").read_text()


def test_the_configuration_is_one():
    (config,) = documents("fleetmeter.yaml")
    assert set(config) == {"collector", "engine_exporter"}
    CollectorConfig.model_validate(config["collector"])
    exporter = ExporterConfig.model_validate(config["engine_exporter"])
    parse_targets(exporter.targets, "targets")
    parse_targets(documents("targets.yaml")[0], "targets.yaml")


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda file: file.name)
def test_a_units_settings_exist_and_systemd_takes_it(unit, tmp_path):
    text = unit.read_text()
    given = dict(
        line.removeprefix("Environment=").split("=", 1) for line in text.splitlines() if line.startswith("Environment=")
    )
    assert any(name.startswith(ENVIRONMENT_PREFIX) for name in given)
    assert from_environment(given)[1] == ()
    if shutil.which("systemd-analyze") is None:
        return  # the settings were checked; systemd's own word needs systemd
    program = (
        next(line for line in text.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=").split()[0]
    )
    copy = tmp_path / unit.name
    copy.write_text(text.replace(program, "/bin/true").replace("User=vllm\n", ""))
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.prometheus
def test_prometheus_takes_the_scrape_configuration():
    ran = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "prometheus.yml")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
