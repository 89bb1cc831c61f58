"""Which collector a reading command asks without --db and --url."""

from pathlib import Path

import click
import pytest

from collector.options import configured_url, data_options, flag_before_environment
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


def named(monkeypatch, environment, *words):
    """What a command that is given these words opens."""
    opened = []

    @click.command()
    @data_options
    def ask(db, url):
        opened.append(flag_before_environment(db, url))

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ask.main(list(words), standalone_mode=False)
    return opened[0]


def test_a_flag_wins_over_the_other_option_of_the_environment(monkeypatch):
    elsewhere = "http://127.0.0.1:1"
    assert named(monkeypatch, {"FLEETMETER_URL": elsewhere}, "--db", "f.duckdb") == (Path("f.duckdb"), None)
    monkeypatch.delenv("FLEETMETER_URL")
    assert named(monkeypatch, {"FLEETMETER_DB": "f.duckdb"}, "--url", elsewhere) == (None, elsewhere)


def test_two_flags_stay_two(monkeypatch):
    assert named(monkeypatch, {}, "--db", "f", "--url", "http://x") == (Path("f"), "http://x")
