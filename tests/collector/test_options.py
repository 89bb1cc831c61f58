"""Which collector a reading command asks without --db and --url."""

import click
import pytest

from collector.options import configured_url
from stack.settings import Settings


def url_with(settings):
    with click.Context(click.Command("query"), obj=settings):
        return configured_url()


@pytest.mark.parametrize(
    ("yaml", "url"),
    [
        ("collector: {api_port: 9320}", "http://127.0.0.1:9320"),
        ("collector: {host: 0.0.0.0, api_port: 9320}", "http://127.0.0.1:9320"),
        ('collector: {host: "::1"}', "http://[::1]:8320"),
        ("alerts: {port: 1}", "http://127.0.0.1:8320"),
    ],
)
def test_the_default_is_the_collector_of_the_configuration(tmp_path, yaml, url):
    (tmp_path / "fleet.yaml").write_text(yaml)
    assert url_with(Settings(tmp_path / "fleet.yaml")) == url


def test_the_environment_configures_it_too(monkeypatch):
    assert url_with(Settings()) == "http://127.0.0.1:8320"
    monkeypatch.setenv("FLEETMETER__COLLECTOR__API_PORT", "9321")
    assert url_with(Settings()) == "http://127.0.0.1:9321"
