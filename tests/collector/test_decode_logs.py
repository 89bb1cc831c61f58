"""Log records become rows that lead to their traces, and carry nothing that people wrote."""

import json
import time

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.decode_logs import decode_logs
from collector.errors import PermanentError
from collector.testing import key_values

NOW_US = 1_790_000_000_000_000
AT_NS = NOW_US * 1000


def body_of(*records, resource=None, scope="vllm.engine"):
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.extend(key_values(resource or {}))
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = scope
    for record in records:
        scope_logs.log_records.add(**record)
    return request.SerializeToString()


def record(text="Engine ready", attributes=None, **fields):
    own = {"time_unix_nano": AT_NS, "body": {"string_value": text}, "attributes": key_values(attributes or {})}
    return {**own, **fields}


def rows(*records, **fields):
    return decode_logs(body_of(*records, **fields), NOW_US).tables["logs"].to_pylist()


def test_a_record_keeps_what_it_says_and_where():
    (row,) = rows(
        record(
            severity_number=17, trace_id=b"\1" * 16, span_id=b"\2" * 8, attributes={"code.function": "step"},
        ),
        resource={"service.name": "vllm", "infer.replica": "r0"},
    )  # fmt: skip
    assert (row["severity"], row["body"], row["scope"]) == ("error", "Engine ready", "vllm.engine")
    assert (row["trace_id"], row["span_id"]) == ("01" * 16, "02" * 8)
    assert (row["service"], row["replica"]) == ("vllm", "r0")
    assert dict(row["attributes"]) == {"service.name": "vllm", "infer.replica": "r0", "code.function": "step"}


def test_one_record_has_one_hash_and_another_another():
    again = {row["log_hash"] for row in rows(record("a"), record("a"), record("b"), record("a", severity_number=9))}
    assert len(again) == 3


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"severity_number": 1}, "trace"), ({"severity_number": 13}, "warn"), ({"severity_number": 24}, "fatal"),
        ({"severity_text": "WARNING"}, "warn"), ({"severity_text": "loud"}, None), ({}, None),
    ],
)  # fmt: skip
def test_a_severity_has_six_names(fields, severity):
    assert rows(record(**fields))[0]["severity"] == severity


SECRET = "my cat is called Tom"


@pytest.mark.parametrize(
    "said",
    [
        record(SECRET, event_name="gen_ai.user.message"),
        record(SECRET, attributes={"event.name": "gen_ai.choice"}),
        record(f"Received request cmpl-1: prompt: '{SECRET}', params: SamplingParams(n=1)"),
        record(body={"kvlist_value": {"values": key_values({"id": 1, "content": SECRET})}}),
        record("ok", attributes={"gen_ai.prompt.0.content": SECRET}),
        record("ok", attributes={"content": SECRET}),
        record("ok", attributes={"prompt": SECRET}),
        record("ok", attributes={"x": {"Content": SECRET}, "log.original": f"prompt: {SECRET}"}),
        record(json.dumps({"prompt": SECRET})),
        record(json.dumps({"body": json.dumps({"prompt": SECRET})})),
        record(str({"prompt": SECRET})),
        record(json.dumps({"messages": [{"content": SECRET}]})),
        record(json.dumps({"role": "user", "content": SECRET})),
        record(json.dumps({"choices": [{"text": SECRET}]})),
        record(f"Receive: obj=GenerateReqInput(rid='1f', text='{SECRET}', stream=False)"),
        record(f"Receive: obj=GenerateReqInput(rid='1f', text=['{SECRET}'], stream=False)"),
        record(f"Receive: obj=GenerateReqInput(input_ids=[1, 2], x='{SECRET}')"),
        record(f"Finish: obj=GenerateReqInput(rid='1f'), out={{'text': '{SECRET}'}}"),
        record(f"system_prompt = {SECRET}"),
        *(
            record(body={"kvlist_value": {"values": key_values({key: [SECRET]})}})
            for key in ("Prompt", "prompts", "text", "parts", "response", "system_prompt", "gen_ai.prompt", "input_ids")
        ),
    ],
)
def test_what_people_wrote_is_not_stored(said):
    assert SECRET not in repr(rows(said))


def test_the_rest_of_such_a_record_is():
    (row,) = rows(record(f"Received request cmpl-1: prompt: '{SECRET}'"))
    assert row["body"] == "Received request cmpl-1: prompt: [not stored]"
    (row,) = rows(record(body={"kvlist_value": {"values": key_values({"id": 1, "content": SECRET})}}))
    assert row["body"] == '{"id": 1}'


@pytest.mark.parametrize(
    "text",
    [
        "Avg prompt throughput: 3.1 tokens/s, Avg generation throughput: 9.5 tokens/s, Running: 1 reqs",
        '{"usage": {"prompt_tokens": 5, "completion_tokens": 7}, "status": 200}',
        "response: 200, message: connection refused, content-type: text/plain, context=long",
    ],
)
def test_lines_that_announce_no_content_stay_whole(text):
    assert rows(record(text, attributes={"note": text}))[0]["body"] == text
    assert dict(rows(record("", attributes={"note": text}))[0]["attributes"]) == {"note": text}


@pytest.mark.parametrize("text", ["a" * 200_000, "prompt " * 30_000, "prompt" + " " * 200_000, "text=" * 40_000])
def test_a_long_line_is_read_once(text):
    started = time.process_time()
    rows(record(text))
    rows(record(body={"kvlist_value": {"values": key_values({text: 1})}}))
    assert time.process_time() - started < 2


def test_an_absurd_time_rejects_its_record_alone():
    found = decode_logs(body_of(record(), record(time_unix_nano=5)), NOW_US)
    assert (found.accepted_count, len(found.rejected)) == (1, 1)


def test_a_record_without_a_time_was_written_when_it_was_seen():
    seen = record(time_unix_nano=0, observed_time_unix_nano=AT_NS - 5_000_000)
    assert [row["logged_at"].microsecond for row in rows(seen, record(time_unix_nano=0))] == [995000, 0]


def test_garbage_is_refused():
    with pytest.raises(PermanentError, match="ExportLogsServiceRequest"):
        decode_logs(b"garbage", NOW_US)
