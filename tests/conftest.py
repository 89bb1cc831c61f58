"""What a test may need from the machine: each need is a marker; without it the test is skipped and says why.

With FLEETMETER_CI=1 nothing may be skipped but tests marked `gpu`: the run fails and lists what was skipped.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Properties say what must hold, not how fast: a busy machine makes no example a failure.
settings.register_profile("fleetmeter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fleetmeter")

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = Path("/usr/bin/chromium")
ROTEL = "rotel/rotel/rotel-agent"
SKIPPED = pytest.StashKey[list[tuple[str, str]]]()


def shared_folder() -> Path:
    """The public traces: the folder that FLEETMETER_SHARED names, or `../shared` beside the repository."""
    named = os.environ.get("FLEETMETER_SHARED")
    return Path(named).resolve() if named else ROOT.parent / "shared"


def engine_python() -> Path:
    """The Python that has vLLM: in FLEETMETER_ENGINE_VENV, or in the environment of `make test-engine`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    venv = Path(os.environ.get("FLEETMETER_ENGINE_VENV") or cache / "fleetmeter" / "engine-venv")
    return venv / "bin" / "python"


def clients_folder() -> Path:
    """Clients that are not Python's: in FLEETMETER_CLIENTS, or where `make test-clients` puts them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("FLEETMETER_CLIENTS") or cache / "fleetmeter" / "clients")


def absent_needs() -> dict[str, str]:
    """For every marker whose need this machine does not have: what is missing and where it was looked for."""
    absent = {}
    if not (shared_folder() / "data").is_dir():
        absent["shared"] = f"no public traces at {shared_folder()}/data; FLEETMETER_SHARED names them"
    if not CHROMIUM.is_file():
        absent["chromium"] = f"no browser at {CHROMIUM}; apt-get install chromium"
    if not shutil.which("promtool"):
        absent["prometheus"] = "promtool is not on the PATH; apt-get install prometheus"
    if not (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        absent["alertmanager"] = "no Alertmanager on the PATH; apt-get install prometheus-alertmanager"
    if not engine_python().is_file():
        absent["engine"] = f"no vLLM at {engine_python().parent.parent}; `make test-engine` installs it"
    if not (shutil.which("node") and (clients_folder() / "javascript" / "node_modules").is_dir()):
        absent["javascript"] = f"no Node.js with an SDK at {clients_folder()}; `make test-clients` installs it"
    if not (clients_folder() / ROTEL).is_file():
        absent["rotel"] = f"no rotel at {clients_folder()}; `make test-clients` installs it"
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        absent["gpu"] = "no NVIDIA GPU"
    return absent


def pytest_configure(config):
    config.stash[SKIPPED] = []


def pytest_collection_modifyitems(items):
    for marker, reason in absent_needs().items():
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public traces and references; skips the test where it is absent."""
    folder = shared_folder()
    if not (folder / "data").is_dir():
        pytest.skip(absent_needs()["shared"])
    return folder


@pytest.fixture
def javascript_sdk() -> Path:
    """The folder with the modules of OpenTelemetry's SDK of JavaScript."""
    return clients_folder() / "javascript"


@pytest.fixture
def rotel() -> Path:
    """The program of rotel."""
    return clients_folder() / ROTEL


@dataclass(frozen=True)
class Ran:
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys) -> Callable[..., Ran]:
    """Run `fleetmeter` with some words in this process, e.g. cli("query", "--db", file, "SELECT 1")."""
    import fleetmeter

    def run(*words: object) -> Ran:
        capsys.readouterr()
        code = fleetmeter.run(fleetmeter.cli, [str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def free_ports():
    """Six free ports in a row, for a whole stack."""
    from stack.ports import Ports, taken_of

    first = 24000 + os.getpid() % 500 * 10
    return next(ports for ports in map(Ports.counted_from, range(first, 60000, 10)) if not taken_of(ports))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("gpu"):
        item.config.stash[SKIPPED].append((item.nodeid, reason_of(report)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.skipped:
        collector.config.stash[SKIPPED].append((collector.nodeid, reason_of(report)))
    return report


def reason_of(report) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def nothing_may_be_skipped() -> bool:
    return os.environ.get("FLEETMETER_CI") == "1"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    if nothing_may_be_skipped() and session.config.stash[SKIPPED] and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    if nothing_may_be_skipped() and config.stash[SKIPPED]:
        terminalreporter.section("skipped, and FLEETMETER_CI=1 forbids it", red=True, bold=True)
        for nodeid, reason in config.stash[SKIPPED]:
            terminalreporter.line(f"{nodeid}: {reason}")
