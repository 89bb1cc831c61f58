"""Inside an engine the configuration is the environment's, and nothing wrong in it stops the engine."""

from engine_exporter.config import from_environment

PREFIX = "FLEETMETER__ENGINE_EXPORTER__"


def test_values_come_from_the_environment():
    config, problems = from_environment(
        {
            f"{PREFIX}OTLP_ENDPOINT": "http://collector:4318",
            f"{PREFIX}QUEUE_LIMIT_SPANS": "100",
            f"{PREFIX}TARGETS": '["http://a/metrics"]',
            f"{PREFIX}GPU": "false",
            "FLEETMETER_API_KEYS": "/etc/keys.yaml",
            "FLEETMETER__COLLECTOR__HOST": "not ours",
            "OTHER": "x",
        }
    )
    assert problems == ()
    assert config.otlp_endpoint == "http://collector:4318"
    assert (config.queue_limit_spans, config.targets, config.gpu) == (100, ("http://a/metrics",), False)
    assert str(config.api_keys_file) == "/etc/keys.yaml"


def test_the_long_name_of_the_key_file_wins():
    environ = {f"{PREFIX}API_KEYS_FILE": "/long.yaml", "FLEETMETER_API_KEYS": "/short.yaml"}
    assert str(from_environment(environ)[0].api_keys_file) == "/long.yaml"


def test_what_does_not_fit_falls_back_and_is_told():
    config, problems = from_environment(
        {
            f"{PREFIX}QUEUE_LIMIT_SPANS": "many",
            f"{PREFIX}QUEUE_LIMITS": "1",
            f"{PREFIX}LABELS": "{oops",
            f"{PREFIX}REPLICA": "chat-0",
        }
    )
    assert config.replica == "chat-0"
    assert config.queue_limit_spans == 8192
    assert len(problems) == 3
    assert all(problem.startswith(PREFIX) for problem in problems)


def test_secrets_do_not_show():
    config, _ = from_environment({f"{PREFIX}OTLP_TOKEN": "hush", f"{PREFIX}HASH_SALT": "pepper"})
    assert "hush" not in repr(config) and "pepper" not in repr(config)
