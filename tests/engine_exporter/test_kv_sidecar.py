"""KV-cache events through the sidecar, and the team in them."""

import time

import msgspec
import pytest
import zmq

from engine_exporter.api_keys import ApiKeys, add_key
from engine_exporter.config import ExporterConfig
from engine_exporter.endpoints import ENDPOINTS
from engine_exporter.errors import ExporterError
from engine_exporter.http_half import HttpHalf
from engine_exporter.kv_events import KvListener
from engine_exporter.request_headers import header_rules, take_headers
from engine_exporter.sidecar import Sidecar
from engine_exporter.sidecar_loop import listen, make


def half():
    return HttpHalf(ENDPOINTS["/v1/completions"], "a" * 32, 1, 1, 0.0, 0)


def headers_of(config, tmp_path):
    add_key(tmp_path / "keys.yaml", "sk-search", "search")
    sent = [(b"authorization", b"Bearer sk-search"), (b"x-session-id", b"agents"), (b"accept", b"*/*")]
    keys = ApiKeys(tmp_path / "keys.yaml")
    return dict(take_headers({"headers": sent}, half(), header_rules(config), keys, None))


def test_the_session_says_the_team_where_it_is_wanted(tmp_path):
    assert headers_of(ExporterConfig(kv_team_session=True), tmp_path)[b"x-session-id"] == b"search"


def test_the_session_is_the_clients_own_where_it_is_not(tmp_path):
    assert headers_of(ExporterConfig(), tmp_path)[b"x-session-id"] == b"agents"


def test_a_client_without_a_team_can_not_name_one(tmp_path):
    sent = [(b"x-session-id", b"agents")]
    rules = header_rules(ExporterConfig(kv_team_session=True))
    assert b"x-session-id" not in dict(take_headers({"headers": sent}, half(), rules, ApiKeys(None), None))


def test_the_sidecar_sends_what_the_events_add_up_to():
    bodies = []
    kv = KvListener(("tcp://127.0.0.1:*",))
    config = ExporterConfig(labels={"replica": "chat-0"})
    sidecar = make(config, None, kv)
    sidecar.send = lambda url, body, token: bodies.append((url, body))
    context = zmq.Context()
    publisher = context.socket(zmq.PUB)
    event = {"type": "BlockStored", "block_hashes": [b"a"], "token_ids": [1], "block_size": 32, "session_id": "search"}
    try:
        publisher.connect(kv.addresses[0])
        deadline, sequence = time.monotonic() + 60, 0
        while not kv.events.heard and time.monotonic() < deadline:
            batch = msgspec.msgpack.encode([time.time(), [event], 0])
            publisher.send_multipart([b"", sequence.to_bytes(8, "big"), batch])
            sequence += 1
            time.sleep(0.02)
        done = sidecar.round()
    finally:
        publisher.close(linger=0)
        context.destroy(linger=0)
        kv.close()
        sidecar.close()
    assert done.points_count >= 10
    assert len(bodies) == 1


def test_without_addresses_nobody_listens():
    assert listen(ExporterConfig()) is None
    assert isinstance(make(ExporterConfig(), None), Sidecar)


def test_of_two_addresses_the_wrong_one_is_told_and_the_other_let_go():
    with pytest.raises(ExporterError, match="can't connect to 'nonsense'"):
        KvListener(("tcp://127.0.0.1:*", "nonsense"))
