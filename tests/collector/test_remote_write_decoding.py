"""The walker and the protobuf library give the same rows, or the same error, for any remote-write body."""

import math
import struct
import sys
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decode_remote_write import FIRST, SECOND, decode_remote_write
from collector.errors import PermanentError
from collector.points.remote_write import FirstWalker, SecondWalker, decode_write, first_walker
from collector.remote_write_messages import Request, WriteRequest

NOW_US = 1_790_000_000_000_000
NOW_MS = NOW_US // 1000
LARGEST = sys.float_info.max
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

texts = st.sampled_from(["a", "job", "model_name", "le", "vllm:prompt_tokens_total", "0.5", "é"]) | st.text(max_size=12)
labels = st.dictionaries(st.sampled_from(["a", "job", "model_name", "le"]), texts, max_size=4)
names = st.sampled_from(["up", "x_total", "x_bucket", "x_count", "vllm:prompt_tokens_total"])
values = st.floats() | st.just(STALE) | st.integers(-5, 5).map(float)
times = st.integers(NOW_MS - 10, NOW_MS + 10)
odd_times = times | st.sampled_from([0, -1, 2**62, NOW_MS + 10**9])
samples = st.lists(st.tuples(values, times), max_size=4)


@st.composite
def series(draw, sample_times=times):
    own = draw(labels)
    if draw(st.integers(0, 19)):
        own = {"__name__": draw(names), **own}
    return (
        own,
        draw(st.lists(st.tuples(values, sample_times), max_size=4)),
        draw(st.lists(histograms(), max_size=1)) if draw(st.integers(0, 4)) == 0 else [],
        draw(st.lists(st.tuples(labels, values, times), max_size=1)) if draw(st.integers(0, 4)) == 0 else [],
    )


@st.composite
def histograms(draw):
    deltas = draw(st.lists(st.integers(-2, 5), max_size=4))
    zeros = draw(st.integers(0, 3))
    held = max(0, zeros + sum(accumulate(deltas)))
    return {
        "count_int": draw(st.just(held) | st.integers(0, 60) | st.just(2**63)),
        "sum": draw(values),
        "schema": draw(st.integers(-4, 8) | st.sampled_from([-53, 99])),
        "zero_threshold": 0.001,
        "zero_count_int": zeros,
        "positive_spans": [{"offset": draw(st.integers(-3, 5)), "length": len(deltas)}],
        "positive_deltas": deltas,
        "timestamp": draw(times),
    }


def first(all_series):
    request = WriteRequest()
    for own, points, histos, exemplars in all_series:
        message = request.timeseries.add()
        for name, value in own.items():
            message.labels.add(name=name, value=value)
        for value, time in points:
            message.samples.add(value=value, timestamp=time)
        for one in histos:
            message.histograms.add(**one)
        for marks, value, time in exemplars:
            exemplar = message.exemplars.add(value=value, timestamp=time)
            for name, text in marks.items():
                exemplar.labels.add(name=name, value=text)
    return request


def second(all_series, kind=1):
    request = Request(symbols=[""])
    numbers = {"": 0}

    def number(text):
        if text not in numbers:
            numbers[text] = len(numbers)
            request.symbols.append(text)
        return numbers[text]

    for own, points, histos, exemplars in all_series:
        message = request.timeseries.add()
        message.labels_refs.extend(number(text) for pair in own.items() for text in pair)
        for value, time in points:
            message.samples.add(value=value, timestamp=time)
        for one in histos:
            message.histograms.add(**one)
        for marks, value, time in exemplars:
            refs = [number(text) for pair in marks.items() for text in pair]
            message.exemplars.add(value=value, timestamp=time, labels_refs=refs)
        if kind:
            message.metadata.type, message.metadata.help_ref = kind, number("what it says")
    return request


def outcome(decode):
    """Rows by table in an order of their own, the first of each point, or the error."""
    try:
        decoded = decode()
    except PermanentError as error:
        return str(error)
    tables = {}
    for table, rows in decoded.tables.items():
        kept = {}
        for row in rows.to_pylist():
            key = (row.get("series_id"), row.get("observed_at"), row.get("name"))
            kept.setdefault((*key, row["value"]) if table == "metric_exemplars" else key, row)
        tables[table] = sorted(kept.items(), key=repr)
    rejected = sorted((one.reason, one.item) for one in decoded.rejected)
    return tables, rejected, decoded.accepted_count, dict(decoded.written)


def assert_same(body, version):
    fresh = FirstWalker() if version == FIRST else SecondWalker()
    expected = outcome(lambda: decode_remote_write(body, NOW_US, version))
    assert outcome(lambda: decode_write(body, NOW_US, version)) == expected
    walked = fresh.decode(body, NOW_US)
    if walked is not None:
        assert outcome(lambda: walked) == expected
    return walked is not None


