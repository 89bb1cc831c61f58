import contextlib
from pathlib import Path

import pytest

from collector.client import HttpClient
from collector.testing import running_collector


@pytest.fixture(scope="package")
def collector(tmp_path_factory):
    """One real collector for all tests that only send and ask; each uses ids or names of its own."""
    with running_collector(tmp_path_factory.mktemp("collector")) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def client(collector):
    with contextlib.closing(HttpClient(collector.api)) as client:
        yield client


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return tmp_path / "data"
