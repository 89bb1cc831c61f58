"""docs/config.md, from the configuration's models."""

import json
import types
import typing
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from stack.settings import SECTIONS, section_model
from tests.contracts.describe import markdown

INTRODUCTION = """\
One YAML for all parts, named with `--config FILE` or `FLEETMETER_CONFIG`. A value comes from the command line's flag,
else from the environment, else from the YAML, else it is the default. `fleetmeter config check` tells every problem of
a file at once; `fleetmeter config show` prints what holds."""

WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "NoneType": "null",
    "Path": "path",
    "SecretStr": "secret",
}

NO_KEYS = "This section has no keys yet."


def page() -> str:
    return markdown.page("Configuration", INTRODUCTION, *(section(name) for name in SECTIONS))


def section(name: str) -> str:
    model = section_model(name)
    parts = [f"## {name}", first_line(model)]
    rows = list(keys(model, name, f"FLEETMETER__{name.upper()}"))
    parts.append(markdown.table(("key", "type", "default", "environment", "meaning"), rows) if rows else NO_KEYS)
    for item in item_models(model):
        parts += [f"### {item.__name__}", first_line(item)]
        parts.append(
            markdown.table(("key", "type", "default", "meaning"), [(r[0], r[1], r[2], r[4]) for r in keys(item)])
        )
    return "\n\n".join(parts)


def keys(
    model: type[BaseModel], prefix: str = "", variable: str = ""
) -> typing.Iterator[tuple[str, str, str, str, str]]:
    """Describe every key; a section within a section is described by its own keys."""
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, path, f"{variable}__{name.upper()}")
            continue
        environment = markdown.code(f"{variable}__{name.upper()}") if variable else ""
        yield (
            markdown.code(path),
            markdown.code(write_type(inner)),
            default(field),
            environment,
            field.description or "",
        )


def item_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Find the models that stand in lists and maps of this one, in order, each once."""
    found: list[type[BaseModel]] = []
    for field in model.model_fields.values():
        for inner in typing.get_args(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in found:
                found += [inner, *(deeper for deeper in item_models(inner) if deeper not in found)]
    return found


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if field.default_factory is not None:
        value = field.default_factory()  # type: ignore[call-arg]
    if value is PydanticUndefined:
        return "required"
    return markdown.code(json.dumps(plain(value), ensure_ascii=False))


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def write_type(annotation: Any) -> str:
    """Write a type as people say it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return write_type(inner[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(write_type(item) for item in inner)
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin in (tuple, list, set, frozenset):
        return "list of " + write_type(next(item for item in inner if item is not Ellipsis))
    if origin is dict:
        return f"map of {write_type(inner[0])} to {write_type(inner[1])}"
    return WORDS.get(annotation.__name__, annotation.__name__)


def first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