@settings(max_examples=150, deadline=None)
@given(st.lists(series(), max_size=5), st.booleans())
def test_both_give_the_same_rows(all_series, is_first):
    request = first(all_series) if is_first else second(all_series)
    assert_same(request.SerializeToString(), FIRST if is_first else SECOND)


@settings(max_examples=100, deadline=None)
@given(st.lists(series(odd_times), min_size=1, max_size=3), st.booleans())
def test_both_refuse_the_same_points(all_series, is_first):
    request = first(all_series) if is_first else second(all_series)
    assert_same(request.SerializeToString(), FIRST if is_first else SECOND)


@settings(max_examples=150, deadline=None)
@given(st.lists(series(), min_size=1, max_size=3), st.booleans(), st.data())
def test_both_judge_damaged_bytes_alike(all_series, is_first, data):
    request = first(all_series) if is_first else second(all_series)
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        how, at = data.draw(st.sampled_from(["flip", "cut", "put", "drop"])), data.draw(st.integers(0, len(body)))
        if how == "cut":
            body = body[:at]
        elif how == "put":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=3))
        elif how == "drop":
            del body[at : at + 1]
        elif at < len(body):
            body[at] ^= 1 << data.draw(st.integers(0, 7))
    assert_same(bytes(body), FIRST if is_first else SECOND)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.booleans())
def test_both_judge_any_bytes_alike(body, is_first):
    assert_same(body, FIRST if is_first else SECOND)


@pytest.mark.parametrize("version", [FIRST, SECOND])
def test_plain_samples_are_walked_and_need_no_reference(version):
    plain = [
        ({"__name__": f"m{number}", "job": "j"}, [(1.0, NOW_MS), (STALE, NOW_MS + 1)], [], []) for number in range(50)
    ]
    body = (first(plain) if version == FIRST else second(plain)).SerializeToString()
    assert assert_same(body, version)


def test_many_series_make_the_cache_grow():
    many = [
        ({"__name__": "grows", "n": str(number), "pad": "x" * 300}, [(1.0, NOW_MS)], [], []) for number in range(9000)
    ]
    assert assert_same(first(many).SerializeToString(), FIRST)
    assert assert_same(second(many).SerializeToString(), SECOND)


def test_a_series_is_described_only_where_the_tables_lack_it():
    body = first([({"__name__": "m", "job": str(number)}, [(1.0, NOW_MS)], [], []) for number in range(3)])
    decoded = first_walker().decode(body.SerializeToString(), NOW_US)
    assert [row["labels"] for row in decoded.tables["metric_series"].to_pylist()] == [[("job", n)] for n in "012"]
    (builder, _) = decoded.series.describe([1])
    assert [dict(zip(builder.names, row, strict=True))["labels"] for row in builder.rows] == [[("job", "1")]]


def test_a_stale_marker_is_a_point_without_a_value_and_nan_is_none():
    body = first([({"__name__": "m"}, [(STALE, NOW_MS), (math.nan, NOW_MS + 1), (math.inf, NOW_MS + 2)], [], [])])
    decoded = decode_write(body.SerializeToString(), NOW_US, FIRST)
    assert decoded.tables["metric_points"]["value"].to_pylist() == [None]
    assert (decoded.written["samples"], decoded.accepted_count) == (1, 3)


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (lambda: second([({"__name__": "m"}, [(1.0, NOW_MS)], [], [])]), FIRST),
        (lambda: first([({"__name__": "m"}, [(1.0, NOW_MS)], [], [])]), SECOND),
        (lambda: second([]), SECOND),
    ],
)
def test_a_body_of_another_version_is_refused(body, version):
    content = body().SerializeToString()
    assert not assert_same(content, version)
    with pytest.raises(PermanentError, match="without series"):
        decode_write(content, NOW_US, version)


def test_an_empty_body_is_no_fault():
    assert decode_write(b"", NOW_US, FIRST).accepted_count == decode_write(b"", NOW_US, SECOND).accepted_count == 0


def native(**fields):
    histogram = {"positive_spans": [{"offset": 0, "length": 1}], "positive_deltas": [2], "timestamp": NOW_MS, **fields}
    body = first([({"__name__": "h"}, [], [histogram], [])]).SerializeToString()
    return decode_write(body, NOW_US, FIRST)


@pytest.mark.parametrize(("sum", "is_good"), [(1.0, False), (math.inf, False), (math.nan, True)])
def test_a_native_histogram_counts_more_than_its_buckets_only_where_its_sum_is_nan(sum, is_good):
    found = native(count_int=3, sum=sum)
    assert len(found.rejected) == (not is_good) and ("metric_histograms" in found.tables) == is_good


