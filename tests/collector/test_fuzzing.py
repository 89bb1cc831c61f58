"""libFuzzer, led by the branches that the reference takes, finds no bytes that the decoders read otherwise."""

import subprocess
import sys

import pytest

SECONDS, SEED = 4, 20_261


def test_a_short_run_of_the_fuzzer_finds_no_difference():
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 only")
    command = (sys.executable, "-m", "bench", "fuzz_traces", "--engine", "atheris")
    ran = subprocess.run(
        (*command, "--seconds", str(SECONDS), "--seed", str(SEED)), capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    assert ran.stderr.count("\tNEW ") > 20, "without coverage it only guesses"
