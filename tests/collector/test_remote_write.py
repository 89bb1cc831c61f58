"""The remote-write door: what it takes, what it answers, and that what it has taken is there."""

import contextlib
import itertools
import threading

import cramjam
import httpx
import pytest

from collector.client import HttpClient
from collector.remote_write_messages import Request, WriteRequest
from collector.testing import running_collector

NOW_MS = 1_790_000_000_000
FIRST_TYPE = "application/x-protobuf"
SECOND_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


def first_body(*series, at_ms=NOW_MS):
    request = WriteRequest()
    for labels, value in series:
        message = request.timeseries.add()
        for name, text in labels.items():
            message.labels.add(name=name, value=text)
        message.samples.add(value=value, timestamp=at_ms)
    return request.SerializeToString()


def second_body(*series):
    symbols, request = [""], Request()
    for labels, value in series:
        message = request.timeseries.add()
        for text in (part for pair in labels.items() for part in pair):
            symbols.append(text)
            message.labels_refs.append(len(symbols) - 1)
        message.samples.add(value=value, timestamp=NOW_MS)
    request.symbols.extend(symbols)
    return request.SerializeToString()


def send(collector, body, kind=FIRST_TYPE, encoding="snappy", method="POST"):
    content = bytes(cramjam.snappy.compress_raw(body)) if encoding == "snappy" else body
    headers = {"Content-Type": kind, "Content-Encoding": encoding}
    return httpx.request(method, f"{collector.api}/api/v1/write", content=content, headers=headers)


def values_of(replica):
    return (
        "SELECT list(value ORDER BY value) FROM metric_points JOIN metric_series USING (series_id) "
        f"WHERE replica = '{replica}'"
    )


@pytest.mark.parametrize(("make", "kind"), [(first_body, FIRST_TYPE), (second_body, SECOND_TYPE)])
def test_samples_of_both_versions_land_once_however_often_they_come(collector, make, kind):
    replica = f"write-{make.__name__}"
    body = make(*(({"__name__": "rw_total", "n": str(n), "replica": replica}, float(n)) for n in range(3)))
    for _ in range(3):
        answer = send(collector, body, kind)
        assert answer.status_code == 204 and answer.content == b""
        assert answer.headers["x-prometheus-remote-write-samples-written"] == "3"
        assert answer.headers["x-prometheus-remote-write-histograms-written"] == "0"
        assert answer.headers["x-prometheus-remote-write-exemplars-written"] == "0"
    collector.wait_until(values_of(replica), [0.0, 1.0, 2.0])
    send(collector, make(({"__name__": "rw_total", "n": "9", "replica": replica}, 9.0)), kind)
    collector.wait_until(values_of(replica), [0.0, 1.0, 2.0, 9.0])


def test_a_bad_series_is_named_and_the_others_are_kept(collector):
    good = {"__name__": "kept", "replica": "write-partial"}
    answer = send(collector, first_body(({"replica": "write-partial"}, 1.0), (good, 2.0)))
    assert answer.status_code == 400 and "without __name__" in answer.text
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "1"
    collector.wait_until(values_of("write-partial"), [2.0])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"kind": "application/json"}, 415),
        ({"kind": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, 415),
        ({"encoding": "gzip"}, 415),
        ({"method": "PUT"}, 405),
        ({"body": b"\x0a\xff"}, 400),
        ({"kind": SECOND_TYPE, "body": first_body(({"__name__": "x"}, 1.0))}, 400),
        ({"kind": FIRST_TYPE, "body": second_body(({"__name__": "x"}, 1.0))}, 400),
        ({"encoding": "snappy", "raw": b"not snappy"}, 400),
        ({"encoding": "snappy", "raw": b"\xff\xff\xff\xff\x0f" + b"x" * 20}, 400),
    ],
)
def test_what_is_wrong_for_good_is_a_4xx(collector, change, status):
    change = dict(change)
    if (raw := change.pop("raw", None)) is not None:
        headers = {"Content-Type": FIRST_TYPE, "Content-Encoding": "snappy"}
        answer = httpx.post(f"{collector.api}/api/v1/write", content=raw, headers=headers)
        assert answer.status_code in (status, 413)
    else:
        answer = send(collector, change.pop("body", first_body()), **change)
        assert answer.status_code == status
    assert answer.text and answer.headers["x-prometheus-remote-write-samples-written"] == "0"


