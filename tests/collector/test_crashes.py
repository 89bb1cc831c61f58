"""kill -9 under load: what was acknowledged is there afterwards, once."""

import itertools
import threading

import httpx
import pytest

from collector.testing import CollectorProcess, dead_letters, running_collector, span_message, traces_body

PROTOBUF = {"Content-Type": "application/x-protobuf"}
BATCH = 40


class Load:
    """Senders that post numbered batches, and remember which were acknowledged."""

    def __init__(self, senders: int) -> None:
        self.acknowledged: set[int] = set()
        self.sent: set[int] = set()
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._senders = senders
        self._lock = threading.Lock()

    def run_against(self, collector: CollectorProcess, acknowledgements: int) -> None:
        """Send until so many more batches are acknowledged, then kill the collector while others are under way."""
        self._stop.clear()
        goal = len(self.acknowledged) + acknowledgements
        threads = [threading.Thread(target=self._send, args=(collector.otlp_http,)) for _ in range(self._senders)]
        for thread in threads:
            thread.start()
        while len(self.acknowledged) < goal and any(thread.is_alive() for thread in threads):
            self._stop.wait(0.002)
        collector.kill()
        self._stop.set()
        for thread in threads:
            thread.join()

    def _send(self, address: str) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                with self._lock:
                    number = next(self._numbers)
                    self.sent.add(number)
                first = number * BATCH
                body = traces_body(
                    *(span_message(first + one, {"infer.request.outcome": "ok"}) for one in range(BATCH))
                )
                try:
                    response = client.post(address + "/v1/traces", content=body, headers=PROTOBUF)
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    with self._lock:
                        self.acknowledged.add(number)


@pytest.mark.slow
def test_killed_again_and_again_under_load_nothing_acknowledged_is_lost_and_nothing_is_doubled(data_dir):
    load = Load(senders=4)
    for kill, acknowledgements in enumerate((1, 30, 75, 120)):
        collector = CollectorProcess(data_dir, environment={"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "0.05"})
        collector.start()
        load.run_against(collector, acknowledgements)
        assert len(load.acknowledged) >= acknowledgements, f"kill {kill}"
    with running_collector(data_dir) as collector:
        collector.wait_ready()
        batches = collector.value(
            f"SELECT list(DISTINCT (('0x' || span_id)::BIGINT // {BATCH})::INTEGER) FROM requests"
        )
        rows = collector.value("SELECT count(*) FROM requests")
        keys = collector.value("SELECT count(*) FROM (SELECT DISTINCT trace_id, span_id FROM requests)")
    found = set(batches)
    assert load.acknowledged <= found, "acknowledged and lost"
    assert found <= load.sent
    assert rows == keys == len(found) * BATCH, "doubled, or a batch landed in part"


def test_killed_before_landing_the_spool_brings_the_rows_back(data_dir):
    collector = CollectorProcess(data_dir, environment={"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "600"}).start()
    body = traces_body(span_message(1), span_message(2, trace_id=b"bad"))
    assert httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=PROTOBUF, timeout=60).status_code == 200
    assert collector.value("SELECT count(*) FROM spans") == 0
    collector.kill()
    for _ in range(2):
        with running_collector(data_dir) as collector:
            collector.wait_ready()
            assert collector.value("SELECT count(*) FROM spans") == 1
    letters = dead_letters(data_dir)
    assert len(letters) == 1, "a replay writes the same dead letter, not a second one"


def test_a_large_plain_body_is_spooled_compressed_and_comes_back(data_dir):
    lines = 2000
    page = "".join(f'vllm:num_requests_running{{engine="{number}"}} {number}\n' for number in range(lines))
    query = {"target": "chat-0", "observed_at": "2026-11-01T00:00:00Z"}
    with running_collector(data_dir, FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS="60") as collector:
        httpx.post(collector.api + "/api/v1/scrapes", params=query, content=page, timeout=60).raise_for_status()
        collector.kill()
    (segment,) = (data_dir / "spool").glob("*.spool")
    assert segment.stat().st_size < len(page) / 3
    with running_collector(data_dir) as collector:
        collector.wait_until("SELECT count(*) FROM metric_points", lines + 1)  # and `up`


def test_a_torn_tail_is_cut_and_the_rest_lands(data_dir):
    collector = CollectorProcess(data_dir, environment={"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "600"}).start()
    for number in (1, 2):
        body = traces_body(span_message(number))
        httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=PROTOBUF, timeout=60)
    collector.kill()
    (segment,) = (data_dir / "spool").glob("*.spool")
    segment.write_bytes(segment.read_bytes()[:-1])
    with running_collector(data_dir) as collector:
        collector.wait_ready()
        assert collector.value("SELECT list(span_id) FROM spans") == [f"{1:016x}"]
        assert any("spool_tail_cut" in line for line in collector.lines)


def test_a_record_that_only_the_database_refuses_goes_to_the_dead_letters_and_stops_nothing(data_dir):
    collector = CollectorProcess(data_dir, environment={"FLEETMETER__COLLECTOR__LANDING_LINGER_SECONDS": "600"}).start()
    for number in (1, 2, 3):
        body = traces_body(span_message(number))
        httpx.post(collector.otlp_http + "/v1/traces", content=body, headers=PROTOBUF, timeout=60)
    collector.kill()
    spoil_second_record(data_dir)
    with running_collector(data_dir) as collector:
        collector.wait_ready()
        assert collector.value("SELECT list(span_id ORDER BY span_id) FROM spans") == [f"{1:016x}", f"{3:016x}"]
        assert collector.metric('fleetmeter_dead_letters_total{kind="mystery"}') == 1


def spoil_second_record(data_dir):
    """Write the second record as a later version might: of a kind that this one does not know."""
    from dataclasses import replace

    from collector.spool_records import MAGIC, decode_records, encode_record

    (segment,) = (data_dir / "spool").glob("*.spool")
    records = [record for record, _ in decode_records(segment.read_bytes())]
    records[1] = replace(records[1], kind="mystery")
    segment.write_bytes(MAGIC + b"".join(encode_record(record) for record in records))
