"""What is read of a request's body, JSON or form, small or large, however it is cut; and that nothing more is kept."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_exporter import semconv
from engine_exporter.large_body import MEMBER_LIMIT_BYTES, MemberScanner
from engine_exporter.request_body import BODY_LIMIT_BYTES, Asked, BodyReader, FormReader, asked_of, reader_for
from engine_exporter.testing import FakeVllm, Reply, exporter_for_tests, post
from engine_exporter.vllm_middleware import FleetmeterMiddleware

WANTED = {"model", "n", "metadata", "stream"}
TEXT = st.text(st.sampled_from('a"\\{}[],:é\n '), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["model", "n", "metadata", "stream", "messages", 'say "model": ', 'a\\"'])


def in_parts(raw, cuts):
    for cut in cuts:
        yield raw[:cut]
        raw = raw[cut:]
    yield raw


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=7), st.lists(st.integers(1, 9)), st.sampled_from([None, 1]))
def test_the_wanted_members_are_those_that_a_parser_finds_however_the_body_is_cut(body, cuts, indent):
    scanner = MemberScanner(WANTED)
    for part in in_parts(json.dumps(body, indent=indent, ensure_ascii=bool(indent)).encode(), cuts):
        scanner.add(part)
    assert scanner.members() == {name: value for name, value in body.items() if name in WANTED}


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(st.sampled_from('"model:,{}[]\\ 1'), max_size=60).map(str.encode)))
def test_what_is_no_json_does_no_harm(raw):
    scanner = MemberScanner(WANTED)
    scanner.add(raw)
    scanner.members()


def test_of_a_member_that_comes_twice_the_last_counts_as_in_a_parser():
    scanner = MemberScanner(WANTED)
    scanner.add(b'{"model": "first", "model": "last", "\\u006e": 2}')
    assert scanner.members() == {"model": "last", "n": 2}


def test_a_member_that_never_ends_is_not_kept():
    scanner = MemberScanner(WANTED)
    scanner.add(b'{"metadata": {"a": "')
    for _ in range(10):
        scanner.add(b"x" * MEMBER_LIMIT_BYTES)
    scanner.add(b'"}, "n": 3}')
    assert scanner.members() == {"n": 3}


LARGE = {
    "model": "base",
    "messages": [{"role": "user", "content": 'say "model": "trick" \\ \n' * 20_000}],
    "stream": True,
    "n": 2,
    "user": "ann",
    "metadata": {"team": "red", "app": "rag"},
}


def test_a_large_body_says_all_that_a_small_one_says():
    raw = json.dumps(LARGE).encode()
    assert len(raw) > 2 * BODY_LIMIT_BYTES
    reader = BodyReader()
    for at in range(0, len(raw), 65_536):
        reader.add(raw[at : at + 65_536])
    assert reader.read() == asked_of(LARGE)
    assert asked_of(LARGE).metadata == {"team": "red", "app": "rag"}


def served(reply=None, **config):
    bench = exporter_for_tests(**config)
    engine = FakeVllm(bench, reply or Reply())
    return bench, engine, FleetmeterMiddleware(engine, bench.exporter)


@pytest.mark.parametrize("first", [True, False], ids=["metadata first", "metadata last"])
def test_the_costliest_request_is_charged_to_the_team_of_its_metadata_too(first):
    body = LARGE if not first else {"metadata": LARGE["metadata"], **LARGE}
    bench, _, app = served(Reply(sequences=2), body_team="metadata.team")
    asyncio.run(post(app, body=body))
    assert (bench.row[semconv.TEAM], bench.row[semconv.CHOICES]) == ("red", 2)


BOUNDARY = b"----cut1234"


def form(*fields, audio=b"RIFF\r\n--\r\n\x00" * 50):
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"'
    lines = [head % (BOUNDARY, name) + b"\r\n\r\n%b\r\n" % value for name, value in fields]
    file = head % (BOUNDARY, b"file") + b'; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n%b\r\n' % audio
    lines.insert(1, file)
    return b"".join(lines) + b"--%b--\r\n" % BOUNDARY


def read(raw, cuts=()):
    reader = FormReader(BOUNDARY)
    for part in in_parts(raw, cuts):
        reader.add(part)
    return reader.read()


@given(st.lists(st.integers(1, 60)))
def test_a_form_says_its_model_and_whether_it_is_streamed_however_it_is_cut(cuts):
    raw = form((b"language", b"en"), (b"model", b"base"), (b"stream", b"true"), (b"user", b"ann"))
    assert read(raw, cuts) == Asked(model="base", stream=True, user="ann")


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (form((b"model", b"base"), (b"stream", b"false")), Asked(model="base", stream=False)),
        (form((b"model", b"base"), (b"model", b"other")), Asked(model="other", stream=False)),
        (form((b"model", b"x" * 5000)), Asked(stream=False)),
        (form((b"model", b"")), Asked(stream=False)),
        (form((b"language", b"en"), (b"model", b"base"))[:-30], Asked(stream=False)),
        (b"", Asked(stream=False)),
        (b"--" + BOUNDARY + b"x" * 20_000 + form((b"model", b"base")), Asked(stream=False)),
        (form()[:-4] + b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nlate', Asked(stream=False)),
    ],
)
def test_a_form_that_is_odd_says_what_it_can(raw, asked):
    assert read(raw) == asked


@given(st.binary(max_size=300), st.lists(st.integers(1, 60)))
def test_no_bytes_of_a_form_do_harm(raw, cuts):
    assert read(raw.replace(b"~", b"\r\n--" + BOUNDARY), cuts).stream in (True, False)


def test_nothing_of_a_large_file_is_kept():
    reader = FormReader(BOUNDARY)
    reader.add(form()[:200])
    for _ in range(100):
        reader.add(b"x" * 65_536)
    assert len(reader._rest or b"") < 200


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, BodyReader),
        (b"application/json", BodyReader),
        (b"multipart/form-data", BodyReader),
        (b"multipart/form-data; boundary=" + BOUNDARY, FormReader),
        (b'Multipart/Form-Data; charset=utf-8; boundary="' + BOUNDARY + b'"', FormReader),
        (b"multipart/form-data; boundary=" + b"x" * 5000, BodyReader),
    ],
)
def test_the_content_type_says_how_a_body_is_read(content_type, kind):
    assert type(reader_for(content_type)) is kind


class Whisper(FakeVllm):
    """The double as it transcribes: the form says whether it streams, and its answer what it is."""

    def _parse(self, body):
        return {}

    async def _answer(self, asked, states, send):
        async def typed(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}
            await send(message)

        await super()._answer({"stream": True}, states, typed)


def transcribed(reply, wrapped=True):
    bench = exporter_for_tests()
    engine = Whisper(bench, reply)
    app = FleetmeterMiddleware(engine, bench.exporter) if wrapped else engine
    raw = form((b"model", b"alias"), (b"stream", b"true"))
    headers = {"content-type": "multipart/form-data; boundary=" + BOUNDARY.decode()}
    answer = asyncio.run(post(app, "/v1/audio/transcriptions", raw, headers))
    return answer, bench


def test_a_streamed_transcription_is_timed_on_the_wire_and_says_its_model():
    reply = Reply(chunks=4, first_seconds=0.5, gap_seconds=0.1)
    answer, bench = transcribed(reply)
    assert answer == transcribed(reply, wrapped=False)[0]
    row = bench.row
    assert (row[semconv.STREAM], row[semconv.REQUEST_MODEL], row[semconv.MODEL_ASKED]) == (True, "base", "alias")
    assert row[semconv.TTFT] == pytest.approx(0.5) and row[semconv.MAX_GAP] == pytest.approx(0.1)


def test_an_error_in_a_streamed_transcription_is_seen():
    error = {"error": {"code": 500, "type": "InternalServerError"}}
    _, bench = transcribed(Reply(error=error, error_after=2))
    assert (bench.row[semconv.OUTCOME], bench.row[semconv.ERROR_TYPE]) == ("error", "InternalServerError")


def test_what_the_answer_is_says_that_it_is_a_stream_where_the_form_does_not():
    bench = exporter_for_tests()
    app = FleetmeterMiddleware(Whisper(bench, Reply()), bench.exporter)
    asyncio.run(post(app, "/v1/audio/transcriptions", b"{}"))
    assert bench.row[semconv.STREAM] is True and semconv.MAX_GAP in bench.row
