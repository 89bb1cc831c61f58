"""With FLEETMETER_CI=1 a skipped test fails the run and is listed, unless it needs a GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SKIPPED = "import pytest\ndef test_it():\n    pytest.skip('no reason at all')\n"
WHOLE_FILE = "import pytest\npytest.skip('not here', allow_module_level=True)\n"
GPU = "import pytest\n@pytest.mark.gpu\ndef test_it():\n    pytest.skip('no gpu')\n"
SHARED = "def test_it(shared):\n    pass\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it():\n    assert False\n"
INI = "[pytest]\nmarkers =\n    gpu: x\n    shared: x\n"


def run(folder: Path, content: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_x.py").write_text(content)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEETMETER_")}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder))
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment | kept)


@pytest.mark.parametrize(("content", "reason"), [(SKIPPED, "no reason at all"), (WHOLE_FILE, "not here")])
def test_a_skip_fails_the_run_and_is_listed(tmp_path, content, reason):
    ran = run(tmp_path, "def test_fine(): pass\n", FLEETMETER_CI="1")
    assert ran.returncode == 0, ran.stdout
    ran = run(tmp_path, content, FLEETMETER_CI="1")
    assert ran.returncode != 0
    assert "test_x.py" in ran.stdout and reason in ran.stdout and "FLEETMETER_CI=1 forbids it" in ran.stdout


def test_absent_public_traces_are_a_skip_with_the_reason(tmp_path):
    ran = run(tmp_path, SHARED, FLEETMETER_SHARED=str(tmp_path / "nowhere"), FLEETMETER_CI="1")
    assert ran.returncode == 1
    assert "no public traces at" in ran.stdout and "FLEETMETER_SHARED" in ran.stdout


@pytest.mark.parametrize("content", [GPU, EXPECTED_FAILURE], ids=["gpu", "expected failure"])
def test_what_may_be_missing_fails_nothing(tmp_path, content):
    assert run(tmp_path, content, FLEETMETER_CI="1").returncode == 0


def test_without_ci_a_skip_is_a_skip(tmp_path):
    ran = run(tmp_path, SKIPPED)
    assert ran.returncode == 0 and "1 skipped" in ran.stdout
