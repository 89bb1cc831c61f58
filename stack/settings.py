"""One YAML, one section a package: read once, checked whole, handed to each part as its own frozen model.

Precedence: command-line flag, then environment (`FLEETMETER__COLLECTOR__HTTP_PORT=…`), then YAML, then default.
Parts never import this module; they are handed a `Settings` as `ctx.obj` and ask for their section.
"""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stack.errors import ConfigurationError

SECTIONS = {
    "engine_exporter": "engine_exporter.config:ExporterConfig",
    "collector": "collector.config:CollectorConfig",
    "analytics": "analytics.config:AnalyticsConfig",
    "alerts": "alerts.config:AlertsConfig",
    "dashboards": "dashboards.config:DashboardsConfig",
}


def section_model(name: str) -> type[BaseModel]:
    """Import the configuration model of one section."""
    module, _, attribute = SECTIONS[name].partition(":")
    model: type[BaseModel] = getattr(importlib.import_module(module), attribute)
    return model


class Settings:
    """The configuration of this run: where it came from and what it says."""

    def __init__(self, file: str | Path | None = None) -> None:
        self.file = file
        self._config: BaseModel | None = None

    def section(self, name: str, **flags: Any) -> Any:
        """Return one section as its frozen model, with the flags that are not None laid over it.

        Raises:
            ConfigurationError: a file is missing or not YAML, a key is unknown or a value does not fit.
        """
        section: BaseModel = getattr(self.whole(), name)
        given = {key: value for key, value in flags.items() if value is not None}
        if not given:
            return section
        try:
            return type(section).model_validate({**section.model_dump(), **given})
        except ValidationError as error:
            raise ConfigurationError(explain(error, type(section), "the command line")) from error

    def whole(self) -> BaseModel:
        """Return all sections, validated together so that every problem is told at once."""
        if self._config is None:
            self._config = load(self.file)
        return self._config


def load(file: str | Path | None) -> BaseModel:
    """Read the YAML and the environment into one frozen model.

    Raises:
        ConfigurationError: with every problem, each with its key path and the nearest known key.
    """
    import yaml
    from pydantic import create_model
    from pydantic_settings import (
        BaseSettings,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
        YamlConfigSettingsSource,
    )

    if file is not None and not Path(file).is_file():
        raise ConfigurationError(f"no configuration file at {file}; name an existing YAML with --config")

    class Sources(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix="FLEETMETER__", env_nested_delimiter="__", extra="forbid", frozen=True
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            if file is None:
                return (env_settings,)
            return env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=Path(file))

    fields: dict[str, Any] = {}
    for name in SECTIONS:
        model = section_model(name)
        fields[name] = (model, model())
    whole = create_model("FleetmeterConfig", __base__=Sources, **fields)
    try:
        return whole()
    except ValidationError as error:
        raise ConfigurationError(explain(error, whole, str(file or "the environment"))) from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file or 'the environment'} is not a YAML mapping of sections: {error}") from error


def explain(error: ValidationError, model: type[BaseModel], origin: str) -> str:
    """Tell every problem on a line of its own: key path, what is wrong, nearest known key."""
    lines = [f"{origin} has {error.error_count()} problem{'s' if error.error_count() > 1 else ''}:"]
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        hint = ""
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], known_keys(model, path[:-1]), n=1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known_keys(model, path[:-1]))}"
            )
            lines.append(f"  {'.'.join(path)}: unknown key{hint}")
        else:
            lines.append(f"  {'.'.join(path) or '(top)'}: {problem['msg']} (got {problem['input']!r})")
    return "\n".join(lines)


def known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Name the keys that the model at a key path takes."""
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        current = field.annotation if field is not None else None
    return sorted(getattr(current, "model_fields", {}))
