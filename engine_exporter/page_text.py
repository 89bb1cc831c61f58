"""A Prometheus text to lines, by the reference parser: for a sidecar, which reads a few pages a minute."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from engine_exporter.errors import ExporterError
from engine_exporter.normalise import Line

_NAME = re.compile(r"^[a-zA-Z_:][\w:]*", re.MULTILINE)


def read_page(text: str) -> tuple[list[Line], dict[str, str]]:
    """Read a page.

    Returns:
        Its samples, and the kinds that it declares by family.

    Raises:
        ExporterError: it is not in the Prometheus format.
    """
    lines: list[Line] = []
    types: dict[str, str] = {}
    served = set(_NAME.findall(text))
    try:
        for family in text_string_to_metric_families(text):
            types[family.name] = family.type
            for sample in family.samples:
                # The parser gives every counter the ending `_total`; what counts is the name on the page.
                bare = sample.name.removesuffix("_total")
                name = bare if sample.name not in served and bare in served else sample.name
                lines.append(Line(name, sample.labels, float(sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise ExporterError(f"the page is not in the Prometheus format: {error}") from error
    return lines, types
