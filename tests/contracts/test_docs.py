"""The generated pages of docs/ say what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_generated_pages_are_current():
    """When this fails, run: python -m tests.contracts.generate_docs"""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.contracts.generate_docs", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
