"""A small seeded fleet in a data file, served to the pages of this process."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import reads
from dashboards.config import DashboardsConfig
from dashboards.serving import Serving, serve_with
from tests.dashboards.synthetic import write_fleet


@pytest.fixture(scope="session")
def fleet_db(tmp_path_factory) -> Path:
    """Nine days of three models on six replicas; one of them slow for the last 50 minutes."""
    file = tmp_path_factory.mktemp("fleet") / "fleet.duckdb"
    write_fleet(file, datetime.now(UTC).replace(tzinfo=None), hours=9 * 24, per_minute=3)
    return file


@pytest.fixture
def serve():
    """Serve a configuration to the pages, and forget it and every read after the test."""

    def start(**options) -> None:
        serve_with(Serving(DashboardsConfig(**{"alerts_url": "http://127.0.0.1:9", **options})))

    yield start
    if reads.current().db and reads.current().db.is_file():
        reads.client(reads.source()).close()
    st.cache_data.clear()
    st.cache_resource.clear()
    serve_with(Serving())


@pytest.fixture
def run(serve):
    """Run one page as a browser would ask for it."""

    def start(address: str, parameters: dict[str, str] | None = None, **options) -> AppTest:
        serve(**options)
        app = AppTest.from_string(f"from dashboards.routes import board\nboard({address!r})()", default_timeout=60)
        for name, value in (parameters or {}).items():
            app.query_params[name] = value
        return app.run()

    return start
