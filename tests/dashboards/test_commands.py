"""The command `fleetmeter dash` and its doors."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import dashboards
import fleetmeter

FOLDER = Path(dashboards.__file__).parent


def dash(*arguments: str) -> int:
    return fleetmeter.run(fleetmeter.cli, ["dash", "--headless", *arguments])


def test_a_port_in_use_is_told_before_anything_is_served(capsys, fleet_db):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert dash("--db", str(fleet_db), "--port", str(port)) == 2
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused(capsys, fleet_db):
    assert dash("--db", str(fleet_db), "--host", "203.0.113.7", "--port", "0") == 2
    assert "--host" in capsys.readouterr().err


def test_a_file_and_an_address_exclude_each_other(capsys, tmp_path):
    assert dash("--db", str(tmp_path / "a"), "--url", "http://127.0.0.1:1") == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_file_that_is_absent_is_told(capsys, tmp_path):
    assert dash("--db", str(tmp_path / "absent.duckdb")) == 2
    assert "no database at" in capsys.readouterr().err


def test_help_loads_neither_streamlit_nor_polars():
    code = "import sys, dashboards.commands; print(sorted({'streamlit', 'polars', 'duckdb'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.py")), ids=lambda file: str(file.relative_to(FOLDER)))
def test_no_module_holds_sql_or_shadows_another(file):
    text = file.read_text().upper()
    assert "SELECT *" not in text and " FROM REQUESTS" not in text
    if file.parent == FOLDER:
        taken = {"alerts", "analytics", "collector", "engine_exporter", "stack", "streamlit", "polars", "duckdb"}
        assert file.stem not in taken | set(sys.stdlib_module_names)