@pytest.mark.parametrize("separator", ["; proto=", ";proto = ", '; Proto="'])
def test_the_version_is_read_with_spaces_and_quotes_around_it(collector, separator):
    quote = '"' if separator.endswith('"') else ""
    kind = f"application/x-protobuf{separator}io.prometheus.write.v2.Request{quote}"
    body = second_body(({"__name__": "spaced", "replica": f"write{len(separator)}"}, 1.0))
    answer = send(collector, body, kind)
    assert (answer.status_code, answer.headers["x-prometheus-remote-write-samples-written"]) == (204, "1")


def test_samples_that_are_no_points_are_not_told_as_written(collector):
    answer = send(collector, first_body(({"__name__": "x"}, float("nan")), ({"__name__": "y"}, 1.0)))
    assert (answer.status_code, answer.headers["x-prometheus-remote-write-samples-written"]) == (204, "1")


def test_a_stale_marker_ends_a_series_without_a_value(collector):
    request = WriteRequest()
    series = request.timeseries.add()
    for name, text in {"__name__": "ends", "replica": "write-stale"}.items():
        series.labels.add(name=name, value=text)
    series.samples.add(value=1.0, timestamp=NOW_MS)
    series.samples.add(value=2.0, timestamp=NOW_MS + 1)
    body = request.SerializeToString().replace(
        b"\x09\x00\x00\x00\x00\x00\x00\x00\x40", b"\x09\x02\x00\x00\x00\x00\x00\xf0\x7f"
    )
    assert send(collector, body).status_code == 204
    collector.wait_until(
        "SELECT list(value IS NULL ORDER BY observed_at) FROM metric_points JOIN metric_series USING (series_id) "
        "WHERE replica = 'write-stale'",
        [False, True],
    )


def test_killed_under_load_every_acknowledged_sample_is_there_once(data_dir):
    acknowledged, numbers, lock = set(), itertools.count(), threading.Lock()

    def sender(address):
        with httpx.Client(timeout=10) as client:
            while True:
                with lock:
                    number = next(numbers)
                series = [({"__name__": "killed", "n": str(one), "replica": "k"}, float(number)) for one in range(50)]
                body = first_body(*series, at_ms=NOW_MS + number)
                try:
                    answer = client.post(
                        f"{address}/api/v1/write",
                        content=bytes(cramjam.snappy.compress_raw(body)),
                        headers={"Content-Type": FIRST_TYPE, "Content-Encoding": "snappy"},
                    )
                except httpx.HTTPError:
                    return
                if answer.status_code == 204:
                    acknowledged.add(number)

    for _ in range(3):
        goal = len(acknowledged) + 60
        with running_collector(data_dir) as collector:
            threads = [threading.Thread(target=sender, args=(collector.api,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            while len(acknowledged) < goal and any(thread.is_alive() for thread in threads):
                threads[0].join(0.002)
            collector.kill()
            for thread in threads:
                thread.join()
    with running_collector(data_dir) as collector:
        collector.wait_ready()
        sql = (
            "SELECT value::BIGINT AS number, count(*) AS points, count(DISTINCT series_id) AS series, "
            "bool_and(epoch_ms(observed_at) = $now + value) AS in_time FROM metric_points "
            "JOIN metric_series USING (series_id) WHERE name = 'killed' GROUP BY ALL"
        )
        collector.wait_until("SELECT count(*) % 50 FROM metric_points", 0)
        with contextlib.closing(HttpClient(collector.api)) as client:
            rows = client.query(sql, {"now": NOW_MS}).to_pylist()
    assert acknowledged <= {row["number"] for row in rows}
    assert all((row["points"], row["series"], row["in_time"]) == (50, 50, True) for row in rows)