@pytest.mark.parametrize(
    ("schema", "index", "bounds", "bucket_counts"),
    [
        (0, 1024, [2.0**1023, LARGEST], [0, 2, 0]),
        (0, 1025, [LARGEST], [0, 2]),
        (-4, 64, [2.0**1008, LARGEST], [0, 2, 0]),
        (-4, 65, [LARGEST], [0, 2]),
        (8, 1024 * 256, [2.0 ** (1024 - 2**-8), LARGEST], [0, 2, 0]),
    ],
)
def test_a_native_bucket_ends_at_the_largest_float_and_one_more_holds_infinity(schema, index, bounds, bucket_counts):
    found = native(count_int=2, sum=1.0, schema=schema, positive_spans=[{"offset": index, "length": 1}])
    (row,) = found.tables["metric_histograms"].to_pylist()
    assert (row["bounds"], row["bucket_counts"]) == (bounds, bucket_counts)


def test_empty_native_buckets_may_lie_anywhere():
    spans = [{"offset": 1, "length": 1}, {"offset": 2000, "length": 1}]
    (row,) = (
        native(count_int=2, sum=1.0, positive_spans=spans, positive_deltas=[2, -2])
        .tables["metric_histograms"]
        .to_pylist()
    )
    assert (row["bounds"], row["bucket_counts"]) == ([1.0, 2.0], [0, 2, 0])


def test_a_native_bucket_behind_the_one_for_infinity_is_rejected():
    (rejected,) = native(count_int=2, sum=1.0, positive_spans=[{"offset": 1026, "length": 1}]).rejected
    assert "lies beyond or between floats" in rejected.reason


def test_a_native_histogram_gets_explicit_bounds():
    histogram = {
        "count_int": 12, "sum": 18.4, "schema": 0, "zero_threshold": 0.001, "zero_count_int": 2,
        "positive_spans": [{"offset": 0, "length": 2}, {"offset": 1, "length": 2}], "positive_deltas": [1, 1, -1, 0],
        "negative_spans": [{"offset": 0, "length": 2}], "negative_deltas": [2, 1],
        "timestamp": NOW_MS,
    }  # fmt: skip
    body = first([({"__name__": "h"}, [], [histogram], [])]).SerializeToString()
    (row,) = decode_write(body, NOW_US, FIRST).tables["metric_histograms"].to_pylist()
    assert row["count"] == 12 and row["sum"] == 18.4
    assert row["bounds"] == [-2.0, -1.0, -0.5, -0.001, 0.001, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert row["bucket_counts"] == [0, 3, 2, 0, 2, 0, 1, 2, 0, 1, 1, 0]


def test_custom_bounds_stay_as_they_are():
    histogram = {
        "count_int": 6, "sum": 1.0, "schema": -53, "custom_values": [0.5, 1.0],
        "positive_spans": [{"offset": 0, "length": 3}], "positive_deltas": [1, 1, 1], "timestamp": NOW_MS,
    }  # fmt: skip
    body = second([({"__name__": "h"}, [], [histogram], [])]).SerializeToString()
    (row,) = decode_write(body, NOW_US, SECOND).tables["metric_histograms"].to_pylist()
    assert (row["bounds"], row["bucket_counts"]) == ([0.5, 1.0], [1, 2, 3])


def test_metadata_describes_families_in_both_versions():
    request = WriteRequest()
    request.metadata.add(type=1, metric_family_name="x_total", help="What x says.", unit="bytes")
    expected = [{"name": "x_total", "kind": "counter", "unit": "bytes", "help": "What x says."}]
    assert decode_write(request.SerializeToString(), NOW_US, FIRST).tables["metric_families"].to_pylist() == expected
    body = second([({"__name__": "y_bucket", "le": "1"}, [(1.0, NOW_MS)], [], [])], kind=3).SerializeToString()
    tables = decode_write(body, NOW_US, SECOND).tables
    assert tables["metric_families"].to_pylist() == [
        {"name": "y", "kind": "histogram", "unit": None, "help": "what it says"}
    ]
    assert tables["metric_series"].to_pylist()[0]["kind"] == "counter"


def test_an_exemplar_leads_to_its_trace():
    exemplar = ({"trace_id": "ab" * 16, "span_id": "cd" * 8, "user": "u"}, 0.7, NOW_MS)
    body = second([({"__name__": "x_total"}, [(1.0, NOW_MS)], [], [exemplar])]).SerializeToString()
    (row,) = decode_write(body, NOW_US, SECOND).tables["metric_exemplars"].to_pylist()
    assert (row["trace_id"], row["span_id"], row["value"], row["labels"]) == (
        "ab" * 16, "cd" * 8, 0.7, [("user", "u")],
    )  # fmt: skip


@pytest.mark.parametrize("part", ["metadata", "exemplars", "histograms"])
def test_a_part_that_is_none_is_judged_by_the_reference(part):
    request = first([({"__name__": "m"}, [(1.0, NOW_MS)], [], [])])
    if part == "metadata":
        body = request.SerializeToString() + b"\x1a\x02\x12\x7f"
    else:
        series = (
            request.timeseries[0].SerializeToString() + (b"\x1a" if part == "exemplars" else b"\x22") + b"\x02\x0a\x7f"
        )
        body = b"\x0a" + bytes([len(series)]) + series
    assert not assert_same(body, FIRST)
