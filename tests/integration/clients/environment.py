"""Install clients that are not Python's: OpenTelemetry's SDK of JavaScript, and rotel, a collector in Rust.

They lie in FLEETMETER_CLIENTS, default `${XDG_CACHE_HOME:-~/.cache}/fleetmeter/clients`. Running this again does what
is missing and no more. Needs npm (Node.js 18.19 or later) and pip.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROTEL = "0.0.1a15"


def clients_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("FLEETMETER_CLIENTS") or cache / "fleetmeter" / "clients")


def javascript_sdk() -> Path:
    return clients_folder() / "javascript"


def rotel() -> Path:
    return clients_folder() / "rotel" / "rotel" / "rotel-agent"


def install_javascript() -> None:
    """The modules that `package.json` names; its copy in the folder says for which one they are there."""
    wanted, there = HERE / "package.json", javascript_sdk() / "package.json"
    if there.is_file() and there.read_text() == wanted.read_text():
        return
    shutil.rmtree(javascript_sdk(), ignore_errors=True)
    javascript_sdk().mkdir(parents=True)
    asked = javascript_sdk() / "asked"
    asked.mkdir()
    shutil.copy(wanted, asked)
    command = ["npm", "install", "--prefix", str(asked), "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, check=True)
    (asked / "node_modules").rename(javascript_sdk() / "node_modules")
    shutil.copy(wanted, there)
    shutil.rmtree(asked)


def install_rotel() -> None:
    if rotel().is_file():
        return
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps",
         "--target", str(clients_folder() / "rotel"), f"rotel=={ROTEL}"],
        check=True,
    )  # fmt: skip


if __name__ == "__main__":
    install_javascript()
    install_rotel()
    print(f"clients: ready at {clients_folder()}", file=sys.stderr)
