"""A real vLLM server on this machine's CPUs, measured by the exporter: started, asked for its metrics, stopped."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from environment import engine_venv, models_of
from load import ADAPTERS, MODEL

START_SECONDS = 300
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_LOGGING_LEVEL": "INFO",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until_up(url: str, process: subprocess.Popen, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} did not come up; the end of its log:\n" + log.read_text()[-3000:])
        time.sleep(0.25)


def stop(process: subprocess.Popen, seconds: float = 30) -> None:
    """Ask the process to end; then end what is left of its session."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen
    log: Path

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as response:
            return response.read().decode()


@contextmanager
def vllm_server(
    folder: Path,
    *,
    otlp_endpoint: str,
    api_keys_file: Path,
    api_keys: list[str],
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    native_spans: bool = True,
    adapters: bool = True,
    measured: bool = True,
) -> Iterator[Server]:
    """Run vLLM with the middleware and the plugin; `folder` takes its log and is its working folder.

    `measured=False` leaves out both: the plugin is installed, but `VLLM_PLUGINS` names another.
    """
    venv, port = engine_venv(), free_port()
    models = models_of(venv)
    command = [
        str(venv / "bin" / "vllm"), "serve", str(models / MODEL), "--served-model-name", MODEL,
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--enforce-eager",
        "--enable-prefix-caching", "--block-size", "32", "--num-gpu-blocks-override", "120", "--max-num-seqs", "6",
        "--enable-prompt-tokens-details", "--api-key", *api_keys, *arguments,
    ]  # fmt: skip
    if adapters:
        command += ["--enable-lora", "--max-loras", "2", "--max-lora-rank", "8", "--lora-modules"]
        command += [f"{name}={models / name}" for name in ADAPTERS]
    if measured:
        command += ["--middleware", "engine_exporter.vllm_middleware.FleetmeterMiddleware"]
    if native_spans:
        command += ["--otlp-traces-endpoint", f"{otlp_endpoint}/v1/traces"]
    variables = {
        "PATH": f"{venv / 'bin'}:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        **QUIET,
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "vllm",
        "FLEETMETER__ENGINE_EXPORTER__OTLP_ENDPOINT": otlp_endpoint,
        "FLEETMETER__ENGINE_EXPORTER__REPLICA": "tiny-qwen3-0",
        "FLEETMETER__ENGINE_EXPORTER__DEPLOYMENT": "tiny-qwen3",
        "FLEETMETER__ENGINE_EXPORTER__CLUSTER": "lab",
        "FLEETMETER__ENGINE_EXPORTER__REGION": "local",
        "FLEETMETER__ENGINE_EXPORTER__GPU_TYPE": "cpu",
        "FLEETMETER_API_KEYS": str(api_keys_file),
        **({} if measured else {"VLLM_PLUGINS": "none"}),
        **(environment or {}),
    }
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(f"{url}/health", process, START_SECONDS, log)
        yield Server(url, process, log)
    finally:
        stop(process)


@dataclass(frozen=True)
class Collector:
    otlp_endpoint: str
    url: str
    process: subprocess.Popen
    log: Path

    def check(self) -> None:
        """Say why, where it has ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the collector ended with {self.process.returncode}:\n" + self.log.read_text()[-3000:])


@contextmanager
def collector(folder: Path, otlp_http_port: int = 0) -> Iterator[Collector]:
    """Run `fleetmeter collect` on a fresh database in `folder`, on free ports; it tells them in its log."""
    log = folder / "collector.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "fleetmeter", "collect", "--data-dir", str(folder / "data"),
                "--otlp-http-port", str(otlp_http_port), "--otlp-grpc-port", "0", "--api-port", "0",
            ],
            cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        api, otlp_http = told_addresses(log, process)
        wait_until_up(f"{api}/readyz", process, 180, log)
        yield Collector(otlp_http, api, process, log)
    finally:
        stop(process)


def told_addresses(log: Path, process: subprocess.Popen, seconds: float = 60) -> tuple[str, str]:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"listening api=(\S+) otlp_http=(\S+)", log.read_text()):
            return found.group(1), found.group(2)
        time.sleep(0.1)
    raise RuntimeError("the collector did not come up; the end of its log:\n" + log.read_text()[-3000:])
