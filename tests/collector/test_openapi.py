"""Whatever is sent to what the API describes about itself, no answer is a 500, and it goes on."""

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

BACKPRESSURE = 503
"""Full or stopping: an answer that the description has, not a fault."""


@schemathesis.serializer("application/vnd.apache.arrow.stream", "application/x-protobuf")
def as_it_is(_context, value):
    """Bytes that are described as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def statuses_of(operation):
    """Send what fits the description of an operation, and what just does not; return the statuses of the answers."""
    statuses = set()

    @given(case=operation.as_strategy())
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def send(case):
        answer = case.call()
        statuses.add(answer.status_code)
        if answer.status_code != BACKPRESSURE:
            case.validate_response(answer, checks=[not_a_server_error])

    send()
    return statuses


def test_no_input_is_a_server_error(collector):
    described = schemathesis.openapi.from_url(f"{collector.api}/openapi.json")
    seen = {operation.label: statuses_of(operation) for operation in (o.ok() for o in described.get_all_operations())}
    assert {"POST /api/v1/sql", "POST /v1/traces", "POST /api/v1/write", "GET /readyz"} <= set(seen)
    assert seen["GET /readyz"] == {200}
    assert 400 in seen["POST /api/v1/sql"]
    assert httpx.get(f"{collector.api}/healthz").status_code == 200
